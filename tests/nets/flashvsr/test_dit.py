"""FlashVSR's transformer: official outputs, the official checkpoint's names, streams, slices."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from longtake.nets.flashvsr.attention import from_windows
from longtake.nets.flashvsr.backends import gathered, reference
from longtake.nets.flashvsr.block import DiTConfig
from longtake.nets.flashvsr.dit import Constants, DiT, Settings, sinusoid
from longtake.nets.flashvsr.state import KVState
from tests.nets.flashvsr.goldens import SMALL, difference, golden, weights

CPU = torch.device("cpu")
TINY = DiTConfig(dim=64, heads=2, layers=2, ffn_dim=96, text_dim=16, freq_dim=32)
SETTINGS = Settings(topk_ratio=1.2, local_range=3)
CHUNKS = ((6, 0), (2, 6), (2, 8))  # latent frames, position


@pytest.fixture(scope="module")
def official() -> DiT:
    with torch.device("meta"):
        return DiT(DiTConfig()).bfloat16()


def state_for(net: DiT, windows: int, **words) -> KVState:
    return KVState(
        layers=net.config.layers,
        windows=windows,
        dim=net.config.dim,
        **({"dtype": torch.float32, "device": CPU} | words),
    )


class Stream:
    """A tiny net with weights from NumPy's generator, and a film of 8 x 16 tokens for it."""

    def __init__(self, seed: int = 0) -> None:
        self.draw = np.random.Generator(np.random.Philox(seed))
        self.inputs = [
            (self.random(1, 16, f, 16, 32), self.random(1, f * 128, 64)) for f, _ in CHUNKS
        ]

    def random(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self.draw.standard_normal(shape, np.float32))

    def run(self, net: DiT, constants: Constants, settings=SETTINGS) -> Iterator[torch.Tensor]:
        state = state_for(net, 2)
        for (latents, lq), (_, position) in zip(self.inputs, CHUNKS, strict=True):
            yield net(latents, lq, state, position, constants, settings)


def tiny() -> tuple[DiT, Constants]:
    net, drawn = DiT(TINY).eval(), Stream(7)
    for name, parameter in sorted(net.named_parameters()):
        values = drawn.random(*parameter.shape) * parameter.numel() ** -0.25
        parameter.copy_(values + 1 if "norm" in name and "weight" in name else values)
    return net, net.prepare(drawn.random(1, 5, 16))


def small_stream() -> list[torch.Tensor]:
    with torch.inference_mode():
        return list(Stream().run(*tiny()))


# --- official --------------------------------------------------------------------------------


def test_names_and_shapes_are_the_checkpoints(official) -> None:
    state = official.state_dict()
    assert len(state) == 825
    assert sum(x.numel() for x in state.values()) == 1_418_996_800
    names = [*state, *(f"{k}:{'_'.join(map(str, v.shape))}" for k, v in state.items())]
    found = hashlib.md5(",".join(sorted(names)).encode()).hexdigest()
    assert found == "9269f8db9040a9d860eaca435be61814"  # by which the official loader knows it


def test_time_is_the_official_one() -> None:
    stored, _ = golden("rope", SMALL)
    wave = sinusoid(1000.0, 256)
    assert difference(wave, stored["time.sinusoid_1000"]) <= 1e-7
    assert torch.equal(wave.bfloat16(), stored["time.sinusoid_1000_bf16"])
    full, _ = golden("rope_time")
    net = DiT(DiTConfig(dim=128, heads=4, layers=0))
    net.load_state_dict(net.state_dict() | weights(full))
    for made, name in zip(net.times(), ("time.t", "time.t_mod"), strict=True):
        assert difference(made, full[name]) <= 1e-6


def test_every_chunk_is_the_official_one() -> None:
    stored, meta = golden("dit_weights")
    sizes = meta["config"]
    with torch.device("meta"):
        net = DiT(
            DiTConfig(
                dim=sizes["dim"],
                heads=sizes["num_heads"],
                layers=sizes["num_layers"],
                ffn_dim=sizes["ffn_dim"],
                text_dim=sizes["text_dim"],
            )
        )
    net.load_state_dict(weights(stored), assign=True)
    constants = net.prepare(stored["context"])
    net.release()
    state, masks, outputs = state_for(net, 12), [], []
    for block in net.blocks:
        block.register_forward_hook(lambda _, given, __: outputs.append(given[0].clone()))

    def attend(q, k, v, selection):
        masks.append(selection.kept)
        return reference(q, k, v, selection)

    for number in range(4):
        chunk, meta = golden(f"dit_chunk{number}")
        masks.clear(), outputs.clear()
        settings = Settings(
            topk_ratio=meta["topk_ratio"],
            local_range=meta["local_range"],
            attend=attend,
            slice_tokens=500,
        )
        position = 0 if number == 0 else 2 * number + 4
        made = net(chunk["latents"], chunk["lq"], state, position, constants, settings)
        slabs = meta["f"] // 2
        for layer in range(3):
            kept = torch.cat(masks[layer * slabs : (layer + 1) * slabs], dim=1)
            assert torch.equal(kept[None], chunk[f"mask{layer}"]), (number, layer)
        for layer in (0, 2):
            raster = from_windows(outputs[layer], meta["h"], meta["w"]).flatten(0, 2)
            wanted = chunk[f"block{layer}_sub"][0]
            assert difference(raster[:: meta["token_stride"]], wanted) <= 1e-5
        assert difference(made, chunk["pred"]) <= 1e-5
        assert_cache(state, chunk)


