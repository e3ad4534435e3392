"""FlashVSR as an engine: the official numbers, and streams of any length, size and cut."""

from __future__ import annotations

import signal
from dataclasses import replace
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from longtake.core.errors import BadInput, Usage
from longtake.core.knobs import settle
from longtake.core.media import Clip
from longtake.core.plan import Footprint
from longtake.engines import _flashvsr_files as files
from longtake.engines import _flashvsr_memory as memory
from longtake.engines._flashvsr_frames import Front, bicubic
from longtake.engines._flashvsr_load import LONGEST_OFFICIAL
from longtake.engines._flashvsr_schedule import AHEAD, chunks, made_of, padded
from longtake.engines._flashvsr_stream import Model
from longtake.engines.flashvsr import FlashVSRKnobs, plugin
from longtake.nets.flashvsr import needs
from tests.engines import tiny_flashvsr as tiny
from tests.engines.flashvsr_models import official_model, recorded, watched
from tests.engines.tiny_flashvsr import film, opened, planned
from tests.media import films
from tests.nets.flashvsr.goldens import SMALL, difference, golden
from tests.plans import a_gpu, a_machine

PIPES = ("pipe_tiny_128_v10", "pipe_tiny_256x384_v11", "pipe_tiny_384x256_v10",
         "pipe_full_128_v11", "pipe_full_128_v10_tiled")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("weights") / "flashvsr-v1.1")


@pytest.fixture(scope="module")
def model(folder):
    with opened(planned(folder)) as model:
        yield model


def clips(frames: np.ndarray, size: int = 4, start: int = 0) -> list[Clip]:
    return [Clip(pixels=frames[i : i + size], start=start + i) for i in range(0, len(frames), size)]


def upscaled(model: Model, frames: np.ndarray, size: int = 4, start: int = 0) -> np.ndarray:
    """All frames; they come in order and without a gap."""
    made = list(model.upscale(clips(frames, size, start)))
    assert [c.start for c in made] == [start, *(c.stop for c in made[:-1])]
    return np.concatenate([c.pixels for c in made])


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 20 * np.log10(255 / max(float(np.sqrt(((a.astype(float) - b) ** 2).mean())), 1e-9))


# --- schedule ------------------------------------------------------------------------------------


