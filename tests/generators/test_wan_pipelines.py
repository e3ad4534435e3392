"""Whole films against the diffusers library's pipelines, at every step and in pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from longtake.engines._parts import Parts
from longtake.generators._wan_decode import Decoding, decode
from longtake.generators._wan_image import look
from longtake.generators._wan_stream import Sampling, begin, denoise, prepare
from longtake.nets import schedules
from longtake.nets.clip_vision import prepared
from longtake.nets.schedules import Schedule
from longtake.nets.wan.block import Settings
from tests.generators.wan_models import CLIP, CPU, I2V, T2V, nets, opened, picture, theirs, words
from tests.nets.flashvsr.goldens import difference
from tests.nets.oracles import library
from tests.nets.wan.dits import ExactPhases

SIZE = (48, 32)
FRAMES = 9
STEPS = 4
SHIFT = 5.0


class Stretched:
    """CLIP's view of an image as the official code makes it; the library's cuts it to a square."""

    def __call__(self, images: Tensor, return_tensors: str) -> Any:
        pixels = prepared(images * 2 - 1, CLIP.image)
        return library("transformers").BatchFeature({"pixel_values": pixels})


def scheduler(sampler: str) -> tuple[Any, Schedule]:
    """The library's, and the levels it goes through."""
    diffusers = library("diffusers")
    if sampler == "unipc":
        made = diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT
        )
        return made, schedules.diffusers(STEPS, SHIFT)
    made = diffusers.FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    made.set_timesteps(STEPS)
    return made, Schedule(tuple(made.sigmas.tolist()), tuple(made.timesteps.tolist()))


def run(pipeline: Any, guidance: float, **given: Any) -> tuple[list[Tensor], np.ndarray]:
    """Latents behind each step, and frames [T, H, W, 3] in [0, 1]."""
    pipeline.set_progress_bar_config(disable=True)
    phases = ExactPhases(T2V.freq_dim)  # the library's are float32, as is officially not so
    pipeline.transformer.condition_embedder.timesteps_proj = phases
    latents: list[Tensor] = []

    def note(_: Any, step: int, time: Any, kept: dict[str, Tensor]) -> dict[str, Tensor]:
        latents.append(kept["latents"][0].clone())
        return {}

    width, height = SIZE
    made = pipeline(
        height=height, width=width, num_frames=FRAMES, num_inference_steps=STEPS,
        guidance_scale=guidance, prompt_embeds=filled(words(7)),
        negative_prompt_embeds=filled(words(2, 9)),
        latents=noise()[None], output_type="np", callback_on_step_end=note, **given,
    )  # fmt: skip
    return latents, made.frames[0]


def filled(text: Tensor) -> Tensor:
    return F.pad(text, (0, 0, 0, 512 - len(text)))[None]


def noise() -> Tensor:
    return begin(5, range(3), (SIZE[0] // 8, SIZE[1] // 8), CPU).latents


def ours(parts: Parts, how: Sampling, image: bool) -> tuple[list[Tensor], np.ndarray]:
    seen = look(parts, picture(*SIZE), FRAMES, CPU) if image else None
    conditions = prepare(parts, how, (words(7), words(2, 9)), seen, CPU)
    start = begin(5, range(3), (SIZE[0] // 8, SIZE[1] // 8), CPU)
    made = list(denoise(parts, conditions, how, start, CPU))
    clips = decode(parts, made[-1].latents, Decoding(), CPU)
    return [c.latents for c in made], np.concatenate([clip.pixels for clip in clips])


def compared(
    found: tuple[list[Tensor], np.ndarray], wanted: tuple[list[Tensor], np.ndarray]
) -> None:
    assert len(found[0]) == len(wanted[0]) == STEPS
    for a, b in zip(found[0], wanted[0], strict=True):
        assert difference(a, b) <= 1e-5
    assert difference(found[0][0], wanted[0][-1]) > 0.1  # the test can tell
    pixels = np.abs(found[1] - 255 * wanted[1])
    assert found[1].shape == wanted[1].shape == (FRAMES, SIZE[1], SIZE[0], 3)
    assert pixels.max() <= 0.51


@pytest.mark.parametrize(("sampler", "guidance"), [("unipc", 5.0), ("unipc", 1.0), ("euler", 6.0)])
def test_text_to_video(tmp_path: Path, sampler: str, guidance: float) -> None:
    modules = theirs(nets(T2V))
    other, schedule = scheduler(sampler)
    pipeline = library("diffusers").WanPipeline(
        tokenizer=None, text_encoder=None, vae=modules["vae"], scheduler=other,
        transformer=modules["transformer"],
    )  # fmt: skip
    how = Sampling(
        sampler=sampler, schedule=schedule, guidance=guidance, settings=Settings(chunk_tokens=32)
    )
    found = ours(opened(tmp_path, T2V), how, image=False)
    compared(found, run(pipeline, guidance))


def test_image_to_video(tmp_path: Path) -> None:
    modules = theirs(nets(I2V))
    other, schedule = scheduler("unipc")
    pipeline = library("diffusers").WanImageToVideoPipeline(
        tokenizer=None, text_encoder=None, vae=modules["vae"], scheduler=other,
        image_processor=Stretched(), image_encoder=modules["image"],
        transformer=modules["transformer"],
    )  # fmt: skip
    how = Sampling(sampler="unipc", schedule=schedule, guidance=5.0)
    parts = opened(tmp_path, I2V)
    image = torch.from_numpy(picture(*SIZE)).permute(2, 0, 1)[None].float() / 255
    compared(ours(parts, how, image=True), run(pipeline, 5.0, image=image))
