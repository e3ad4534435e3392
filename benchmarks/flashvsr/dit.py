"""FlashVSR's transformer at full size with random weights: milliseconds a steady chunk, by part.

    python -m benchmarks.flashvsr.dit [--device cuda:0] [--size 768x1408] [--repeat 10]

A steady chunk is 2 latent frames, 8 frames of video. Parts are timed alone, on tensors of the real
shapes and for all blocks of the net; `whole chunk` is the forward pass. Random weights spread
attention otherwise than real ones; the number of kept blocks is the same.
"""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from longtake.engines._flashvsr_memory import slice_tokens
from longtake.nets.flashvsr import backends
from longtake.nets.flashvsr.attention import BLOCK, block_budget, local_mask
from longtake.nets.flashvsr.block import Block, DiTConfig, Sight
from longtake.nets.flashvsr.dit import Constants, DiT, Settings
from longtake.nets.flashvsr.state import KVState
from longtake.nets.rope import grid_rotation, rotate

CONFIG = DiTConfig()
SIZES = ("768x1408", "1152x1920")  # the second is 1080p, padded
TEXT_TOKENS = 512
MiB = 1 << 20
Row = tuple[str, Callable[[], object], float]  # what, how, TFLOP


@dataclass(frozen=True)
class Case:
    """A net that has seen its first chunk."""

    net: DiT
    constants: Constants
    state: KVState
    settings: Settings
    height: int  # px
    width: int

    @property
    def windows(self) -> int:
        return self.height * self.width // 128**2

    @property
    def tokens(self) -> int:
        return self.windows * BLOCK


def prepared(size: str, device: torch.device, attend: backends.Attend) -> Case:
    height, width = map(int, size.split("x"))
    with torch.device("meta"):
        net = DiT(CONFIG).bfloat16()
    net.to_empty(device=device)
    for name, parameter in net.named_parameters():
        parameter.normal_(std=0.02) if parameter.dim() > 1 else parameter.zero_()
        if "norm" in name and name.endswith("weight"):
            parameter.fill_(1)
    constants = net.prepare(torch.randn(1, TEXT_TOKENS, CONFIG.text_dim, device=device))
    net.release()
    windows = height * width // 128**2
    state = KVState(
        layers=CONFIG.layers, windows=windows, dim=CONFIG.dim, dtype=torch.bfloat16, device=device
    )
    settings = Settings(
        topk_ratio=2 * 768 * 1280 / (height * width), attend=attend,
        slice_tokens=slice_tokens(windows),
    )  # fmt: skip
    case = Case(net, constants, state, settings, height, width)
    chunk(case, 6, 0)
    return case


def chunk(case: Case, frames: int = 2, position: int = 6) -> Tensor:
    latents, lq = _inputs(case.height, case.width, frames, case.state.device)
    made: Tensor = case.net(latents, lq, case.state, position, case.constants, case.settings)
    return made


