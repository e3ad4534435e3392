"""FlashVSR's transformer on a GPU: the fast attention is the plain one, compiled once."""

from __future__ import annotations

import pytest
import torch

from longtake.nets.flashvsr import backends
from longtake.nets.flashvsr.attention import BLOCK
from longtake.nets.flashvsr.backends import Selection, reference
from longtake.nets.flashvsr.block import DiTConfig
from longtake.nets.flashvsr.dit import DiT, Settings
from longtake.nets.flashvsr.state import KVState
from tests.nets.flashvsr.goldens import SMALL, difference, golden
from tests.nets.flashvsr.test_dit import CHUNKS, SETTINGS, Stream, tiny

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda:0")
FAST = [name for name in backends.BACKENDS if name != "reference"]


@pytest.fixture(autouse=True)
def _inference():
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    with torch.inference_mode():
        yield


def fast(name: str) -> backends.Attend:
    why = backends.unusable(name, GPU)
    if why:
        pytest.skip(why)
    return backends.BACKENDS[name]


def case(share: float, used: int) -> tuple:
    """Official heads; blocks of the ring that are not in use hold NaN."""
    n, ring, heads, dim = 12, 48, 12, 128
    like = {"device": GPU, "dtype": torch.bfloat16}
    queries = torch.randn(n * BLOCK, heads, dim, **like)
    keys, values = torch.full((2, ring, BLOCK, heads, dim), torch.nan, **like).unbind(0)
    columns = torch.randperm(ring, device=GPU)[:used]
    for x in (keys, values):
        x[columns] = torch.randn(used, BLOCK, heads, dim, **like)
    kept = torch.rand(heads, n, used, device=GPU) < share
    return queries, keys, values, Selection(kept, columns)


@pytest.mark.parametrize("name", FAST)
def test_fast_attention_is_the_reference_and_compiles_once(name) -> None:
    attend = fast(name)
    attend(*case(0.5, 48))
    with torch._dynamo.config.patch(error_on_recompile=True):
        for share, used in ((0.45, 48), (0.05, 36), (0.0, 48), (2.0, 48)):
            queries, keys, values, selection = case(share, used)
            selection.kept[1, 2] = False
            made = attend(queries, keys, values, selection)
            wanted = reference(queries, keys, values, selection)
            assert not made[2 * BLOCK : 3 * BLOCK, 1].any()
            assert (made.float() - wanted.float()).abs().max() <= 0.02 * max(1, wanted.abs().max())
            assert torch.equal(made, attend(queries, keys, values, selection))


def test_a_gpu_gives_the_prediction_of_a_cpu() -> None:
    stored, _ = golden("dit", SMALL)
    net, constants = tiny()
    net.to(GPU)
    constants = constants.to(GPU)
    state = KVState(layers=2, windows=2, dim=64, dtype=torch.float32, device=GPU)
    inputs = [[x.to(GPU) for x in pair] for pair in Stream().inputs]
    for number, ((latents, lq), (_, position)) in enumerate(zip(inputs, CHUNKS, strict=True)):
        made = net(latents, lq, state, position, constants, SETTINGS)
        assert difference(made.cpu(), stored[f"chunk{number}"]) <= 1e-4


@pytest.mark.parametrize("name", FAST)
def test_a_block_of_official_width_agrees_in_bf16(name) -> None:
    """One block: with more, rounding may change which blocks are kept."""
    with GPU:
        net = DiT(DiTConfig(layers=1)).bfloat16()
        constants = net.prepare(torch.randn(1, 512, 4096))
        inputs = [
            (torch.randn(1, 16, f, 32, 48).bfloat16(), torch.randn(1, f * 384, 1536).bfloat16())
            for f, _ in CHUNKS
        ]
    made = []
    for attend in (fast(name), reference):
        state = KVState(layers=1, windows=6, dim=1536, dtype=torch.bfloat16, device=GPU)
        settings = Settings(topk_ratio=1.2, attend=attend, slice_tokens=500)
        made.append(
            [
                net(latents, lq, state, position, constants, settings)
                for (latents, lq), (_, position) in zip(inputs, CHUNKS, strict=True)
            ]
        )
    for ours, wanted in zip(*made, strict=True):
        assert difference(ours, wanted) <= 0.02
