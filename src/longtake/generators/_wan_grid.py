"""Frames and px of a film of Wan 2.1, and those of its latents. No torch here."""

from __future__ import annotations

from typing import Final

from longtake.core.errors import Usage

STEP: Final = 4
"""Frames of a latent; the first frame of a film is a latent of its own."""
CELL: Final = 8
"""Frame px of a latent px."""
PATCH: Final = 2
"""Latent px of a token."""
CHANNELS: Final = 16
"""Of a latent."""


def latent_frames(frames: int) -> int:
    """Latents of a film of so many frames. Raises Usage where there is no such film."""
    if frames < 1 or (frames - 1) % STEP:
        below = max(frames - 1, 0) // STEP * STEP + 1
        raise Usage(
            f"frames={frames}: Wan makes 1 frame and then {STEP} at a time; take {below} or "
            f"{below + STEP}."
        )
    return 1 + (frames - 1) // STEP


def frames_of(latents: int) -> int:
    """Frames that so many latents stand for."""
    return 1 + STEP * (latents - 1)


def latent_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) px -> (width, height) latent px. Raises Usage for sides that are no whole
    tokens."""
    token = CELL * PATCH
    if any(side < token or side % token for side in size):
        near = " x ".join(str(max(round(side / token), 1) * token) for side in size)
        raise Usage(
            f"size={size[0]}x{size[1]}: both sides must be multiples of {token} px; {near} is near."
        )
    return size[0] // CELL, size[1] // CELL
