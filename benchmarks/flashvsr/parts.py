"""Time and memory of FlashVSR's parts beside its DiT, for a steady chunk: 8 frames, 2 latents.

    python -m benchmarks.flashvsr.parts [--device cuda:0] [--size 768x1408 ...] [--only decoder]

Official sizes, random weights, bfloat16. The state is warm (two chunks went before). `ms` is the
median of `--runs` chunks and their spread; TFLOP are counted on meta tensors for what really runs,
2 per multiply-add. `peak` is what torch allocated at most during a chunk, weights, state, input and
output included; `weights` and `state` are parts of it. Writes a table to stdout; paste it with
machine and date into README.md beside this file.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from longtake.engines._color_fix import adain, wavelet
from longtake.nets.flashvsr.decoder import (
    DecoderConfig,
    DecoderState,
    MemBlock,
    SubPixel,
    TCDecoder,
    fused,
)
from longtake.nets.flashvsr.projector import Projector, ProjectorConfig
from longtake.nets.wan.causal import ChannelNorm, arrange
from longtake.nets.wan.tiles import TiledVae, Tiling
from longtake.nets.wan.vae import VaeConfig, WanVae

FRAMES, LATENTS, WARM = 8, 2, 2
MiB = 1 << 20

Chunk = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    part: str
    variant: str
    prepare: Callable[[int, int, str], tuple[Chunk, nn.Module | None, Any]]
    """(height, width, device) -> run a steady chunk, the net, its state."""


def made(build: Callable[[], nn.Module], device: str) -> Any:
    """The net with random weights of a size that keeps values near 1."""
    with torch.device("meta"):
        net = build()
    if device == "meta":
        return net.to(torch.bfloat16).eval()
    net = net.to(torch.bfloat16).to_empty(device=device).eval()
    for name, weight in net.named_parameters():
        if name.endswith("gamma"):
            weight.data.fill_(1)
        elif weight.ndim > 1:
            weight.data.normal_(std=weight[0].numel() ** -0.5)
        else:
            weight.data.zero_()
    return net


def noise(*shape: int, device: str) -> Tensor:
    if device == "meta":
        return torch.empty(shape, dtype=torch.bfloat16, device=device)
    return torch.randn(shape, dtype=torch.bfloat16, device=device).clamp_(-1, 1)


def projector(laid: bool, variant: Any) -> Any:
    def prepare(height: int, width: int, device: str) -> tuple[Chunk, nn.Module, Any]:
        net = made(lambda: Projector(ProjectorConfig(variant=variant)), device)
        if laid:
            arrange(net)
        frames = noise(1, 3, FRAMES, height, width, device=device)
        state = net.begin(frames[:, :, :1])
        return lambda: net(frames, state), net, state

    return prepare


def decoder(merge: bool, last: bool, rows: int | None = None, compiled: bool = False) -> Any:
    def prepare(height: int, width: int, device: str) -> tuple[Chunk, nn.Module, Any]:
        net: TCDecoder = made(lambda: TCDecoder(DecoderConfig()), device)
        net = fused(net) if merge else net
        if last:
            net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if compiled and device != "meta":
            compile_each(net, MemBlock, SubPixel)
        frames = noise(1, 3, FRAMES, height, width, device=device)
        latents = noise(1, 16, LATENTS, height // 8, width // 8, device=device)
        state = DecoderState()
        net(latents, frames[:, :, : FRAMES - 3], state, rows)
        return lambda: net(latents, frames, state, rows), net, state

    return prepare


def vae(laid: bool, tiled: bool = False, compiled: bool = False) -> Any:
    def prepare(height: int, width: int, device: str) -> tuple[Chunk, nn.Module, Any]:
        net: WanVae = made(lambda: WanVae(VaeConfig(encoder=False)), device)
        if laid:
            arrange(net)
        if compiled and device != "meta":
            compile_each(net, ChannelNorm)
        latents = noise(1, 16, LATENTS, height // 8, width // 8, device=device)
        decode = TiledVae(vae=net, tiling=Tiling()).decode if tiled else net.decode
        state: dict[Any, Any] = {}

        def chunk() -> None:
            for latent in latents.unbind(2):
                for _ in decode(latent, state):
                    pass

        return chunk, net, state

    return prepare


def colors(fix: Callable[[Tensor, Tensor], Tensor]) -> Any:
    def prepare(height: int, width: int, device: str) -> tuple[Chunk, None, None]:
        frames, source = (noise(1, 3, FRAMES, height, width, device=device) for _ in range(2))
        return lambda: fix(frames, source), None, None

    return prepare


def compile_each(net: nn.Module, *kinds: type[nn.Module]) -> None:
    torch._dynamo.config.recompile_limit = 64  # one for each shape and width; the default gives up
    for module in net.modules():
        if isinstance(module, kinds):
            module.compile(dynamic=False)


CASES = [
    Case("projector", "causal, as loaded", projector(False, "causal")),
    Case("projector", "causal, arranged", projector(True, "causal")),
    Case("projector", "buffer, arranged", projector(True, "buffer")),
    Case("decoder", "plain", decoder(False, False)),
    Case("decoder", "plain, channels last", decoder(False, True)),
    Case("decoder", "plain, channels last, bands of 128 rows", decoder(False, True, 128)),
    Case("decoder", "plain, channels last, compiled", decoder(False, True, None, True)),
    Case("decoder", "fused", decoder(True, False)),
    Case("decoder", "fused, channels last", decoder(True, True)),
    Case("decoder", "fused, channels last, bands of 128 rows", decoder(True, True, 128)),
    Case("decoder", "fused, channels last, compiled", decoder(True, True, None, True)),
    Case("vae", "as loaded", vae(False)),
    Case("vae", "arranged", vae(True)),
    Case("vae", "arranged, compiled norms", vae(True, compiled=True)),
    Case("vae", "arranged, tiled", vae(True, tiled=True)),
    Case("colour fix", "adain", colors(adain)),
    Case("colour fix", "wavelet", colors(wavelet)),
]


def tensors(state: Any) -> Iterator[Tensor]:
    """All tensors in a state of any kind."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict):
        yield from tensors(tuple(state.values()))
    elif isinstance(state, tuple):
        for inner in state:
            yield from tensors(inner)
    elif state is not None:
        yield from tensors(tuple(getattr(state, name) for name in state.__slots__))


