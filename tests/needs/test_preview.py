"""N32: try 3 seconds and compare before a 10-hour run. The frames are those of the full run."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import av
import numpy as np
import pytest

from longtake.core.plan import Segment
from longtake.journal import load_plan
from longtake.runtime.variants import wanted
from tests.media import films

LOSSLESS = ("--codec", "ffv1", "--scale", "2")
SIZE = (96, 64)
SHOTS = (55, 70, 90, 61, 60, 64)  # frames: cuts at 55, 125, 215, 276, 336


def pixels(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """400 frames with B-frames and sound in shots of all lengths; 16 s."""
    still, moving = films.shots(SIZE, SHOTS), films.texture((96, 80))

    def picture(number: int) -> films.RGB:  # without a counter, which looks like cuts
        mixed = 3 * still(number).astype(int) + moving(number)[12:76]
        return (mixed // 4).astype(np.uint8)

    path = tmp_path_factory.mktemp("film") / "film.mkv"
    return films.make(path, frames=400, size=SIZE, b_frames=2, gop=20, sound=True, picture=picture)


@pytest.fixture(scope="module")
def full(film, tmp_path_factory):
    """The whole film's pixels by engine and flags; made once for each."""
    from tests.jobs import PLUGINS, Command

    folder = tmp_path_factory.mktemp("full")
    job = Command({"LONGTAKE_CACHE": str(folder / "cache"), "PYTHONPATH": str(PLUGINS)})
    known: dict[tuple, np.ndarray] = {}

    def run(*flags: object) -> np.ndarray:
        if flags not in known:
            target = folder / f"{len(known)}.mkv"
            done = job("upscale", film, target, *flags)
            assert done.code == 0, done.events[-1]
            known[flags] = pixels(target)
        return known[flags]

    return run


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


RANGES = [
    (("--at", "0", "--len", "0.4"), range(10)),
    (("--at", "0:02", "--len", "1"), range(50, 75)),  # over a cut
    (("--at", "3.2", "--len", "1"), range(80, 105)),  # within a shot, over the end of a segment
    (("--at", "f270", "--len", "0.4"), range(270, 280)),
    (("--at", "15.6", "--len", "9"), range(390, 400)),  # the film ends first
]


@pytest.mark.parametrize("engine", ["resize", "echo:endless=true"])
@pytest.mark.parametrize(("where", "frames"), RANGES)
def test_frames_are_those_of_the_full_run(job, film, full, tmp_path, where, frames, engine):
    """Bit for bit before a lossy encoder; also for an engine whose frames depend on all frames
    since its segment's warm-up began, so that the film's own segments must be known."""
    name, *knobs = engine.split(":")
    whole = full("--engine", name, *(["--set", *knobs] if knobs else []), *LOSSLESS)
    done = job("preview", film, tmp_path / "out", "--variants", engine, *where, *LOSSLESS)
    assert done.code == 0, done.events[-1]
    assert (done.last["first"], done.last["stop"]) == (frames.start, frames.stop)
    clip = tmp_path / "out" / summary(tmp_path / "out")["variants"][0]["clip"]
    assert np.array_equal(pixels(clip), whole[frames.start : frames.stop])


def test_the_endless_engine_would_tell_wrong_segments_apart(full) -> None:
    """The test above can fail: a warm-up of another length gives other pixels."""
    flags = ("--engine", "echo", "--set", "endless=true")
    assert not np.array_equal(full(*flags, *LOSSLESS), full("--engine", "echo", *LOSSLESS))


def test_frames_of_the_built_in_model_in_both_looks(job, tmp_path) -> None:
    source = films.make(tmp_path / "in.mp4", frames=24, size=(64, 48), gop=6, b_frames=2)
    out = tmp_path / "out"
    words = ("--variants", "lite,lite:look=crisp", "--at", "f12", "--len", "0.2", *LOSSLESS)
    done = job("preview", source, out, *words)
    assert done.code == 0, done.events[-1]
    faithful, crisp = (pixels(out / f"{n}.mkv") for n in ("1-lite", "2-lite-look-crisp"))
    assert not np.array_equal(faithful, crisp)
    target = tmp_path / "full.mkv"
    assert job("upscale", source, target, "--set", "look=crisp", *LOSSLESS).code == 0
    assert np.array_equal(crisp, pixels(target)[12:17])


