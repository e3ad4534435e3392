"""The second stage: `crisp` weights. The mean of all answers is soft; this stage asks for one that
looks like a film.

Three things are added to the losses of the first stage:

- `energy`: in every small neighbourhood the output is to have as much of each fine band (edges,
  lines, grain) as the original has, wherever its waves lie. This alone restores sharpness.
- a critic that sees an enlarged frame *beside* the small one it was made of, and tells originals
  from outputs (hinge loss, spectral norm: https://arxiv.org/abs/1802.05957). Since it sees both,
  what does not follow from the small frame is no way to please it.
- `matching`: the critic's features of output and original are to be alike
  (https://arxiv.org/abs/1711.11585). No network trained on photographs elsewhere is used.

All three look at grey pictures, (R + G + B) / 3, so that what they ask for has no colour: a critic
of RGB, and bands of each channel, paint green and purple grain. And they move only what a pixel of
the small frame does not tell, the differences inside its `scale` x `scale` pixels: left to
themselves they turn the blotches that a codec leaves on a face into lines.

`truth` holds on to what is known: reduced again, the output must be the original reduced. `grid`
keeps the net from its cheapest way to fine bands: one and the same pattern in every cell in which
it works, a screen door before the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


@dataclass(frozen=True, slots=True, kw_only=True)
class CrispRecipe:
    """Weights of the second stage."""

    adversary: float = 0.0
    """Pull of the critic on the pixels of an output, as a share of the pull of the other losses.
    The usual balance by gradients of the last layer fails here: those of a net that has converged
    cancel out, and the critic is soon counted for nothing. 0: no second stage."""
    energy: float = 8.0
    matching: float = 1.0
    truth: float = 1.0
    grid: float = 16.0
    rate: float = 2e-4
    """Of the critic."""
    warm_up: int = 400
    """Steps in which only the critic learns."""
    side: int = 128
    """Side of what the critic is shown of an output, px."""


class Critic(nn.Module):
    """Scores patches of a picture that is given with its small version, enlarged."""

    def __init__(self, width: int = 56) -> None:
        super().__init__()
        sizes = ((2, 1, 3), (1, 2, 4), (2, 2, 3), (2, 3, 4), (3, 3, 3), (3, 3, 3))
        layers = []
        for place, (before, after, taps) in enumerate(sizes):
            wide = before if place == 0 else before * width
            stride = 2 if taps == 4 else 1
            layers.append(nn.Conv2d(wide, after * width, taps, stride=stride, padding=1))
        self.layers = nn.ModuleList(spectral_norm(layer) for layer in layers)
        self.score = spectral_norm(nn.Conv2d(3 * width, 1, 3, padding=1))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pictures: Tensor, small: Tensor) -> list[Tensor]:
        """[B, 1, H, W] and the enlarged small ones in [0, 1] -> features, the last being scores."""
        features = [torch.cat([pictures, small], 1) * 2 - 1]
        for layer in self.layers:
            features.append(F.leaky_relu(layer(features[-1]), 0.2))
        features.append(self.score(features[-1]))
        return features[1:]


def grey(pictures: Tensor) -> Tensor:
    """[B, 3, H, W] -> [B, 1, H, W]; its gradient is the same for red, green and blue."""
    return pictures.mean(1, keepdim=True)


def free(pictures: Tensor, scale: int) -> Tensor:
    """The same pictures, whose gradient has no mean in any `scale` x `scale` pixels."""
    means = F.interpolate(F.avg_pool2d(pictures, scale), scale_factor=scale, mode="nearest")
    return pictures - means + means.detach()


def bands(pictures: Tensor) -> Tensor:
    """Fine bands: [B, 1, H, W] -> [B, 5, H, W]; along x, along y, along both diagonals and around,
    at the finest scale."""
    kernels = pictures.new_tensor(
        [
            [[0, 0, 0], [-1, 2, -1], [0, 0, 0]],
            [[0, -1, 0], [0, 2, 0], [0, -1, 0]],
            [[-1, 0, 0], [0, 2, 0], [0, 0, -1]],
            [[0, 0, -1], [0, 2, 0], [-1, 0, 0]],
            [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
        ]
    )
    return F.conv2d(pictures, (kernels / kernels.abs().sum(dim=(1, 2), keepdim=True))[:, None])


def energy_error(made: Tensor, original: Tensor) -> Tensor:
    """Difference of the mean size of each band in neighbourhoods of 8 px, at two scales."""
    error = made.new_zeros(())
    for _ in range(2):
        there, here = (F.avg_pool2d(bands(p).abs(), 8, 4) for p in (made, original))
        error = error + (there - here).abs().mean()
        made, original = F.avg_pool2d(made, 2), F.avg_pool2d(original, 2)
    return error


def grid_error(made: Tensor, original: Tensor, scale: int) -> Tensor:
    """Difference of what repeats with the cells of 2 x 2 small pixels in which the trunk works: the
    mean of each band at each place of a cell, in neighbourhoods of 6 cells."""
    there, here = (
        F.avg_pool2d(F.pixel_unshuffle(bands(F.pad(p, (1, 1, 1, 1), "replicate")), 2 * scale), 6, 3)
        for p in (made, original)
    )
    return (there - here).abs().mean()


class Adversary:
    """The critic, its optimiser, and what it says of an output."""

    def __init__(self, recipe: CrispRecipe, device: torch.device, seed: int) -> None:
        torch.manual_seed(seed + 1)
        self.recipe = recipe
        self.critic = Critic().to(device)
        self.optimiser = torch.optim.Adam(
            self.critic.parameters(), lr=recipe.rate, betas=(0.5, 0.99)
        )
        self.step = 0
        self.weight = 0.0
        """What the last step counted the critic for."""

    def state(self) -> dict[str, Any]:
        return {
            "critic": self.critic.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.critic.load_state_dict(state["critic"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]

    def loss(self, made: Tensor, original: Tensor, small: Tensor, plain: Tensor) -> Tensor:
        """The whole loss of one step; `plain` is that of the first stage. The critic learns from
        the same pictures."""
        recipe, scale = self.recipe, made.shape[-1] // small.shape[-1]
        reduced, true = (F.avg_pool2d(p, scale) for p in (made, original))
        loss = plain + recipe.truth * (reduced - true).abs().mean()
        detail, wanted = free(grey(made), scale), grey(original)
        loss = loss + recipe.energy * energy_error(detail, wanted)
        loss = loss + recipe.grid * grid_error(detail, wanted, scale)
        window, enlarged = self._shown(grey(small), scale)
        shown, real = detail[window], wanted[window]
        with torch.autocast(made.device.type, torch.bfloat16, enabled=made.is_cuda):
            features = self._learn(shown.detach(), real, enlarged)
            if self.step <= recipe.warm_up:
                return loss
            self.critic.requires_grad_(False)
            got = self.critic(shown, enlarged)
            self.critic.requires_grad_(True)
        alike = [
            (g.float() - w.float()).abs().mean()
            for g, w in zip(got[:-1], features[:-1], strict=True)
        ]
        pull = recipe.matching * torch.stack(alike).mean() - got[-1].float().mean()
        (by_loss,) = torch.autograd.grad(loss, made, retain_graph=True)
        (by_pull,) = torch.autograd.grad(pull, made)
        strengths = [g[window].square().mean().sqrt() for g in (by_loss, by_pull)]
        weight = recipe.adversary * strengths[0] / (strengths[1] + 1e-12)
        if self.step % 100 == 0:
            self.weight = float(weight)
        followed = (made * (by_loss + weight * by_pull)).sum()  # has these very gradients
        whole: Tensor = loss.detach() + followed - followed.detach()
        return whole

    def _shown(self, small: Tensor, scale: int) -> tuple[tuple[Any, ...], Tensor]:
        """The middle of the pictures as an index, and of the small ones, enlarged."""
        side = min(self.recipe.side // scale, small.shape[-1])
        edge = (small.shape[-1] - side) // 2
        inner = slice(edge, edge + side)
        outer = slice(edge * scale, (edge + side) * scale)
        enlarged = F.interpolate(
            small[..., inner, inner], scale_factor=scale, mode="bilinear", align_corners=False
        )
        return (..., outer, outer), enlarged

    def _learn(self, made: Tensor, original: Tensor, small: Tensor) -> list[Tensor]:
        """A step of the critic; gives its features of the originals."""
        features = self.critic(original, small)
        unreal = self.critic(made, small)[-1].float()
        loss = F.relu(1 - features[-1].float()).mean() + F.relu(1 + unreal).mean()
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimiser.step()
        self.step += 1
        return [f.detach() for f in features]
