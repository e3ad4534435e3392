"""TAEHV: streamed frames are those of the whole clip, computed in another way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from longtake.nets.taehv import Taehv, only_encodes
from longtake.nets.taehv_needs import TaehvConfig
from longtake.weights import reader
from tests.nets.flashvsr.goldens import difference
from tests.nets.formula import each, formula
from tests.nets.oracles import filled

SMALL = TaehvConfig(latent=16, widths=(12, 10, 8, 6))


@pytest.fixture(scope="module")
def net():
    return filled(Taehv(SMALL))


def whole_clip(weights: dict[str, Tensor], latents: Tensor) -> Tensor:
    """[C, T, h, w] -> [3, 4 T - 3, 8 h, 8 w], layer by layer over all frames, from the weights."""

    def conv(x: Tensor, name: str, padding: int = 1) -> Tensor:
        bias = weights.get(f"decoder.{name}.bias")
        return F.conv2d(x, weights[f"decoder.{name}.weight"], bias, padding=padding)

    x = latents.transpose(0, 1)
    x = conv((x / 3).tanh() * 3, "1").relu()
    for first, times in ((3, 1), (9, 2), (15, 2)):
        for number in range(first, first + 3):
            both = torch.cat((x, F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0))[:-1]), dim=1)
            y = conv(conv(both, f"{number}.conv.0").relu(), f"{number}.conv.2").relu()
            x = (conv(y, f"{number}.conv.4") + x).relu()
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = conv(x, f"{first + 4}.conv", padding=0)
        x = x.unflatten(1, (times, -1)).flatten(0, 1)
        x = conv(x, str(first + 5))
    return conv(x.relu(), "22")[3:].transpose(0, 1) * 2 - 1


@pytest.mark.parametrize("size", [(1, 3, 4), (2, 5, 3), (6, 2, 7)])
def test_streamed_is_the_whole(net, size) -> None:
    latents = formula((1, 16, *size), 4) * 3
    made = each(net.decode, latents, {})
    wanted = whole_clip(net.state_dict(), latents[0])[None]
    assert made.shape == (1, 3, 4 * size[0] - 3, 8 * size[1], 8 * size[2])
    assert difference(made, wanted) <= 1e-5


def test_samples_of_a_batch_do_not_meet(net) -> None:
    latents = formula((2, 16, 3, 3, 2), 6) * 3
    both = each(net.decode, latents, {})
    for i in (0, 1):
        assert difference(both[i : i + 1], each(net.decode, latents[i : i + 1], {})) <= 1e-6


def test_streams_do_not_touch_each_other(net) -> None:
    clips = [formula((1, 16, 4, 3, 4), seed) for seed in (1, 2)]
    wanted = [each(net.decode, clip, {}) for clip in clips]
    memories, made = [{}, {}], [[], []]
    for t in range(4):
        for clip, memory, images in zip(clips, memories, made, strict=True):
            images.extend(net.decode(clip[:, :, t], memory))
    assert all(
        torch.equal(torch.stack(images, dim=2), whole)
        for images, whole in zip(made, wanted, strict=True)
    )
    assert difference(wanted[0], wanted[1]) > 0.01


def test_a_stream_can_be_put_down(net) -> None:
    latents = formula((1, 16, 5, 3, 4), 8)
    memory, first = {}, []
    for t in range(2):
        first.extend(net.decode(latents[:, :, t], memory))
    copied = {number: x.clone() for number, x in memory.items()}
    rest = each(net.decode, latents[:, :, 2:], copied)
    again = torch.cat((torch.stack(first, dim=2), rest), dim=2)
    assert torch.equal(again, each(net.decode, latents, {}))


def test_the_past_counts_and_memory_is_flat(net) -> None:
    latents = formula((1, 16, 3, 4, 4), 8) * 3
    memory = {}
    sizes = []
    for t in range(3):
        last = list(net.decode(latents[:, :, t], memory))
        sizes.append(sum(x.numel() for x in memory.values()))
    assert sizes[0] == sizes[1] == sizes[2] == 16 * 3 * (12 + 4 * 10 + 16 * 8)
    assert len(last) == 4
    alone = list(net.decode(latents[:, :, 2], {}))
    assert difference(alone[0], last[3]) > 1e-3


def test_official_names_and_sizes(tmp_path) -> None:
    with torch.device("meta"):
        whole = Taehv(TaehvConfig())
    sizes = {key: tuple(value.shape) for key, value in whole.state_dict().items()}
    assert len(sizes) == 64
    assert sizes["decoder.1.weight"] == (256, 16, 3, 3)
    assert sizes["decoder.3.conv.0.weight"] == (256, 512, 3, 3)
    assert sizes["decoder.7.conv.weight"] == (256, 256, 1, 1)
    assert sizes["decoder.13.conv.weight"] == (256, 128, 1, 1)
    assert sizes["decoder.14.weight"] == (64, 128, 3, 3)
    assert sizes["decoder.19.conv.weight"] == (128, 64, 1, 1)
    assert sizes["decoder.22.weight"] == (3, 64, 3, 3)
    assert "decoder.8.bias" not in sizes
    path = tmp_path / "taew2_1.pth"
    net = filled(Taehv(SMALL))
    torch.save(net.state_dict() | {"encoder.0.weight": torch.ones(2)}, path)
    loaded = reader.load(lambda: Taehv(SMALL), path, unused=only_encodes)
    latent = formula((1, 16, 2, 2), 0)
    assert torch.equal(next(loaded.decode(latent, {})), next(net.decode(latent, {})))