@pytest.mark.parametrize("suffix", [".ts", ".avi"])
def test_frames_of_an_interlaced_source_in_other_containers(job, tmp_path, suffix) -> None:
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    how = {} if suffix == ".avi" else {"interlaced": "tff"}
    source = films.make(tmp_path / f"in{suffix}", frames=120, codec=codec, b_frames=2, **how)
    flags = ("--engine", "resize", "--deinterlace", "bwdif", *LOSSLESS)
    assert job("upscale", source, tmp_path / "full.mkv", *flags).code == 0
    done = job("preview", source, tmp_path / "out", *flags, "--at", "3", "--len", "0.6")
    assert done.code == 0, done.events[-1]
    assert np.array_equal(
        pixels(tmp_path / "out" / "1-resize.mkv"), pixels(tmp_path / "full.mkv")[75:90]
    )


def test_frames_of_a_folder_of_pictures(job, tmp_path) -> None:
    source = films.folder(tmp_path / "in", range(7, 67))
    flags = ("--engine", "echo", "--rate", "25", *LOSSLESS)
    assert job("upscale", source, tmp_path / "full.mkv", *flags).code == 0
    done = job("preview", source, tmp_path / "out", *flags, "--at", "1.2", "--len", "0.4")
    assert done.code == 0, done.events[-1]
    assert np.array_equal(
        pixels(tmp_path / "out" / "1-echo.mkv"), pixels(tmp_path / "full.mkv")[30:40]
    )


def test_after_a_lossy_encoder_whole_segments_are_equal_too(job, film, tmp_path) -> None:
    """x264's frames depend on where its segment begins. A range of whole segments is coded alike;
    of others the pictures before the encoder are equal, and the coded ones near."""
    flags = ("--engine", "echo", "--scale", "2")
    assert job("upscale", film, tmp_path / "full.mkv", *flags, "--keep").code == 0
    plan = load_plan(tmp_path / "full.mkv.longtake")
    assert plan is not None
    whole = pixels(tmp_path / "full.mkv")
    assert plan.cuts == (55, 125, 215, 276, 336)
    segment = next(s for s in plan.segments if s.lead < s.start)
    for number, (first, length) in enumerate(
        [(segment.start, segment.stop - segment.start), (segment.start + 3, 10)]
    ):
        out = tmp_path / f"out{number}"
        done = job("preview", film, out, *flags, "--at", f"f{first}", "--len", length / 25)
        assert (done.code, done.last["stop"]) == (0, first + length), done.events[-1]
        made, there = pixels(out / "1-echo.mp4"), whole[first : first + length]
        if number == 0:
            assert np.array_equal(made, there)
        else:
            error = made.astype(float) - there
            assert 10 * np.log10(255**2 / np.mean(error**2)) > 38


def test_only_the_part_in_question_is_decoded(job, tmp_path) -> None:
    source = films.make(tmp_path / "long.mp4", frames=2000, size=(32, 32), gop=25)
    done = job("preview", source, tmp_path / "out", "--variants", "resize", "--at", "f1500")
    assert done.code == 0, done.events[-1]
    assert (done.last["first"], done.last["stop"]) == (1500, 1575)
    decoded = max(e["frames"] for e in done.named("analysed"))
    assert 75 < decoded < 600
    read = films.read_counter(pixels(tmp_path / "out" / "1-resize.mp4")[0])
    assert read == 1500


def test_several_variants_side_by_side_with_figures_and_a_page(
    job, longtake, film, tmp_path
) -> None:
    out = tmp_path / "out"
    variants = "resize,resize:kernel=bilinear,echo:memory=false"
    done = job(
        "preview", film, out, "--at", "2", "--len", "1.2", "--variants", variants, "--scale", "2"
    )
    assert done.code == 0, done.events[-1]
    assert [e["variant"] for e in done.named("variant_made")] == [
        "resize", "resize kernel=bilinear", "echo memory=false",
    ]  # fmt: skip
    told = summary(out)
    clips = [v["clip"] for v in told["variants"]]
    assert {p.name for p in out.iterdir()} == {
        "report.html", "summary.json", "frames.csv", "preview.mp4", "stills", *clips,
    }  # fmt: skip
    assert not (tmp_path / "out.longtake").exists()
    together = pixels(out / "preview.mp4")
    assert together.shape == (30, 2 * 128, 2 * 192, 3)  # two rows of two
    for top in (0, 128):
        for left in (0, 192):
            view = together[:, top + 12 : top + 128, left : left + 192]  # labels stand above
            assert view.std() > 10
    sharp, soft, _ = (v["fidelity_psnr_y"] for v in told["variants"])
    assert sharp > soft > 20
    for variant in told["variants"]:
        assert variant["fps"] > 0
        assert variant["predicted_seconds"] > 0
        assert variant["predicted_disk"] > 0
        assert variant["predicted_ram"] > 1 << 20
    with av.open(str(out / clips[0])) as clip:
        assert not clip.streams.audio
    words = ("plan", "upscale", film, tmp_path / "x.mp4", "--engine", "resize", "--scale", "2")
    plan = json.loads(longtake(*words, "--json", **job.environment).stdout)
    assert plan["time"]["total"] > 0  # what the preview has taught