@functools.cache
def _inputs(height: int, width: int, frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
    like = {"dtype": torch.bfloat16, "device": device}
    latents = torch.randn(1, CONFIG.channels, frames, height // 8, width // 8, **like)  # type: ignore[call-overload]
    lq = torch.randn(1, frames * height * width // 256, CONFIG.dim, **like)  # type: ignore[call-overload]
    return latents, lq


def milliseconds(work: Callable[[], object], repeat: int) -> tuple[float, float, float]:
    """Median, least and most, after two rounds that do not count."""
    times = []
    for _ in range(2 + repeat):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        began.record()
        work()
        ended.record()
        ended.synchronize()
        times.append(began.elapsed_time(ended))
    return statistics.median(times[2:]), min(times[2:]), max(times[2:])


# --- parts ---------------------------------------------------------------------------------------


def parts(case: Case, names: list[str]) -> Iterator[Row]:
    """Each for one block of the net."""
    device, t, dim = case.state.device, case.tokens, CONFIG.dim
    block: Block = case.net.blocks[0]  # type: ignore[assignment]
    constants = case.constants.blocks[0]
    x = torch.randn(t, dim, device=device, dtype=torch.bfloat16)
    own, cross = block.self_attn, block.cross_attn
    yield (
        "self attention: linears",
        lambda: [own.q(x), own.k(x), own.v(x), own.o(x)],
        8e-12 * t * dim**2,
    )
    yield "cross attention: linears", lambda: [cross.q(x), cross.o(x)], 4e-12 * t * dim**2
    yield "feed-forward", lambda: block.ffn(x), 4e-12 * t * dim * CONFIG.ffn_dim
    heads = x.view(t, CONFIG.heads, -1)
    queries = heads.transpose(0, 1)[None]
    yield (
        "cross attention: attention",
        lambda: F.scaled_dot_product_attention(queries, constants.text_keys, constants.text_values),
        4e-12 * t * TEXT_TOKENS * dim,
    )
    turns = grid_rotation(range(6, 8), case.height // 16, case.width // 16, 128, device)
    turn = turns.flatten(0, 2)
    yield "rotation of q and k", lambda: [rotate(heads, turn), rotate(heads, turn)], 0.0
    shift, scale = constants.modulation[0], constants.modulation[1]
    yield (
        "norms",
        lambda: [
            F.layer_norm(x, (dim,), scale, shift),
            own.norm_q(x),
            own.norm_k(x),
            block.norm3(x),
            cross.norm_q(x),
            F.layer_norm(x, (dim,), scale, shift),
        ],
        0.0,
    )
    yield from attention_parts(case, x, names)


def attention_parts(case: Case, queries: Tensor, names: list[str]) -> Iterator[Row]:
    n, device = case.windows, case.state.device
    with case.state.layer(0) as kv:
        pass
    for slab in range(case.state.capacity):
        kv.keys[slab].normal_(), kv.values[slab].normal_(), kv.key_means[slab].normal_(std=0.1)
    budget = block_budget(n, case.settings.topk_ratio)
    sight = Sight(
        heads=CONFIG.heads,
        budget=budget,
        local=local_mask(case.height // 128, case.width // 128, 11, device),
        columns=torch.arange(case.state.capacity * n, device=device),
        attend=lambda queries, *_: queries,
    )
    yield "rule: which blocks are kept", lambda: sight(queries, kv), 0.0
    tflop = 4e-12 * budget * BLOCK**2 * CONFIG.dim
    for name in names:
        seeing = replace(sight, attend=backends.BACKENDS[name])
        yield f"rule and attention: {name}", functools.partial(seeing, queries, kv), tflop


# --- table ---------------------------------------------------------------------------------------


def show(what: str, work: Callable[[], object], tflop: float, times: int, repeat: int) -> None:
    middle, least, most = (times * ms for ms in milliseconds(work, repeat))
    rate = f"{times * tflop / middle * 1e3:.0f}" if tflop else "-"
    print(f"| {what} | {middle:.1f} | {least:.1f} - {most:.1f} | {rate} |", flush=True)


def table(size: str, given: argparse.Namespace) -> None:
    device = torch.device(given.device)
    reasons = {name: backends.unusable(name, device) for name in backends.BACKENDS}
    usable = [name for name in given.backends if reasons[name] is None]
    for name in set(given.backends) - set(usable):
        print(f"\n{name} is left out: {reasons[name]}")
    best = given.fastest if reasons[given.fastest] is None else "reference"
    case = prepared(size, device, backends.BACKENDS[best])
    print(f"\n{size}, {case.tokens} tokens, {CONFIG.layers} blocks, {best} in the whole chunk; "
          f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}\n")  # fmt: skip
    print("| part | ms a chunk | least - most | TFLOP/s |")
    print("|---|---|---|---|")
    total = 0.0
    for what, work, tflop in parts(case, usable):
        repeat = 1 if what.endswith("reference") else given.repeat  # it takes seconds
        show(what, work, tflop, CONFIG.layers, repeat)
        total += tflop if "rule and" not in what or what.endswith(best) else 0
    total *= CONFIG.layers
    # what the parts have overwritten is numbers of the same kind
    torch.cuda.reset_peak_memory_stats(device)
    show("whole chunk", lambda: chunk(case), total, 1, given.repeat)
    peak = torch.cuda.max_memory_allocated(device) / MiB
    weights = sum(p.nbytes for p in case.net.parameters()) / MiB
    print(f"\npeak {peak:.0f} MiB, of it weights {weights:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--size", nargs="+", default=SIZES, help="height x width, multiples of 128")
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--backends", nargs="+", default=["flex"], choices=backends.BACKENDS)
    parser.add_argument("--fastest", default="flex", choices=backends.BACKENDS)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: nothing to measure")
        return
    with torch.inference_mode():
        for size in given.size:
            table(size, given)
            _inputs.cache_clear()
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
