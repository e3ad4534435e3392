"""The VAE of Wan 2.1: 4 x 8 x 8 px (time, height, width) to one latent of 16 channels and back.

    frames  [B, 3, H, W] in [-1, 1]                  H and W multiples of 8
    latents [B, 16, H / 8, W / 8], normalised by `mean` and `std`

Everything is causal, so it runs frame by frame: the first frame is a latent of its own, then four
frames make one, and back. The state of a stream is a `History` outside the net; a fresh `{}` begins
a clip. A frame goes through the whole net before the next one starts (depth first), so one frame's
activations live at a time, whatever the length of the clip. Beside them stands the history: for
each causal convolution its last two input frames. With e bytes a value and m = H * W, the decoder
keeps

    e * m * (7 * 2 * 96 + (6 * 2 * 192) / 4 + (6 * 2 * 384 - 2 * 192 + 2 * 384) / 16
             + (10 * 2 * 384 + 2 * 384 + 2 * 16) / 64)

and the encoder, at most,

    e * m * (2 * 3 + 4 * 2 * 96 + (2 * 96 + 3 * 2 * 192) / 4
             + (2 * 192 + 2 * 192 + 3 * 2 * 384) / 16 + (2 * 384 + 9 * 2 * 384) / 64)

Names of parameters are those of `Wan2.1_VAE.pth`; vae_names.py knows those of another library.
Source: https://github.com/Wan-Video/Wan2.1, wan/modules/vae.py; https://arxiv.org/abs/2503.20314.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from longtake.nets.wan.causal import CausalConv3d, Chain, ChannelNorm, History, convolve

MEAN = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
        0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921)  # fmt: skip
STD = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
       3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeConfig:
    """Sizes of the net; the defaults are Wan 2.1's."""

    base: int = 96
    """Channels at full resolution."""
    widths: tuple[int, ...] = (1, 2, 4, 4)
    """Channels per level, from full to lowest resolution, in units of `base`."""
    over_time: tuple[bool, ...] = (False, True, True)
    """Which of the steps between levels also halve the time."""
    blocks: int = 2
    """Residual blocks per level of the encoder; the decoder has one more."""
    mean: tuple[float, ...] = MEAN
    """Of each latent channel."""
    std: tuple[float, ...] = STD
    encoder: bool = True
    """False: `encoder` and `conv1` are left out, as for decoding only."""

    def __post_init__(self) -> None:
        if len(self.over_time) != len(self.widths) - 1 or len(self.mean) != len(self.std):
            raise ValueError(
                f"{len(self.widths)} levels need {len(self.widths) - 1} steps, not "
                f"{len(self.over_time)}; mean has {len(self.mean)} channels, std {len(self.std)}"
            )


class ResBlock(nn.Module):
    """[B, enter, H, W] -> [B, leave, H, W]."""

    def __init__(self, enter: int, leave: int) -> None:
        super().__init__()
        self.residual = Chain(
            ChannelNorm(enter),
            nn.SiLU(inplace=True),
            CausalConv3d(enter, leave),
            ChannelNorm(leave),
            nn.SiLU(inplace=True),
            nn.Identity(),  # a dropout of 0 when it was trained
            CausalConv3d(leave, leave),
        )
        self.shortcut = CausalConv3d(enter, leave, 1, 1) if enter != leave else None

    def forward(self, x: Tensor, history: History) -> Tensor:
        made: Tensor = self.residual(x, history)
        return made.add_(x if self.shortcut is None else self.shortcut(x, history))


