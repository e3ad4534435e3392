"""Is it getting better? PSNR on scikit-image's stills, which are never trained on, against bicubic
interpolation.

The figures that count come from benchmarks/quality; these are the quick ones to watch a run by.

    python -m training.lite.evaluate run/checkpoint.pt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from longtake.nets.lite import Lite, LiteConfig
from training.lite.checkpoint import read_checkpoint
from training.lite.network import trainable

STILLS = ("astronaut", "chelsea", "coffee", "rocket", "immunohistochemistry")


def still(name: str, multiple: int) -> Tensor:
    """A picture of scikit-image as [1, 3, H, W] in [0, 1], cut to a multiple of px."""
    from skimage import data

    pixels = torch.from_numpy(getattr(data, name)()[..., :3].copy())
    height, width = (side // multiple * multiple for side in pixels.shape[:2])
    return pixels[:height, :width].permute(2, 0, 1)[None].float() / 255


def reduced(picture: Tensor, scale: int) -> Tensor:
    """Antialiased bicubic reduction, rounded to 8 bits."""
    size = (picture.shape[-2] // scale, picture.shape[-1] // scale)
    small = F.interpolate(picture, size=size, mode="bicubic", antialias=True, align_corners=False)
    return (small.clamp(0, 1) * 255).round() / 255


def psnr(first: Tensor, second: Tensor) -> float:
    return float(-10 * (first - second).square().mean().clamp(min=1e-10).log10())


@torch.no_grad()
def gains(net: Lite, scale: int) -> dict[str, float]:
    """dB of PSNR (RGB) over bicubic for each still."""
    device = net.enter.weight.device
    gained: dict[str, float] = {}
    for name in STILLS:
        large = still(name, 24).to(device)
        small = reduced(large, scale)
        bicubic = F.interpolate(
            small, size=large.shape[-2:], mode="bicubic", align_corners=False
        ).clamp(0, 1)
        gained[name] = psnr(net.enlarge(small, scale).clamp(0, 1), large) - psnr(bicubic, large)
    return gained


def described(gained: dict[str, float]) -> str:
    mean = sum(gained.values()) / len(gained)
    return (
        f"{mean:+.2f} dB ("
        + ", ".join(f"{name} {gain:+.2f}" for name, gain in gained.items())
        + ")"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    state = read_checkpoint(parser.parse_args().checkpoint)
    net = trainable(LiteConfig(**state["config"]))
    net.load_state_dict(state["average"])
    for scale in net.config.scales:
        print(f"x{scale}: {described(gains(net, scale))} over bicubic")


if __name__ == "__main__":
    main()