def test_fidelity_is_that_of_libavfilter_on_the_clip(job, film, tmp_path) -> None:
    """The same numbers as `compare` finds between the source's frames and the clip."""
    out = tmp_path / "out"
    flags = ("--engine", "resize", "--scale", "2")
    assert job("preview", film, out, "--len", "1", *flags).code == 0
    done = job("compare", film, out / "1-resize.mp4", tmp_path / "cmp", "--layout", "none")
    assert done.code == 0, done.events[-1]
    told = summary(out)["variants"][0]
    assert done.last["psnr_y"] == pytest.approx(told["fidelity_psnr_y"], abs=1e-4)
    assert done.last["ssim_y"] == pytest.approx(told["fidelity_ssim_y"], abs=1e-5)


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--at", "17"), 2, "begins behind the end"),
        (("--at", "f400"), 2, "begins behind the end"),
        (("--variants", "resize,nothing"), 2, "nothing"),
        (("--variants", "resize,"), 2, "names of engines"),
        (("--variants", "echo", "--set", "kernel=bicubic"), 2, "not among the variants"),
        (("--variants", "resize:kernel=square"), 2, "kernel=square"),
        (("--variants", "resize,resize:kernel=lanczos"), 2, "one and the same"),
        (("--codec", "png"), 2, "makes no film"),
        (("--ram", "1M"), 4, "RAM"),
    ],
)
def test_what_cannot_be_previewed_is_said(job, film, tmp_path, flags, code, words) -> None:
    done = job("preview", film, tmp_path / "out", "--engine", "resize", "--scale", "2", *flags)
    assert done.code == code, done.events
    assert words in done.message
    assert list(tmp_path.glob("out*")) == []


def test_a_moment_and_a_length_must_make_sense(longtake, film) -> None:
    for flags in (("--at", "1:99:00"), ("--at", "soon"), ("--len", "0"), ("--len", "601")):
        done = longtake("preview", film, *flags)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_results_are_replaced_only_when_told_and_only_our_own(job, film, tmp_path) -> None:
    out = tmp_path / "out"
    flags = ("--engine", "resize", "--scale", "2", "--len", "0.4")
    assert job("preview", film, out, *flags).code == 0
    before = (out / "summary.json").read_bytes()
    again = job("preview", film, out, *flags, "--at", "1")
    assert again.code == 2
    assert "--restart" in again.message
    assert (out / "summary.json").read_bytes() == before
    assert job("preview", film, out, *flags, "--at", "1", "--restart").code == 0
    assert summary(out)["first"] == 25
    foreign = tmp_path / "holiday"
    foreign.mkdir()
    (foreign / "photo.jpg").write_bytes(b"x")
    refused = job("preview", film, foreign, *flags, "--restart")
    assert refused.code == 2
    assert [p.name for p in foreign.iterdir()] == ["photo.jpg"]


def test_a_stopped_preview_goes_on(job, film, tmp_path) -> None:
    out = tmp_path / "out"
    words = ("preview", film, out, "--variants", "resize,echo", "--at", "2", *LOSSLESS)
    stopped = job.stopped(lambda e: e["event"] == "variant_made", signal.SIGKILL, *words)
    assert stopped.code == -signal.SIGKILL
    assert not out.exists()
    kept = list((tmp_path / "out.longtake").glob("*.longtake/segments/*.mp4"))
    times = {p: p.stat().st_mtime_ns for p in kept}
    assert times
    done = job(*words)
    assert done.code == 0, done.events[-1]
    assert [v["fps"] is None for v in summary(out)["variants"]] == [True, False]
    assert not (tmp_path / "out.longtake").exists()


def test_wanted_segments_keep_leads_tails_and_cuts() -> None:
    table = (
        Segment(index=0, lead=0, start=0, stop=40, tail=3, cuts=(12,)),
        Segment(index=1, lead=36, start=40, stop=80, tail=3, cuts=(60, 82)),
        Segment(index=2, lead=82, start=80, stop=120, tail=0),
    )
    assert wanted(table, 41, 50) == (
        Segment(index=0, lead=36, start=41, stop=50, tail=33, cuts=(60, 82)),
    )
    assert wanted(table, 5, 10)[0].lead == 0
    assert wanted(table, 20, 85) == (
        Segment(index=0, lead=12, start=20, stop=40, tail=3),
        table[1],
        Segment(index=2, lead=82, start=80, stop=85, tail=0),
    )
