"""The net `lite`: sizes, independence of the batch, bicubic base, merging, shipped weights."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from longtake.nets.lite import Lite, LiteConfig, bicubic_phase_kernels
from longtake.weights import checkpoint, files

SMALL = LiteConfig(width=16, depth=2)
ODD_SIZES = [(37, 53), (1, 1), (2, 3), (1, 40)]


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def net(request):
    torch.manual_seed(0)
    return Lite(SMALL).eval().trunk_to(request.param)


LOOKS = ("faithful", "crisp")


@pytest.fixture(scope="module", params=LOOKS)
def shipped(request):
    path = files.shipped(f"lite_{request.param}.safetensors")
    stored = json.loads(files.header(path)["__metadata__"]["config"])
    config = LiteConfig(
        width=stored["width"], depth=stored["depth"], scales=tuple(stored["scales"])
    )
    return checkpoint.load(lambda: Lite(config), path).float()


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    scale=st.sampled_from([2, 3, 4]),
    batch=st.integers(1, 3),
)
def test_output_has_exactly_the_scaled_size(height, width, scale, batch):
    made = Lite(SMALL)(torch.rand(batch, 3, height, width), scale)
    assert made.shape == (batch, 3, height * scale, width * scale)
    assert made.dtype == torch.float32


@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_frames_per_call_and_threads_change_no_bit(net, size, scale):
    frames = torch.rand(4, 3, *size)
    made = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for step in (1, 3, 4):
            made.append(torch.cat([net(part, scale) for part in frames.split(step)]))
    assert all(torch.equal(made[0], other) for other in made[1:])


def test_memory_layout_of_the_frames_changes_no_bit(net):
    frames = torch.rand(2, 3, 21, 34)
    assert torch.equal(net(frames, 2), net(frames.to(memory_format=torch.channels_last), 2))


def test_bf16_trunk_leaves_base_and_output_in_fp32():
    net = Lite(SMALL).trunk_to(torch.bfloat16)
    assert net.enter.weight.dtype == torch.bfloat16
    assert {base.weight.dtype for base in net.bases.values()} == {torch.float32}
    for head in net.heads.values():
        head.weight.zero_()
        head.bias.zero_()
    ramp = torch.linspace(0, 1, 3 * 16 * 64).reshape(1, 3, 16, 64)
    assert torch.equal(net(ramp, 4), Lite(SMALL)._base(ramp, 4))  # nothing was rounded


@pytest.mark.parametrize("scale", [2, 3, 4, 5])
def test_fresh_base_is_bicubic_interpolation(scale):
    frames = torch.rand(2, 3, 24, 31)
    made = Lite(LiteConfig(width=4, depth=1, scales=(scale,)))._base(frames, scale)
    size = (24 * scale, 31 * scale)
    # with antialias PyTorch takes Keys' kernel with a = -0.5; it differs from ours at borders only
    wanted = F.interpolate(frames, size, mode="bicubic", antialias=True, align_corners=False)
    inside = (..., slice(3 * scale, -3 * scale), slice(3 * scale, -3 * scale))
    torch.testing.assert_close(made[inside], wanted[inside], atol=2e-5, rtol=0)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_kernels_keep_a_flat_picture_flat(scale):
    sums = bicubic_phase_kernels(scale).sum(dim=(1, 2, 3))
    torch.testing.assert_close(sums, torch.ones_like(sums))


def test_forward_only_iterates_over_blocks():
    net = Lite(SMALL)
    frames = torch.rand(1, 3, 8, 8)
    wanted, fetched = net(frames, 2), []

    class Streamed(torch.nn.Module):
        def __init__(self, blocks):
            super().__init__()
            self.kept = blocks

        def __iter__(self):
            for number, block in enumerate(self.kept):
                fetched.append(number)
                yield block

    net.blocks = Streamed(net.blocks)
    assert torch.equal(net(frames, 2), wanted)
    assert fetched == [0, 1]


def test_a_scale_without_a_head_is_refused():
    with pytest.raises(KeyError):
        Lite(SMALL)(torch.rand(1, 3, 8, 8), 5)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"depth": 0}, {"scales": ()}, {"scales": (2, 2)}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        LiteConfig(**wrong)


def test_merged_net_computes_what_the_trained_one_does():
    network = pytest.importorskip("training.lite.network")
    torch.manual_seed(1)
    trained = network.trainable(SMALL)
    for block in trained.blocks:
        block.point.normal_(std=0.1)
        block.identity.normal_(mean=1, std=0.1)
        block.conv.bias.normal_(std=0.1)
    for head in trained.heads.values():
        head.weight.normal_(std=0.1)
    plain = network.merge(trained)
    frames = torch.rand(2, 3, 18, 22)
    for scale in SMALL.scales:
        torch.testing.assert_close(plain(frames, scale), trained(frames, scale))
    assert set(plain.state_dict()) == set(Lite(SMALL).state_dict())


def still(name: str) -> torch.Tensor:
    """[1, 3, H, W] in [0, 1], 192 x 192 px of one of scikit-image's pictures."""
    data = pytest.importorskip("skimage.data")
    pixels = torch.from_numpy(getattr(data, name)()[100:292, 100:292, :3].copy())
    return pixels.permute(2, 0, 1)[None].float() / 255


def psnr(made: torch.Tensor, true: torch.Tensor) -> float:
    return float(-10 * (made.clamp(0, 1) - true).square().mean().log10())


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_shipped_weights_beat_lanczos_at_every_scale(shipped, name, scale, dtype):
    from longtake.media.scaling import resample

    true = still(name)
    side = 192 // scale
    small = F.interpolate(true, (side, side), mode="bicubic", antialias=True, align_corners=False)
    pixels = (small.clamp(0, 1) * 255).round().to(torch.uint8)
    film = pixels.permute(0, 2, 3, 1).contiguous().numpy()
    lanczos = torch.from_numpy(resample(film, 192, 192, "lanczos")).permute(0, 3, 1, 2) / 255
    try:
        made = shipped.trunk_to(dtype)(pixels.float() / 255, scale)
    finally:
        shipped.float()
    assert psnr(made, true) > psnr(lanczos, true) + 0.4


def test_shipped_weights_name_version_and_licence():
    paths = [files.shipped(f"lite_{look}.safetensors") for look in LOOKS]
    for path in paths:
        metadata = files.header(path)["__metadata__"]
        assert metadata["model"] == "lite"
        assert metadata["licence"] == "Apache-2.0"
        assert int(metadata["steps"]) > 0
    assert sum(path.stat().st_size for path in paths) <= 4_000_000