@given(st.integers(1, 20_000))
def test_the_schedule_is_the_official_one(frames) -> None:
    looked_at = padded(frames)
    assert looked_at == max(25, 8 * -(-(frames + 3) // 8) + 1)
    assert looked_at - 4 >= frames
    assert looked_at - frames <= 8 + AHEAD or frames < 21


def test_chunks_tile_latents_and_frames() -> None:
    found = list(islice(chunks(), 40))
    for name in ("latents", "seen", "made"):
        runs = [getattr(c, name) for c in found]
        assert all(a.stop == b.start for a, b in pairwise(runs))
    for number, c in enumerate(found[1:], 1):  # the official code's arithmetic
        assert c.latents == range(2 * number + 4, 2 * number + 6)
        assert c.seen == range(8 * number + 17, 8 * number + 25)
        assert c.made == range(8 * number + 13, 8 * number + 21)
        assert [f for i in c.latents for f in made_of(i)] == list(c.made)
    assert (found[0].latents, found[0].seen, found[0].made) == (range(6), range(1, 25), range(21))


# --- the official numbers ------------------------------------------------------------------------


@pytest.mark.parametrize("name", PIPES)
def test_whole_pipelines_are_the_official_ones(name) -> None:
    """Latents, kept blocks and frames; the last four frames of a clip are looked at only."""
    stored, about = golden(name)
    latents: list[torch.Tensor] = []
    kept: list[torch.Tensor] = []
    model = watched(recorded(official_model(stored, about), latents.append), kept.append)
    made = upscaled(model, stored["clip_u8"].numpy(), 5)[: about["frames_out"]]
    wanted = stored["latents_final"]
    assert difference(torch.cat(latents, 2)[:, :, : wanted.shape[2]], wanted) <= 1e-5
    masks = [stored[key] for key in sorted(stored) if key.startswith("mask")]
    for mask in masks:
        slabs = mask.shape[2] // (about["H"] * about["W"] // 128**2)
        ours = torch.cat([kept.pop(0) for _ in range(slabs)], dim=1)
        assert torch.equal(ours, mask[0])
    step = about["subsample"]
    floats = torch.from_numpy(made.astype(np.float32) / 65535 * 2 - 1).permute(3, 0, 1, 2)
    at = slice(step // 2, None, step)
    assert (floats[..., at, at] - stored["frames"]).abs().max() <= 1e-4


@pytest.mark.parametrize("mode", ["tiny", "full"])
def test_frames_are_what_they_were(folder, mode) -> None:
    """Second-hand: computed by this code when it agreed with the official outputs. Processors
    differ by 2e-4: random nets magnify last bits."""
    stored, _ = golden("pipe", SMALL)
    with opened(planned(folder, mode=mode, bits=16)) as model:
        made = upscaled(model, film(29))[:, ::8, ::8].astype(np.float32) / 65535
    assert np.abs(made - stored[mode].numpy()).max() <= 5e-4


# --- streams -------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 5, 20, 21, 22, 29, 30])
def test_as_many_frames_as_were_given(model, frames) -> None:
    assert upscaled(model, film(frames), start=7).shape == (frames, 80, 96, 3)


def test_nothing_at_all(model) -> None:
    assert list(model.upscale([])) == []


def test_clip_sizes_change_nothing(model) -> None:
    whole = upscaled(model, film(34), 34)
    for size in (1, 7):
        assert (upscaled(model, film(34), size) == whole).all()


def test_streams_are_independent_and_memory_is_bounded(model) -> None:
    """Two streams in turn are two streams; no more frames are taken than a chunk needs."""
    a, b = film(37), film(37, seed=1)
    taken = [0]

    def counted():
        for clip in clips(a, 1):
            taken[0] += 1
            yield clip

    streams = model.upscale(counted()), model.upscale(clips(b))
    made = []
    for pair in zip(*streams, strict=True):
        made.append(pair)
        assert taken[0] - pair[0].start <= 25
    for number, frames in enumerate((a, b)):
        alone = upscaled(model, frames)
        assert (np.concatenate([pair[number].pixels for pair in made]) == alone).all()


def test_the_look_ahead_suffices(model) -> None:
    """What comes later than `tail` frames behind a frame does not change it."""
    whole = upscaled(model, film(60))
    for stop in (22, 29, 30, 37):
        part = upscaled(model, film(60)[: stop + AHEAD])
        assert (part[:stop] == whole[:stop]).all(), stop


def test_a_cut_stream_is_close_after_its_lead(model) -> None:
    """The noise of a place is the same, so a warm restart comes close; a cold one does not."""
    frames = film(90)
    whole = upscaled(model, frames)
    warm = upscaled(model, frames[40:], start=40)
    other = upscaled(model, frames[41:], start=41)  # off the grid: other noise
    near, far = psnr(warm[24:], whole[64:]), psnr(other[23:], whole[64:])
    assert near > far + 3, (near, far)


@pytest.mark.parametrize(
    ("scale", "size"), [(Fraction(3, 2), (97, 65)), (Fraction(3), (33, 49)), (Fraction(4), (7, 5))]
)
def test_odd_sizes(folder, scale, size) -> None:
    with opened(planned(folder, size, scale)) as model:
        made = upscaled(model, film(3, size))
    assert made.shape == (3, round(size[1] * scale), round(size[0] * scale), 3)


def test_deep_frames_keep_their_depth(folder) -> None:
    with opened(planned(folder, bits=10)) as model:
        made = upscaled(model, film(2).astype(np.uint16) * 257)
    assert made.dtype == np.uint16
    assert len(np.unique(made)) > 256


def test_colours_are_those_of_the_source(model) -> None:
    """Mean and spread of each channel, not counting the border that fills the windows."""
    frames = film(5) // 4 + 96  # so that little is clipped
    made = upscaled(model, frames).astype(float)
    for measure in (np.mean, np.std):
        off = measure(made, axis=(1, 2)) - measure(frames.astype(float), axis=(1, 2))
        assert np.abs(off).max() < 3


@pytest.mark.parametrize(
    "change",
    [{"mode": "full"}, {"version": "1.0"}, {"sparse_ratio": 0.1}, {"kv_ratio": 1},
     {"local_range": 1}, {"color_fix": "wavelet"}, {"color_fix": "none"},
     {"front_end": "official"}, {"noise": "official"}, {"seed": 1}],
)  # fmt: skip
def test_every_knob_does_something(folder, plain, tmp_path, change) -> None:
    where = tiny.make(tmp_path / "flashvsr-v1.0", "1.0") if "version" in change else folder
    assert (made_with(where, **change) != plain).any()


@pytest.fixture(scope="module")
def plain(folder) -> np.ndarray:
    return made_with(folder)


def made_with(folder: Path, seed: int = 0, **knobs: object) -> np.ndarray:
    """Two chunks of six windows."""
    plan = planned(folder, (144, 80), **knobs)
    with opened(replace(plan, recipe=replace(plan.recipe, seed=seed))) as model:
        return upscaled(model, film(22, (144, 80)))


def test_official_noise_is_torchs_and_for_short_streams(folder) -> None:
    with opened(planned(folder, noise="official")) as model:
        upscaled(model, film(3))
        long = np.zeros((LONGEST_OFFICIAL + 1, 40, 48, 3), np.uint8)
        with pytest.raises(Usage, match="noise=position"):
            next(iter(model.upscale(clips(long))))


# --- the front end -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(122, 68), (243, 135), (30, 20)])
def test_the_front_end_is_pillows(size) -> None:
    frame = film(1, (81, 45))[0]
    official = Front(size=size, device="cpu", dtype=torch.float32, official=True)(frame)
    wanted = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
    width, height = size
    ours = (official[0, :, :height, :width] + 1) * 127.5
    assert (ours.permute(1, 2, 0).round().numpy() == wanted).all()
    red = frame[..., 0].astype(np.float32)
    precise = np.asarray(Image.fromarray(red).resize(size, Image.Resampling.BICUBIC))
    assert (
        np.abs(bicubic(torch.from_numpy(red)[None, None], size)[0, 0].numpy() - precise).max()
        < 0.01
    )
    exact = Front(size=size, device="cpu", dtype=torch.bfloat16, official=False)(frame)
    assert exact.shape[-1] % 128 == exact.shape[-2] % 128 == 0
    assert torch.equal(
        exact[..., width:], exact[..., width - 1 : width].expand_as(exact[..., width:])
    )


# --- memory and files ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["tiny", "full"])
def test_predicted_weights_and_state_are_what_is_held(folder, mode) -> None:
    plan = planned(folder, (144, 80), mode=mode)
    shapes = files.shapes(files.find(plan.recipe.knobs), plan.recipe.knobs)
    said = memory.footprint(plan.geometry, plan.recipe, plan.placement, shapes, Footprint())
    with opened(plan) as model:
        tensors = [*model.parts.parameters(), model.constants.head]
        for block in model.constants.blocks:
            tensors += [block.modulation, block.text_keys, block.text_values]
        assert said.weights <= sum(x.nbytes for x in tensors) <= said.weights + 1000
        held = held_after(model)
    assert held <= said.state <= 1.01 * held
    assert said.block == sum(p.nbytes for p in model.parts["dit"].blocks[0].parameters())


def held_after(model: Model) -> int:
    """Bytes of a stream's state after its second chunk."""
    kv, decode = model.kv(), model.decoding()
    tapped = replace(model, kv=lambda: kv, decoding=lambda: decode)
    lanes, begin = [], type(model)._begin

    def remembered(self, window, given) -> None:
        lanes.extend(given)
        begin(self, window, given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model), "_begin", remembered)
        list(tapped.upscale(clips(film(29, (144, 80)))))
    (state,) = [lane.projected for lane in lanes]
    kept = [*kv._keys, *kv._values, *kv._means, *state.cells, *state.features]
    if hasattr(decode, "_history"):
        kept += [x for frames in decode._history.values() for x in frames]
    else:
        kept += decode._state.past.values()
    return sum(x.numel() * x.element_size() for x in kept)


def test_official_weights_are_counted_without_reading_them() -> None:
    """An 8 GiB card holds the nets: 2.5 GB of transformer, 0.6 GB of projection, 0.1 GB decoder."""
    tables = {f.role: f.table() for f in files.catalog.model("flashvsr-v1.1").files}
    shapes = files.Shapes(
        transformer=tables["transformer"], projection=tables["projection"],
        decoder=tables["decoder"], prompt=tables["prompt"], heads=12,
    )  # fmt: skip
    nets = memory._nets(shapes, 2)
    assert 3.1e9 < sum(sum(nets[name]) for name in ("dit", "projector", "decoder")) < 3.4e9


def test_attention_follows_from_the_machine(monkeypatch, tmp_path) -> None:
    """The plan says which it is, and why where it is not the fast one."""
    asked = settle(FlashVSRKnobs, {})
    monkeypatch.setenv("PATH", str(tmp_path))  # no compiler
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(needs.importlib.util, "find_spec", lambda name: object())

    def decided(device: str, **how) -> tuple[str, str]:
        knobs, notes = plugin.decide(asked, a_machine(**how), device)
        assert knobs == {**asked, "attention": knobs["attention"]}
        return knobs["attention"], " ".join(notes)

    assert decided("cpu") == ("reference", "")
    attention, told = decided("cuda:0", gpus=(a_gpu(),))
    assert attention == "gathered"
    assert "Triton needs a C compiler" in told
    assert decided("cuda:0", gpus=(a_gpu(),), here=False) == ("flex", "")
    attention, told = decided("cuda:0", gpus=(a_gpu(capability=(7, 5)),), here=False)
    assert attention == "gathered"
    assert "this device has 7.5" in told
    monkeypatch.setenv("CC", "sh")
    monkeypatch.setenv("PATH", "/bin")
    assert decided("cuda:0", gpus=(a_gpu(),)) == ("flex", "")
    fixed = {**asked, "attention": "reference"}
    assert plugin.decide(fixed, a_machine(gpus=(a_gpu(),)), "cuda:0") == (fixed, ())


def test_missing_weights_name_the_command(job, tmp_path) -> None:
    source = films.make(tmp_path / "in.mp4", frames=2, size=(96, 64))
    done = job(
        "upscale", source, tmp_path / "out.mp4", "--engine", "flashvsr",
        LONGTAKE_WEIGHTS=str(tmp_path),
    )  # fmt: skip
    assert done.code == 2
    assert done.message.endswith("Run: longtake weights pull flashvsr-v1.1")


def test_weights_of_another_version_are_refused(folder) -> None:
    with pytest.raises(BadInput, match=r"v1\.1.*v1\.0"):
        planned(folder, version="1.0")


# --- through the command line --------------------------------------------------------------------


def test_a_job_that_was_killed_ends_with_the_same_bytes(job, folder, tmp_path) -> None:
    frames = film(168, (32, 24))
    source = films.make(tmp_path / "in.mkv", frames=168, size=(32, 24), codec="ffv1",
                        pixel_format="yuv444p", picture=lambda i: frames[i])  # fmt: skip
    common = (
        "--engine", "flashvsr", "--scale", "2", "--codec", "ffv1", "--set", f"folder={folder}",
        "--set", "lead=1", "--set", "segment_frames=160",
    )  # fmt: skip
    straight, target = tmp_path / "straight.mkv", tmp_path / "out.mkv"
    done = job("upscale", source, straight, *common)
    assert done.code == 0, done.events[-1]
    job.stopped(
        lambda e: e["event"] == "segment_done", signal.SIGKILL, "upscale", source, target, *common
    )
    assert not target.exists()
    again = job("upscale", source, target, *common)
    assert again.code == 0, again.events[-1]
    assert target.read_bytes() == straight.read_bytes()


def test_what_is_no_number_is_refused(job, folder, tmp_path) -> None:
    source = films.make(tmp_path / "in.mp4", frames=2, size=(96, 64))
    done = job(
        "upscale", source, tmp_path / "out.mp4", "--engine", "flashvsr", "--scale", "2",
        "--set", f"folder={folder}", LONGTAKE_FAULT="nan:values:9",
    )  # fmt: skip
    assert done.code == 1
    assert "not numbers" in done.message
