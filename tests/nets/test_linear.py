"""The 8-bit layer gives what its matrix, made again, gives; nets take it from outside."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.nets import linear
from longtake.nets.linear import KINDS, QuantLinear, kinds_of, quantized, row_chunks
from longtake.nets.wan.dit import DiT
from longtake.weights.quantize import quantize
from tests.nets.wan.dits import T2V, Asked, net_of, predicted

each_kind = pytest.mark.parametrize("kind", KINDS)


def made(outputs: int, inputs: int, sigma: float = 0.02, seed: int = 0) -> Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed)) * sigma


def layer_of(matrix: Tensor, kind: str, bias: Tensor | None = None) -> QuantLinear:
    layer = QuantLinear(matrix.shape[1], matrix.shape[0], bias=bias is not None, kind=kind)
    numbers, scale = quantize(matrix, kind)
    state = {"weight": numbers, "weight_scale": scale} | ({} if bias is None else {"bias": bias})
    layer.load_state_dict(state)
    return layer


# --- the layer -----------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("rows", [1, 3, 33, 128])
@pytest.mark.parametrize(("outputs", "at_once"), [(256, 64), (500, 32), (223, 64)])
def test_in_chunks_it_is_bit_equal_to_the_whole(monkeypatch, kind, rows, outputs, at_once) -> None:
    layer = layer_of(made(outputs, 96), kind, made(1, outputs)[0])
    x = made(rows, 96, 1.0, seed=1)
    assert len(row_chunks(outputs)) == 1
    whole = layer(x)
    monkeypatch.setattr(linear, "ROWS", at_once)
    assert len(row_chunks(outputs)) > 2
    assert torch.equal(layer(x), whole)
    assert torch.equal(layer(x[None])[0], whole)


def test_chunks_cover_all_rows_once_and_none_is_small() -> None:
    for rows in (1, 31, 32, 33, 1000, 13824, 1 << 20):
        found = row_chunks(rows)
        assert [a.stop for a in found[:-1]] == [b.start for b in found[1:]]
        assert (found[0].start, found[-1].stop) == (0, rows)
        assert all(min(32, rows) <= c.stop - c.start <= linear.ROWS + 31 for c in found)


@each_kind
def test_no_whole_matrix_is_made(monkeypatch, kind) -> None:
    monkeypatch.setattr(linear, "ROWS", 32)
    layer, lengths = layer_of(made(640, 64), kind), []
    plain = F.linear
    monkeypatch.setattr(linear.F, "linear", lambda x, w: lengths.append(len(w)) or plain(x, w))
    layer(made(40, 64))
    assert lengths == [32] * 20


@each_kind
@pytest.mark.parametrize(
    ("dtype", "most"), [(torch.float32, 1e-6), (torch.bfloat16, 0.006), (torch.float16, 0.001)]
)
@pytest.mark.parametrize("biased", [True, False])
def test_it_is_its_matrix_made_again(kind, dtype, most, biased) -> None:
    layer = layer_of(made(64, 480, 2.0), kind, made(1, 64, 9.0)[0] if biased else None)
    x = made(40, 480, 30.0).to(dtype)
    bias = layer.bias.double() if biased else None
    exact = F.linear(x.double(), layer.matrix().double(), bias)
    assert layer(x).dtype == dtype
    assert (layer(x) - exact).norm() / exact.norm() < most


def test_it_is_near_the_layer_it_stands_for() -> None:
    matrix, x = made(96, 128), made(50, 128, 1.0, seed=4)
    exact = F.linear(x, matrix)
    for kind, most in (("int8", 0.01), ("float8_e4m3fn", 0.04)):
        error = (layer_of(matrix, kind)(x) - exact).norm() / exact.norm()
        assert 0 < error < most


# --- from outside --------------------------------------------------------------------------------


def test_a_net_takes_the_layer_and_its_tensors_strictly() -> None:
    """A transformer in 8 bits is near the plain one, and its matrices are those of another seed
    far from it."""
    plain = net_of(T2V, seed=2)
    state, kinds = {}, {}
    for name, value in plain.state_dict().items():
        layer = name.removesuffix(".weight")
        if name.startswith("blocks.") and value.ndim == 2 and name.endswith(".weight"):
            kinds[layer] = "int8"
            state[name], state[f"{layer}.weight_scale"] = quantize(value, "int8")
        else:
            state[name] = value
    assert len(kinds) == 10 * T2V.layers
    assert kinds == kinds_of((k, str(v.dtype).removeprefix("torch.")) for k, v in state.items())
    with torch.device("meta"):
        net = DiT(T2V)
    quantized(net, kinds)
    net.load_state_dict(state, assign=True)
    asked = [Asked.by_formula(T2V, (2, 8, 8), 500.0)]
    with torch.inference_mode():
        (exact,), (found,) = predicted(plain, asked), predicted(net.eval(), asked)
        (other,) = predicted(net_of(T2V, seed=5), asked)
    assert 0 < (found - exact).norm() / exact.norm() < 0.02
    assert (other - exact).norm() / exact.norm() > 0.2


def test_what_cannot_be_replaced_is_named_and_nothing_changes() -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.GELU(), nn.Linear(4, 2)))
    for kinds, says in (
        ({"0": "int8", "1.0": "int8"}, r"1\.0 must be a Linear on meta; there is GELU"),
        ({"0": "int8", "2": "int8"}, "there is nothing"),
        ({"0": "int4"}, "cannot be kept as int4"),
    ):
        with pytest.raises(ValueError, match=says):
            quantized(net, kinds)
    assert isinstance(net[0], nn.Linear)
    with pytest.raises(ValueError, match="on meta"):
        quantized(nn.Sequential(nn.Linear(4, 4)), {"0": "int8"})
    quantized(net, {"1.1": "float8_e4m3fn"})
    assert net[1][1].weight.is_meta
    assert [tuple(v.shape) for v in net[1][1].state_dict().values()] == [(2, 4), (2,), (2,)]