class AttentionBlock(nn.Module):
    """One head over the pixels of a frame. [B, C, H, W] -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width, axes=2)
        self.to_qkv = nn.Conv2d(width, 3 * width, 1)
        self.proj = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, history: History) -> Tensor:  # noqa: ARG002 -- as all layers
        heads = self.to_qkv(self.norm(x)).flatten(2).transpose(1, 2)[:, None]
        query, key, value = heads.contiguous().chunk(3, dim=-1)
        seen = F.scaled_dot_product_attention(query, key, value)
        made: Tensor = self.proj(seen[:, 0].transpose(1, 2).reshape(x.shape))
        return made.add_(x)


class Up(nn.Module):
    """[B, C, H, W] -> [B, C / 2, 2 H, 2 W]: over time each frame but the first makes two."""

    def __init__(self, width: int, over_time: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=2.0, mode="nearest-exact"),
            nn.Conv2d(width, width // 2, 3, padding=1),
        )
        self.time_conv = CausalConv3d(width, 2 * width, 3, 1) if over_time else None

    def forward(self, x: Tensor, history: History) -> Iterator[Tensor]:
        halves = [x]
        if self.time_conv is not None and self in history:
            halves = list(self.time_conv(x, history).chunk(2, dim=1))
        history[self] = ()  # the first frame of a clip leaves only this mark
        del x
        while halves:
            yield self.resample(halves.pop(0))


class Down(nn.Module):
    """[B, C, H, W] -> [B, C, H / 2, W / 2]: over time for the first and each second frame after."""

    def __init__(self, width: int, over_time: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(width, width, 3, stride=2)
        )
        self.time_conv = nn.Conv3d(width, width, (3, 1, 1), stride=(2, 1, 1)) if over_time else None

    def forward(self, x: Tensor, history: History) -> Iterator[Tensor]:
        x = self.resample(x)
        if self.time_conv is None:
            yield x
            return
        window = (*history.get(self, ()), x)
        complete = len(window) == 3
        history[self] = (x,) if complete else window
        if complete:
            yield convolve(self.time_conv, window)
        elif len(window) == 1:
            yield x


class Encoder(nn.Module):
    """[B, 3, H, W] -> [B, 2 * latent, H / 8, W / 8], mean and log variance."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        widths = [config.base * w for w in config.widths]
        self.conv1 = CausalConv3d(3, widths[0])
        self.downsamples = nn.ModuleList()
        enter = widths[0]
        for level, width in enumerate(widths):
            for _ in range(config.blocks):
                self.downsamples.append(ResBlock(enter, width))
                enter = width
            if level < len(config.over_time):
                self.downsamples.append(Down(width, config.over_time[level]))
        self.middle = _middle(enter)
        self.head = _head(enter, 2 * len(config.mean))

    def layers(self) -> list[nn.Module]:
        """In the order of the forward pass."""
        return [self.conv1, *self.downsamples, *self.middle, self.head]


class Decoder(nn.Module):
    """[B, latent, H / 8, W / 8] -> [B, 3, H, W]."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        widths = [config.base * w for w in reversed(config.widths)]
        over_time = tuple(reversed(config.over_time))
        self.conv1 = CausalConv3d(len(config.mean), widths[0])
        self.middle = _middle(widths[0])
        self.upsamples = nn.ModuleList()
        enter = widths[0]
        for level, width in enumerate(widths):
            for _ in range(config.blocks + 1):
                self.upsamples.append(ResBlock(enter, width))
                enter = width
            if level < len(over_time):
                self.upsamples.append(Up(width, over_time[level]))
                enter = width // 2
        self.head = _head(enter, 3)

    def layers(self) -> list[nn.Module]:
        """In the order of the forward pass."""
        return [self.conv1, *self.middle, *self.upsamples, self.head]


class WanVae(nn.Module):
    """Frames to normalised latents and back, one at a time. See the head of this file."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        latent = len(config.mean)
        if config.encoder:
            self.encoder = Encoder(config)
            self.conv1 = CausalConv3d(2 * latent, 2 * latent, 1, 1)
        self.conv2 = CausalConv3d(latent, latent, 1, 1)
        self.decoder = Decoder(config)

    def decode(self, latent: Tensor, history: History) -> Iterator[Tensor]:
        """The next latent [B, 16, h, w] -> its frames [B, 3, 8 h, 8 w], about [-1, 1], not clamped.

        The first latent gives 1 frame, any other 4. The history is up to date once all are taken.
        """
        mean, std = self._statistics(latent)
        entered = self.conv2(latent * std + mean, history)
        return flow(self.decoder.layers(), history, entered)

    def encode(self, frame: Tensor, history: History) -> Iterator[Tensor]:
        """The next frame [B, 3, H, W] in [-1, 1] -> the latent [B, 16, H / 8, W / 8] it completes.

        The first frame and each fourth one after it complete a latent, the others give nothing.
        """
        mean, std = self._statistics(frame)
        for moments in flow(self.encoder.layers(), history, frame):
            yield (self.conv1(moments, history)[:, : len(mean)] - mean) / std

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents, each [16, 1, 1]."""
        mean, std = (like.new_tensor(v)[:, None, None] for v in (self.config.mean, self.config.std))
        return mean, std


def flow(layers: Sequence[nn.Module], history: History, frame: Tensor) -> Iterator[Tensor]:
    """What comes out of `layers` for a frame, depth first; keeps no tensor longer than needed."""
    for number, layer in enumerate(layers):
        if isinstance(layer, Up | Down):
            made = layer(frame, history)
            del frame
            for below in map(partial(flow, layers[number + 1 :], history), made):
                yield from below
            return
        frame = layer(frame, history)
    yield frame


def _middle(width: int) -> nn.ModuleList:
    return nn.ModuleList([ResBlock(width, width), AttentionBlock(width), ResBlock(width, width)])


def _head(enter: int, leave: int) -> Chain:
    return Chain(ChannelNorm(enter), nn.SiLU(inplace=True), CausalConv3d(enter, leave))
