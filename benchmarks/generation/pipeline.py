"""A whole film of the 1.3B model from embeddings: ours, resident, against the diffusers library's
pipeline, resident, with the same nets' sizes, steps and guidance, in one run. And the decoder's
memory by length.

    python -m benchmarks.generation.pipeline [--steps 50] [--frames 81]

Values are drawn from a seed; `diffusers` must be installed for the comparison.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import time
from typing import Any

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import torch

from benchmarks.generation._seeded import GiB, missing, nets, onto, peak_of_device, settings
from longtake.engines._parts import Parts
from longtake.generators._wan_decode import Decoding, decode
from longtake.generators._wan_grid import latent_frames, latent_size
from longtake.generators._wan_stream import begin, denoise, prepare, sampling
from longtake.nets.wan.causal import arrange
from longtake.nets.wan.vae import VaeConfig, WanVae

SIZE = (832, 480)


def cleared() -> None:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def ours(steps: int, frames: int, device: str, texts: Any) -> dict[str, float]:
    cleared()
    torch.backends.cudnn.allow_tf32 = False
    conditioner, transformer = nets("t2v-1.3b", device)
    conditioner.to(device)
    onto(transformer, device)
    torch.manual_seed(0)
    vae = WanVae(VaeConfig(encoder=False)).eval()
    arrange(vae)
    parts = Parts({"conditioner": conditioner, "transformer": transformer, "vae": vae.to(device)})
    there = torch.device(device)
    how = sampling("unipc", steps, 5.0, 6.0, settings(transformer.config), together=True)
    start = begin(0, range(latent_frames(frames)), latent_size(SIZE), there)
    conditions = prepare(parts, how, texts, None, there)
    at = []
    now = start
    began = time.perf_counter()
    for step in denoise(parts, conditions, how, start, there):
        now = step
        at.append(time.perf_counter())
    middle = time.perf_counter()
    peak = peak_of_device(device)
    torch.cuda.reset_peak_memory_stats()
    count = sum(len(clip.pixels) for clip in decode(parts, now.latents, Decoding(), there))
    ended = time.perf_counter()
    assert count == frames
    return {
        "denoise": middle - began, "step": (at[-1] - at[0]) / (len(at) - 1),
        "decode": ended - middle, "total": ended - began, "peak": peak / GiB,
        "peak decode": peak_of_device(device) / GiB,
    }  # fmt: skip


def theirs(steps: int, frames: int, device: str, texts: Any) -> dict[str, float]:
    library: Any = importlib.import_module("diffusers")

    cleared()
    torch.manual_seed(0)
    with torch.device(device):
        transformer = library.WanTransformer3DModel(
            num_attention_heads=12, attention_head_dim=128, num_layers=30, ffn_dim=8960
        ).to(torch.bfloat16)
        vae = library.AutoencoderKLWan()
    pipe = library.WanPipeline(
        tokenizer=None, text_encoder=None, transformer=transformer.eval(), vae=vae.eval(),
        scheduler=library.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0
        ),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    at: list[float] = []

    def stepped(*arguments: Any) -> Any:
        torch.cuda.synchronize()
        at.append(time.perf_counter())
        return arguments[-1]

    began = time.perf_counter()
    with torch.no_grad():
        wanted, unwanted = (text.to(device, torch.bfloat16)[None] for text in texts)
        made = pipe(
            prompt_embeds=wanted, negative_prompt_embeds=unwanted, height=SIZE[1], width=SIZE[0],
            num_frames=frames, num_inference_steps=steps, guidance_scale=6.0, output_type="np",
            callback_on_step_end=stepped,
        )  # fmt: skip
    torch.cuda.synchronize()
    ended = time.perf_counter()
    assert made.frames.shape[1] == frames
    return {
        "denoise": at[-1] - began, "step": (at[-1] - at[0]) / (len(at) - 1),
        "decode": ended - at[-1], "total": ended - began, "peak": peak_of_device(device) / GiB,
        "peak decode": 0.0,
    }  # fmt: skip


def lengths(device: str) -> None:
    """The decoder's peak over films of growing length."""
    torch.manual_seed(0)
    vae = WanVae(VaeConfig(encoder=False)).eval()
    arrange(vae)
    parts = Parts({"vae": vae.to(device)})
    print("\n| frames decoded | peak VRAM GiB | s |\n|---|---|---|")
    for frames in (17, 81, 161):
        latents = torch.randn(16, latent_frames(frames), 60, 104)
        cleared()
        began = time.perf_counter()
        count = sum(len(c.pixels) for c in decode(parts, latents, Decoding(), torch.device(device)))
        took = time.perf_counter() - began
        print(f"| {count} | {peak_of_device(device) / GiB:.3f} | {took:.1f} |", flush=True)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--device", default="cuda:0")
    words.add_argument("--steps", type=int, default=50)
    words.add_argument("--frames", type=int, default=81)
    words.add_argument("--alone", action="store_true", help="without the library")
    given = words.parse_args()
    if missing(given.device):
        return
    texts = tuple(
        torch.randn(n, 4096, generator=torch.Generator().manual_seed(n)) for n in (512, 500)
    )
    print("| | denoise s | s a step | decode s | total s | peak VRAM GiB | in the decoder |")
    print("|---|---|---|---|---|---|---|")
    for name, work in [("ours", ours), ("diffusers", theirs)][: 1 if given.alone else 2]:
        work(2, 17, given.device, texts)  # kernels are chosen and loaded
        r = work(given.steps, given.frames, given.device, texts)
        times = " | ".join(f"{r[key]:.3f}" for key in ("denoise", "step", "decode", "total"))
        print(f"| {name} | {times} | {r['peak']:.2f} | {r['peak decode']:.2f} |", flush=True)
    cleared()
    lengths(given.device)


if __name__ == "__main__":
    main()