def assert_cache(state: KVState, chunk: dict) -> None:
    for name in (name for name in chunk if name.startswith("cache_")):
        with state.layer(int(name[7])) as kv:
            ring = kv.keys if name[6] == "k" else kv.values
            kept = torch.cat([ring[place] for place in state.order])
        assert difference(kept.view(-1, 128, kept.shape[-1]).mean(1), chunk[name]) <= 1e-5


def test_a_small_stream_is_as_it_was() -> None:
    """Made by this code when it agreed with the official one; for where that is not at hand."""
    stored, _ = golden("dit", SMALL)
    for number, made in enumerate(small_stream()):
        assert difference(made, stored[f"chunk{number}"]) <= 1e-5


# --- properties ----------------------------------------------------------------------------------


@pytest.mark.parametrize("slice_tokens", [1, 96, 128, 1000])
def test_slices_change_no_bit(slice_tokens) -> None:
    net, constants = tiny()
    sliced = Settings(topk_ratio=1.2, local_range=3, slice_tokens=slice_tokens)
    for whole, made in zip(
        Stream().run(net, constants), Stream().run(net, constants, sliced), strict=True
    ):
        if slice_tokens == 1:  # the library multiplies by a vector then
            assert difference(made, whole) <= 1e-6
        else:
            assert torch.equal(made, whole)


def test_streams_share_a_net_and_nothing_else() -> None:
    net, constants = tiny()
    alone = [list(Stream(seed).run(net, constants)) for seed in (1, 2)]
    woven = zip(*(Stream(seed).run(net, constants) for seed in (1, 2)), strict=True)
    for number, pair in enumerate(woven):
        assert all(torch.equal(made, alone[i][number]) for i, made in enumerate(pair))


def test_what_was_seen_before_matters_as_far_as_the_ring_reaches() -> None:
    net, constants = tiny()
    wanted = list(Stream().run(net, constants))
    other = Stream()
    other.inputs[0][0][:, :, :2] += 1
    made = list(other.run(net, constants))
    assert all(not torch.equal(a, b) for a, b in zip(made, wanted, strict=True))


def test_backends_give_one_prediction() -> None:
    net, constants = tiny()
    other = Settings(topk_ratio=1.2, local_range=3, attend=gathered)
    for made, wanted in zip(
        Stream().run(net, constants, other), Stream().run(net, constants), strict=True
    ):
        assert difference(made, wanted) <= 1e-5


def test_release_drops_what_only_prepare_needs() -> None:
    net, constants = tiny()
    wanted = list(Stream().run(net, constants))
    net.release()
    assert all(map(torch.equal, Stream().run(net, constants), wanted))
    assert not any("text" in k or "time" in k or "cross_attn.k" in k for k in net.state_dict())
    with pytest.raises(RuntimeError, match="release"):
        net.prepare(torch.zeros(1, 5, 16))


def test_the_prompt_needs_no_more_than_is_kept_for_it() -> None:
    net, _ = tiny()
    prompt = torch.randn(1, 5, 16)
    wanted = net.prepare(prompt)
    net.keep_prompt()
    made = net.prepare(prompt)
    assert torch.equal(made.head, wanted.head)
    for a, b in zip(made.blocks, wanted.blocks, strict=True):
        assert torch.equal(a.modulation, b.modulation)
        assert torch.equal(a.text_keys, b.text_keys)
        assert torch.equal(a.text_values, b.text_values)
    assert not any("ffn" in key or "self_attn" in key for key in net.state_dict())


def test_forward_only_iterates_over_blocks() -> None:
    net, constants = tiny()
    wanted, fetched = list(Stream().run(net, constants)), []

    class Streamed(torch.nn.Module):
        def __init__(self, blocks) -> None:
            super().__init__()
            self.kept = blocks

        def __iter__(self):
            for number, block in enumerate(self.kept):
                fetched.append(number)
                yield block

    net.blocks = Streamed(net.blocks)
    assert all(map(torch.equal, Stream().run(net, constants), wanted))
    assert fetched == [0, 1] * len(CHUNKS)


def test_the_full_net_can_be_traced_without_memory(official) -> None:
    """768 x 1408 px, the first chunk and the next, on the meta device."""
    meta = torch.device("meta")
    constants = official.prepare(torch.empty(1, 512, 4096, device=meta))
    state = state_for(official, 66, dtype=torch.bfloat16, device=meta)
    settings = Settings(
        topk_ratio=2.0 * 768 * 1280 / (768 * 1408),
        attend=lambda queries, *_: torch.empty_like(queries),
    )
    for f, position in CHUNKS[:2]:
        latents = torch.empty(1, 16, f, 96, 176, dtype=torch.bfloat16, device=meta)
        lq = torch.empty(1, f * 48 * 88, 1536, dtype=torch.bfloat16, device=meta)
        made = official(latents, lq, state, position, constants, settings)
        assert (made.shape, made.dtype, made.device) == (latents.shape, torch.bfloat16, meta)
    assert len(state.order) == 3


def test_other_sizes_are_refused() -> None:
    net, constants = tiny()
    latents, lq = Stream().inputs[0]
    with pytest.raises(ValueError, match="3 windows and the latents 1 x 2"):
        net(latents, lq, state_for(net, 3), 0, constants, SETTINGS)
    with pytest.raises(ValueError, match="767 tokens"):
        net(latents, lq[:, :-1], state_for(net, 2), 0, constants, SETTINGS)
    with pytest.raises(ValueError, match="whole windows"):
        net(latents[..., :24], lq, state_for(net, 2), 0, constants, SETTINGS)
    for wrong in ({"topk_ratio": 0.0}, {"local_range": 0}, {"slice_tokens": 0}):
        with pytest.raises(ValueError, match="must be above 0"):
            Settings(**({"topk_ratio": 1.0} | wrong))
