"""What a cut costs FlashVSR by length of its lead: full-size nets, random weights, several seeds.

    python -m benchmarks.flashvsr.lead [--device cuda:0] [--size 768x1408] [--seeds 3]

The engine's own streams in bfloat16: one over all frames, and one for each lead that begins as many
steps of 8 frames before the cut. PSNR of the frames behind the cut against the uncut stream, in dB,
over all of them / of the worst one, before any encoder. Random weights forget otherwise than
trained ones, so these figures say that streams meet again and not how soon the real ones do: that
is `longtake seams` with the real weights. Writes a Markdown table to stdout; paste it with machine
and date into the lab log.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from longtake.core.media import Clip, Pixels
from longtake.engines._color_fix import adain
from longtake.engines._flashvsr_frames import Front, Window
from longtake.engines._flashvsr_memory import slice_tokens
from longtake.engines._flashvsr_schedule import AHEAD, FRAMES, STEP
from longtake.engines._flashvsr_stream import Draw, Model, SmallDecoding
from longtake.engines._flashvsr_tiles import tiles
from longtake.engines._noise import noise
from longtake.engines._parts import Parts
from longtake.engines.flashvsr import plugin
from longtake.media.color import luma_weights
from longtake.nets.flashvsr import backends
from longtake.nets.flashvsr.block import DiTConfig
from longtake.nets.flashvsr.decoder import DecoderConfig, TCDecoder, fused
from longtake.nets.flashvsr.dit import DiT, Settings
from longtake.nets.flashvsr.projector import Projector, ProjectorConfig
from longtake.nets.flashvsr.state import KVState
from longtake.nets.wan.causal import arrange
from longtake.runtime import sample
from longtake.runtime.seams import (
    BEHIND,
    BOUND,
    HISTORY,
    LEADS,
    WINDOWS,
    Row,
    compared,
    enough,
    likeness,
)

CONFIG = DiTConfig()
DTYPE = torch.bfloat16
TEXT_TOKENS = 512
SCALE = 4
SEAM = HISTORY * FRAMES  # frame at which the streams are cut
LONGEST = 170  # s; no seed is begun that would not end before


def model_of(size: tuple[int, int], attention: str, device: torch.device, seed: int) -> Model:
    """The engine's model with random nets of the official sizes. `size` is (width, height) px,
    multiples of 128."""
    width, height = size
    torch.manual_seed(seed)
    dit: DiT = drawn(lambda: DiT(CONFIG), device)
    text = torch.randn(1, TEXT_TOKENS, CONFIG.text_dim, dtype=DTYPE, device=device)
    with torch.inference_mode():
        constants = dit.prepare(text)
    dit.release()
    projector = drawn(lambda: Projector(ProjectorConfig(variant="causal")), device)
    decoder = fused(drawn(lambda: TCDecoder(DecoderConfig()), device))
    for net in (projector, decoder):
        arrange(net)

    def draw(window: Window) -> Draw:
        first = window.start // STEP
        return lambda latents: noise(
            seed, range(first + latents.start, first + latents.stop), CONFIG.channels,
            range(height // 8), range(width // 8), device,
        ).to(DTYPE)  # fmt: skip

    return Model(
        parts=Parts({"projector": projector, "dit": dit, "decoder": decoder}),
        constants=constants,
        settings=Settings(
            topk_ratio=2 * 768 * 1280 / (height * width), attend=backends.BACKENDS[attention],
            slice_tokens=slice_tokens(height * width // 128**2),
        ),
        kv=partial(
            KVState, layers=CONFIG.layers, windows=height * width // 128**2, dim=CONFIG.dim,
            dtype=DTYPE, device=device,
        ),
        decoding=SmallDecoding, noise=draw,
        enlarge=Front(size=size, device=str(device), dtype=DTYPE, official=False), fix=adain,
        dtype=DTYPE, size=size, bits=8, tiles=tiles(size, 0),
    )  # fmt: skip


def drawn(build: Callable[[], nn.Module], device: torch.device) -> Any:
    """The net with random weights that keep values near 1, as a net before its training."""
    with torch.device("meta"):
        net = build().to(DTYPE)
    net = net.to_empty(device=device).eval()
    for name, weight in net.named_parameters():
        if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
            weight.data.fill_(1)
        elif name.endswith("modulation"):
            weight.data.normal_(std=weight.shape[-1] ** -0.5)
        elif weight.ndim > 1:
            weight.data.normal_(std=weight[0].numel() ** -0.5)
        else:
            weight.data.zero_()
    return net


def rows_of(model: Model, film: Sequence[Pixels]) -> Iterator[Row]:
    """What each lead gives, against the stream over the whole film."""
    whole = np.concatenate([clip.pixels for clip in behind(model, film, 0)])
    for lead in LEADS:
        errors = compared(behind(model, film, SEAM - lead * FRAMES), whole, luma_weights(1))
        length = plugin.grid({"lead": lead}).segment_frames
        yield Row(
            lead=lead, frames=lead * FRAMES, segment_frames=length, work=lead * FRAMES / length,
            likeness=likeness(errors),
        )  # fmt: skip


def behind(model: Model, film: Sequence[Pixels], start: int) -> Iterator[Clip]:
    """Frames behind the cut, of a stream that begins with frame `start`."""
    clips = (Clip(pixels=film[i][None], start=i) for i in range(start, len(film)))
    for clip in model.upscale(clips):
        kept = clip.within(SEAM, SEAM + BEHIND)
        if len(kept.pixels):
            yield kept
        if clip.stop >= SEAM + BEHIND:
            return


def cells(seed: int, row: Row) -> Iterator[str]:
    yield from (str(seed), str(row.lead), str(row.frames), f"{row.work:.1%}")
    for likes in (
        [(x.luma, x.luma_worst) for x in row.likeness],
        [(x.rgb, x.rgb_worst) for x in row.likeness],
    ):
        yield from (
            "identical" if a is None or b is None else f"{a:.1f} / {b:.1f}" for a, b in likes
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--size", default="768x1408", help="HxW, px of the output")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--attention", default="flex", choices=backends.BACKENDS)
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: nothing to measure")
        return
    height, width = map(int, given.size.split("x"))
    film = list(sample.pictures((width // SCALE, height // SCALE), SEAM + BEHIND + AHEAD))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {given.size}, bfloat16, {given.attention}, "
          f"random weights, cut at frame {SEAM}\n")  # fmt: skip
    windows = [f"{kind} {n}" for kind in ("luma", "RGB") for n in WINDOWS]
    print(f"| seed | lead | frames | work | {' | '.join(windows)} |")
    print("|---" * (4 + len(windows)) + "|", flush=True)
    found: dict[int, int | None] = {}
    began = time.monotonic()
    for seed in range(given.seeds):
        if seed and (time.monotonic() - began) * (seed + 1) / seed > LONGEST:
            print(f"\nno time for seeds {seed}:{given.seeds}")
            break
        model, rows = model_of((width, height), given.attention, device, seed), []
        for row in rows_of(model, film):
            rows.append(row)
            print(f"| {' | '.join(cells(seed, row))} |", flush=True)
        found[seed] = enough(rows, BOUND)
        del model
    told = ", ".join(f"seed {seed}: {'none' if n is None else n}" for seed, n in found.items())
    print(f"\nsmallest lead from which on no frame lies below {BOUND:g} dB: {told}; "
          f"{time.monotonic() - began:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