def occupied(found: Iterator[Tensor]) -> int:
    """Bytes; what several tensors share is counted once."""
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in found}
    return sum(storages.values())


def tera_operations(case: Case, height: int, width: int) -> float:
    """TFLOP of a steady chunk."""
    chunk, _, _ = case.prepare(height, width, "meta")
    for _ in range(WARM):
        chunk()
    with FlopCounterMode(display=False) as counted:
        chunk()
    return float(counted.get_total_flops()) / 1e12


def timed(chunk: Chunk, runs: int) -> list[float]:
    """Milliseconds of each run on the current CUDA device."""
    event: Any = torch.cuda.Event
    taken = []
    for _ in range(runs):
        start, stop = event(enable_timing=True), event(enable_timing=True)
        start.record()
        chunk()
        stop.record()
        stop.synchronize()
        taken.append(start.elapsed_time(stop))
    return taken


def row(case: Case, height: int, width: int, device: str, runs: int) -> list[str]:
    """The cells of a case. The device must be free of other cases' tensors."""
    operations = tera_operations(case, height, width)
    chunk, net, state = case.prepare(height, width, device)
    for _ in range(WARM):
        chunk()
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    taken = timed(chunk, runs)
    peak = torch.cuda.max_memory_allocated(device)
    middle = statistics.median(taken)
    return [
        f"{height}x{width}", case.part, case.variant,
        f"{middle:.1f} ({min(taken):.1f}-{max(taken):.1f})", f"{middle / FRAMES:.2f}",
        f"{operations:.2f}", f"{operations / middle * 1000:.0f}", f"{peak / MiB:.0f}",
        f"{occupied(net.parameters() if net else iter(())) / MiB:.0f}",
        f"{occupied(tensors(state)) / MiB:.0f}",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--size", nargs="+", default=["768x1408", "1152x1920"], help="HxW, px")
    parser.add_argument("--only", choices=sorted({case.part for case in CASES}))
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--cudnn-benchmark", action="store_true", help="let cuDNN try algorithms")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing to measure")
        return
    torch.cuda.set_device(given.device)
    torch.backends.cudnn.benchmark = given.cudnn_benchmark
    torch.manual_seed(0)
    name, benchmark = torch.cuda.get_device_name(given.device), given.cudnn_benchmark
    print(f"{name}, torch {torch.__version__}, cudnn.benchmark {benchmark}\n")
    print("| size | part | variant | ms per chunk | ms per frame | TFLOP | TFLOP/s | peak MiB "
          "| weights | state |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for size in given.size:
        height, width = map(int, size.split("x"))
        for case in CASES:
            if given.only in (None, case.part):
                with torch.no_grad():
                    cells = row(case, height, width, given.device, given.runs)
                print(f"| {' | '.join(cells)} |", flush=True)
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
