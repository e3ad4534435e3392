"""The net as it is trained: `Lite` with re-parameterised blocks, and the way back to the plain
net."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.nets.lite import Block, Lite, LiteConfig

LIVELY = 0.01
"""Root mean square of the last block's output below which the trunk counts as dead. A first net
died unnoticed: with the identity at 0.5 the features fade over eight blocks, and what remains is a
slightly sharper bicubic."""


class TrainedBlock(nn.Module):
    """3x3 + 1x1 + identity and ReLU, added up as one 3x3 kernel before the convolution, so at the
    cost of one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.point = nn.Parameter(torch.zeros(width, width))
        self.identity = nn.Parameter(torch.ones(width))
        with torch.no_grad():
            nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu").mul_(0.3)
            nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def kernel(self) -> Tensor:
        """The merged kernel [width, width, 3, 3]."""
        point = self.point + torch.diag(self.identity)
        return self.conv.weight + F.pad(point[:, :, None, None], (1, 1, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        kernel = self.kernel().contiguous(memory_format=torch.channels_last)
        return F.relu(F.conv2d(features, kernel, self.conv.bias, padding=1), inplace=True)


def trainable(config: LiteConfig) -> Lite:
    """A net with fresh, re-parameterised blocks whose output is bicubic but for small details."""
    net = Lite(config)
    net.blocks = nn.ModuleList(TrainedBlock(config.width) for _ in range(config.depth))
    for head in net.heads.values():
        assert isinstance(head, nn.Conv2d)
        with torch.no_grad():
            head.weight.mul_(0.05)
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def merge(net: Lite) -> Lite:
    """The plain net that computes what a `trainable` one computes."""
    plain = Lite(net.config)
    for name in ("enter", "heads", "bases"):
        getattr(plain, name).load_state_dict(getattr(net, name).state_dict())
    for trained, block in zip(net.blocks, plain.blocks, strict=True):
        assert isinstance(trained, TrainedBlock)
        assert isinstance(block, Block)
        assert trained.conv.bias is not None
        assert block.conv.bias is not None
        with torch.no_grad():
            block.conv.weight.copy_(trained.kernel())
            block.conv.bias.copy_(trained.conv.bias)
    return plain


def split(plain: Lite) -> Lite:
    """A `trainable` net that computes what a plain one computes: the way back from `merge`."""
    net = trainable(plain.config)
    for name in ("enter", "heads", "bases"):
        getattr(net, name).load_state_dict(getattr(plain, name).state_dict())
    for trained, block in zip(net.blocks, plain.blocks, strict=True):
        assert isinstance(trained, TrainedBlock)
        assert isinstance(block, Block)
        with torch.no_grad():
            trained.conv.weight.copy_(block.conv.weight)
            trained.conv.weight[:, :, 1, 1] -= torch.diag(trained.identity)
            trained.conv.bias.copy_(block.conv.bias)  # type: ignore[union-attr, arg-type]
    return net


@torch.no_grad()
def liveliness(net: Lite, frames: Tensor) -> float:
    """Root mean square of the last block's output for frames [B, 3, H, W], H and W even."""
    features = F.relu(net.enter(F.pixel_unshuffle(frames - 0.5, 2)))
    for block in net.blocks:
        features = block(features)
    return float(features.float().square().mean().sqrt())
