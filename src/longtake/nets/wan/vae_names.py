"""Where the parameters of Wan's VAE lie in a file of the diffusers library (AutoencoderKLWan).

Only names differ. Source: https://github.com/huggingface/diffusers,
src/diffusers/models/autoencoders/autoencoder_kl_wan.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from longtake.nets.names import Names
from longtake.nets.wan.vae import VaeConfig

_RESIDUAL: Final = {
    "residual.0.gamma": "norm1.gamma",
    "residual.2.weight": "conv1.weight",
    "residual.2.bias": "conv1.bias",
    "residual.3.gamma": "norm2.gamma",
    "residual.6.weight": "conv2.weight",
    "residual.6.bias": "conv2.bias",
}
_SHORTCUT: Final = {f"shortcut.{kind}": f"conv_shortcut.{kind}" for kind in ("weight", "bias")}
_ATTENTION: Final = ("norm.gamma", "to_qkv.weight", "to_qkv.bias", "proj.weight", "proj.bias")
Pair = tuple[str, str]


def names(config: VaeConfig) -> Names:
    """Ours -> theirs."""
    pairs = [*_affine("conv2", "post_quant_conv"), *_decoder(config)]
    if config.encoder:
        pairs += [*_affine("conv1", "quant_conv"), *_encoder(config)]
    return {ours: (theirs,) for ours, theirs in pairs}


def only_encodes(key: str) -> bool:
    """Whether a tensor of such a file is for encoding alone."""
    return key.startswith(("encoder.", "quant_conv."))


def _encoder(config: VaeConfig) -> Iterator[Pair]:
    """Their list of layers is as flat as ours."""
    yield from _ends("encoder")
    number, enter = 0, config.widths[0]
    for level, width in enumerate(config.widths):
        for _ in range(config.blocks):
            at = f"encoder.downsamples.{number}", f"encoder.down_blocks.{number}"
            yield from _residual(*at, enter != width)
            number, enter = number + 1, width
        if level < len(config.over_time):
            at = f"encoder.downsamples.{number}", f"encoder.down_blocks.{number}"
            yield from _resample(*at, config.over_time[level])
            number += 1


def _decoder(config: VaeConfig) -> Iterator[Pair]:
    """They put the layers of a level into a block."""
    yield from _ends("decoder")
    widths, over_time = config.widths[::-1], config.over_time[::-1]
    number, enter = 0, float(widths[0])
    for level, width in enumerate(widths):
        for part in range(config.blocks + 1):
            at = f"decoder.up_blocks.{level}.resnets.{part}"
            yield from _residual(f"decoder.upsamples.{number}", at, enter != width)
            number, enter = number + 1, width
        if level < len(over_time):
            at = f"decoder.up_blocks.{level}.upsamplers.0"
            yield from _resample(f"decoder.upsamples.{number}", at, over_time[level])
            number, enter = number + 1, width / 2


def _ends(half: str) -> Iterator[Pair]:
    """First and last layers, and the middle."""
    yield from _affine(f"{half}.conv1", f"{half}.conv_in")
    yield from _residual(f"{half}.middle.0", f"{half}.mid_block.resnets.0", False)
    for part in _ATTENTION:
        yield f"{half}.middle.1.{part}", f"{half}.mid_block.attentions.0.{part}"
    yield from _residual(f"{half}.middle.2", f"{half}.mid_block.resnets.1", False)
    yield f"{half}.head.0.gamma", f"{half}.norm_out.gamma"
    yield from _affine(f"{half}.head.2", f"{half}.conv_out")


def _residual(ours: str, theirs: str, widens: bool) -> Iterator[Pair]:
    for mine, other in (_RESIDUAL | _SHORTCUT if widens else _RESIDUAL).items():
        yield f"{ours}.{mine}", f"{theirs}.{other}"


def _resample(ours: str, theirs: str, over_time: bool) -> Iterator[Pair]:
    yield from _affine(f"{ours}.resample.1", f"{theirs}.resample.1")
    if over_time:
        yield from _affine(f"{ours}.time_conv", f"{theirs}.time_conv")


def _affine(ours: str, theirs: str) -> Iterator[Pair]:
    for kind in ("weight", "bias"):
        yield f"{ours}.{kind}", f"{theirs}.{kind}"
