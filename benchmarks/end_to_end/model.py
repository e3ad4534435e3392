"""The built-in model alone: frames per second on a device, frames already there.

python -m benchmarks.end_to_end.model [--device cpu|cuda:0]
"""

from __future__ import annotations

import argparse
import json
import time

import torch

from longtake.nets.lite import Lite, LiteConfig
from longtake.weights import checkpoint, files

CASES = [((320, 180), 4), ((640, 360), 2), ((640, 360), 4), ((1280, 720), 2), ((1920, 1080), 2)]


def rate(net: Lite, size: tuple[int, int], scale: int, device: str, seconds: float) -> float:
    """Frames per second, one after the other, after a warm-up."""
    frame = torch.rand(1, 3, size[1], size[0], device=device)
    frame = frame.contiguous(memory_format=torch.channels_last)
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    with torch.inference_mode():
        for _ in range(3):
            net(frame, scale)
        wait()  # type: ignore[no-untyped-call]
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            for _ in range(4):
                net(frame, scale)
            wait()  # type: ignore[no-untyped-call]
            done += 4
        return done / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    path = files.shipped("lite_faithful.safetensors")
    stored = json.loads(files.header(path)["__metadata__"]["config"])
    config = LiteConfig(
        width=stored["width"], depth=stored["depth"], scales=tuple(stored["scales"])
    )
    print(f"| input | scale | dtype | fps on {given.device} (torch {torch.__version__}, "
          f"{torch.get_num_threads()} threads) |")  # fmt: skip
    print("|---|---|---|---|")
    for dtype in (torch.bfloat16, torch.float32):
        net = checkpoint.load(lambda: Lite(config), path).float().trunk_to(dtype)
        net = net.to(memory_format=torch.channels_last).to(given.device)  # type: ignore[call-overload]
        for size, scale in CASES:
            if given.device == "cpu" and size[1] > 360:
                continue
            fps = rate(net, size, scale, given.device, given.seconds)
            shown = str(dtype).removeprefix("torch.")
            print(f"| {size[0]}x{size[1]} | x{scale} | {shown} | {fps:.1f} |", flush=True)


if __name__ == "__main__":
    main()
