"""The 8-bit layer gives what its matrix, made again, gives; nets take it from outside."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.nets import linear
from longtake.nets.linear import KINDS, QuantLinear, kinds_of, quantized, row_chunks, same_names
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
@pytest.mark.parametrize(("outputs", "values"), [(256, 64 * 96), (500, 32 * 96), (223, 64 * 96)])
def test_in_chunks_it_is_bit_equal_to_the_whole(monkeypatch, kind, rows, outputs, values) -> None:
    monkeypatch.setattr(linear, "_VALUES", values)
    assert len(row_chunks(outputs, 96)) > 2
    layer = layer_of(made(outputs, 96), kind, made(1, outputs)[0])
    x = made(rows, 96, 1.0, seed=1)
    whole = F.linear(x, layer.weight.float() * layer.weight_scale[:, None], layer.bias)
    assert torch.equal(layer(x), whole)
    assert torch.equal(layer(x[None])[0], whole)


def test_chunks_cover_all_rows_once_and_none_is_small() -> None:
    for rows in (1, 31, 32, 33, 1000, 13824, 1 << 20):
        for inputs in (1, 128, 5120, 13824, 1 << 23):
            found = row_chunks(rows, inputs)
            assert [a.stop for a in found[:-1]] == [b.start for b in found[1:]]
            assert (found[0].start, found[-1].stop) == (0, rows)
            assert all(c.stop - c.start >= min(32, rows) for c in found)
            most = max((1 << 22) // inputs, 32) + 31
            assert all(c.stop - c.start <= most for c in found)


@each_kind
def test_no_whole_matrix_is_made(monkeypatch, kind) -> None:
    monkeypatch.setattr(linear, "_VALUES", 32 * 64)
    layer, lengths = layer_of(made(640, 64), kind), []
    plain = F.linear
    monkeypatch.setattr(
        linear.F, "linear", lambda x, w, b: lengths.append(len(w)) or plain(x, w, b)
    )
    layer(made(40, 64))
    assert lengths == [32] * 20


@each_kind
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_dtypes_round_the_matrix_once(kind, dtype) -> None:
    layer = layer_of(made(64, 48), kind, made(1, 64)[0])
    x = made(40, 48, 1.0).to(dtype)
    whole = F.linear(x, layer.matrix().to(dtype), layer.bias.to(dtype))
    assert layer(x).dtype == dtype
    assert torch.equal(layer(x), whole)


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


# --- files of others -----------------------------------------------------------------------------


@pytest.mark.parametrize("scales", ["one", "rows", "column"])
@pytest.mark.parametrize("name", ["scale_weight", "weight_scale"])
def test_files_of_others_load_into_the_layer(name, scales) -> None:
    """Theirs is value = weight * scale: the layer multiplies by the same matrix."""
    matrix = made(48, 32)
    if scales == "one":
        scale = matrix.abs().amax() / 448
        numbers = (matrix / scale).to(torch.float8_e4m3fn)
    else:
        numbers, scale = quantize(matrix, "float8_e4m3fn")
        scale = scale[:, None] if scales == "column" else scale
    theirs = {
        "a.0.weight": numbers, f"a.0.{name}": scale, "a.0.bias": torch.zeros(48),
        "a.0.scale_input": torch.ones(()), "scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn),
        "a.1.weight": torch.ones(3),
    }  # fmt: skip
    state = same_names(theirs)
    assert set(state) == {"a.0.weight", "a.0.weight_scale", "a.0.bias", "a.1.weight"}
    with torch.device("meta"):
        net = nn.ModuleDict({"a": nn.Sequential(nn.Linear(32, 48), nn.RMSNorm(3))})
    quantized(net, {"a.0": "float8_e4m3fn"})
    net.load_state_dict(state, assign=True)
    layer = net["a"][0]
    assert torch.equal(layer.matrix(), numbers.float() * scale.reshape(-1, 1))
    assert (layer.matrix() - matrix).norm() / matrix.norm() < 0.04


def test_scales_of_another_kind_are_refused() -> None:
    numbers, _ = quantize(made(48, 32), "int8")
    for shape in ((48, 4), (32,), (4, 12)):
        with pytest.raises(ValueError, match="48 rows"):
            same_names({"a.weight": numbers, "a.weight_scale": torch.ones(shape)})
