"""N39: telecine is told from interlacing, and taken back to film; through the command."""

from __future__ import annotations

import json
import signal
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.jobs import job
from tests.media import films, pulldown
from tests.media.restoring import MPEG2

__all__ = ["job"]

IVTC = (
    "--engine",
    "resize",
    "--scale",
    "1.5",
    "--set",
    "segment_frames=16",
    "--deinterlace",
    "ivtc",
)


def shown(path: Path) -> list[tuple[Fraction, int]]:
    """(time, counter) of every frame."""
    with av.open(str(path)) as container:
        return [
            (f.pts * f.time_base, films.read_counter(f.to_ndarray(format="rgb24")))
            for f in container.decode(video=0)
        ]


def cycles(longtake: Any, source: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(longtake("probe", source, "--json").stdout)
    return told


# --- probe ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "fields", "telecine"),
    [
        ({"order": "tff"}, "tff", "3:2"),
        ({"order": "bff", **MPEG2}, "bff", "3:2"),
        ({"flagged": False}, "progressive", "3:2"),
        ({"counts": pulldown.ADVANCED}, "tff", "2:3:3:2"),
        ({"counts": pulldown.REPEAT, "flagged": False}, "progressive", "repeat"),
        ({"shown": [*range(160)]}, "tff", "none"),
        ({"counts": (2, 2), "flagged": False}, "progressive", "none"),
        ({"counts": (2, 2)}, "tff", "none"),
    ],
)
def test_probe_tells_telecined_interlaced_and_progressive(
    longtake, tmp_path, how, fields, telecine
) -> None:
    source = pulldown.make(tmp_path / "in.mkv", film=80, **how)
    told = cycles(longtake, source)
    assert told["fields"] == fields
    found = told["telecine"]
    assert found["pattern"] == telecine
    assert found["cycles"] >= 9
    assert found["share"] == (0.0 if telecine == "none" else 1.0)
    text = " ".join(longtake("probe", source).stdout.split())
    assert ("no telecine (0% of" if telecine == "none" else f"telecine {telecine} (100% of") in text
    assert ("--deinterlace ivtc restores" in text) == (telecine != "none")


def test_probe_tells_repeat_flags(longtake, tmp_path) -> None:
    told = cycles(longtake, pulldown.flagged(tmp_path / "in.ts", 80))
    assert (told["telecine"]["pattern"], told["telecine"]["share"]) == ("soft", 1.0)


def test_probe_does_not_guess_where_nothing_moves(longtake, tmp_path) -> None:
    picture = films.texture((160, 120))(0)
    source = pulldown.make(tmp_path / "in.mkv", film=80, picture=lambda k: picture)
    assert cycles(longtake, source)["telecine"]["cycles"] == 0
    assert "telecine cannot be told" in " ".join(longtake("probe", source).stdout.split())


def test_probe_looks_at_a_bounded_part_of_a_long_film(longtake, tmp_path, monkeypatch) -> None:
    from longtake.media import _decode, interlace
    from longtake.media.probe import probe

    picture = films.texture((96, 64))(0)
    source = pulldown.make(
        tmp_path / "in.mkv", film=960, picture=lambda k: picture, size=(96, 64), gop=12
    )
    drawn = 0
    known = _decode.frames

    def counted(*arguments: Any) -> Any:
        nonlocal drawn
        for frame in known(*arguments):
            drawn += 1
            yield frame

    info = probe(source)
    monkeypatch.setattr(_decode, "frames", counted)
    assert interlace.examined(info).telecine.cycles == 0
    assert 48 < drawn <= 8 * 48


# --- the film's own frames -----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
@pytest.mark.parametrize(
    "how",
    [{"order": "tff", "b_frames": 2}, {"order": "bff", **MPEG2}, {"flagged": False}],
    ids=["x264-tff", "mpeg2-bff", "unflagged"],
)
def test_every_film_frame_once_at_its_time_with_its_sound(longtake, tmp_path, suffix, how) -> None:
    source = pulldown.make(tmp_path / f"in{suffix}", film=80, sound=True, **how)
    target = tmp_path / "out.mp4"
    done = longtake("upscale", source, target, *IVTC)
    assert done.returncode == 0, done.stdout + done.stderr
    made = shown(target)
    assert [number for _, number in made] == [*range(80)]
    begin = made[0][0]
    assert [t - begin for t, _ in made] == [k / pulldown.FILM for k in range(80)]
    with av.open(str(source)) as was, av.open(str(target)) as now:
        assert now.streams.video[0].average_rate == pulldown.FILM
        sound = [sum(f.samples for f in c.decode(audio=0)) / Fraction(48000) for c in (was, now)]
    with av.open(str(target)) as now:
        heard = next(now.decode(audio=0))
        ends = begin + 80 / pulldown.FILM
        assert abs(heard.pts * heard.time_base - begin) < Fraction(1, 20)
    assert abs(sound[0] - sound[1]) < Fraction(1, 20)
    assert abs(begin + sound[1] - ends) < Fraction(1, 10)


def test_repeat_flags_become_a_constant_rate(longtake, tmp_path) -> None:
    source = pulldown.flagged(tmp_path / "in.ts", 60)
    target = tmp_path / "out.mp4"
    done = longtake("upscale", source, target, *IVTC)
    assert done.returncode == 0, done.stdout + done.stderr
    assert shown(target) == [(k / pulldown.FILM, k) for k in range(60)]


@pytest.mark.parametrize(
    ("asked", "first", "stop"), [("0:20", 0, 20), ("33:", 33, 80), ("20:41", 20, 41)]
)
def test_ranges_count_frames_of_the_film(longtake, tmp_path, asked, first, stop) -> None:
    source = pulldown.make(tmp_path / "in.mkv", film=80, sound=True)
    target = tmp_path / "out.mkv"
    done = longtake("upscale", source, target, *IVTC, "--frames", asked)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [number for _, number in shown(target)] == [*range(first, stop)]
    with av.open(str(target)) as container:
        sound = sum(f.samples for f in container.decode(audio=0)) / Fraction(48000)
    assert abs(sound - (stop - first) / pulldown.FILM) < Fraction(6, 100)


def test_a_range_behind_the_last_film_frame_is_refused(longtake, tmp_path) -> None:
    source = pulldown.make(tmp_path / "in.mkv", film=40)
    done = longtake("upscale", source, tmp_path / "out.mkv", *IVTC, "--frames", "45:")
    assert done.returncode == 2
    assert "0:40 after ivtc" in " ".join(done.stderr.split())


def test_the_plan_speaks_of_the_film(longtake, tmp_path) -> None:
    source = pulldown.make(tmp_path / "in.mp4", film=80)
    text = " ".join(longtake("plan", "upscale", source, tmp_path / "o.mkv", *IVTC).stdout.split())
    assert "about 80 at 24000/1001 (23.976) fps (constant)" in text
    assert "by ivtc of 100 at 30000/1001" in text


def test_the_shape_is_kept(longtake, tmp_path) -> None:
    sar = Fraction(32, 27)
    source = pulldown.make(tmp_path / "in.mkv", film=40, sar=sar, **MPEG2)
    target = tmp_path / "out.mkv"
    assert longtake("upscale", source, target, *IVTC).returncode == 0
    with av.open(str(source)) as was, av.open(str(target)) as now:
        ratios = [
            s.sample_aspect_ratio * Fraction(s.width, s.height)
            for s in (was.streams.video[0], now.streams.video[0])
        ]
    assert ratios[0] == ratios[1]
    assert ratios[0] > Fraction(4, 3)


def test_the_note_offers_it_where_telecine_was_found(longtake, tmp_path) -> None:
    source = pulldown.make(tmp_path / "in.mkv", film=80)
    plain = (*IVTC[:-2],)
    for flags in (plain, (*plain, "--deinterlace", "bwdif")):
        done = longtake("upscale", source, tmp_path / f"out{len(flags)}.mkv", *flags)
        assert done.returncode == 0
        told = " ".join(done.stdout.split())
        assert told.count("--deinterlace ivtc restores the film's own frames") == 1
        assert len(shown(tmp_path / f"out{len(flags)}.mkv")) == 100
    done = longtake("upscale", source, tmp_path / "film.mkv", *IVTC)
    assert "--deinterlace ivtc" not in done.stdout


@pytest.mark.parametrize("laced", [True, False])
def test_true_fields_and_true_frames_are_refused_with_advice(longtake, tmp_path, laced) -> None:
    how: dict[str, Any] = (
        {"shown": [*range(160)]} if laced else {"counts": (2, 2), "flagged": False}
    )
    source = pulldown.make(tmp_path / "in.mkv", film=80, **how)
    target = tmp_path / "out.mkv"
    done = longtake("upscale", source, target, *IVTC)
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert "no telecine was found" in said
    assert "--deinterlace bwdif" in said
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]


def test_mixed_films_say_what_happens_to_the_rest(longtake, tmp_path) -> None:
    fields = [*pulldown.fields(40), *range(100, 200), *(k + 200 for k in pulldown.fields(40))]
    source = pulldown.make(tmp_path / "in.mkv", shown=fields)
    done = longtake("upscale", source, tmp_path / "out.mkv", *IVTC)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "one frame in five was dropped all the same" in said
    assert "were deinterlaced" in said
    numbers = [n for _, n in shown(tmp_path / "out.mkv")]
    assert len(numbers) == 120
    assert numbers[:39] == [*range(39)]
    assert numbers[-38:] == [*range(202, 240)]


# --- the law -------------------------------------------------------------------------------------


def lively(path: Path) -> Path:
    """Film, fields and film again: frames kept, woven and mended."""
    fields = [*pulldown.fields(40), *range(100, 160), *(k + 200 for k in pulldown.fields(40))]
    return pulldown.make(path, shown=fields, b_frames=2, sound=True)


ECHO = ("--scale", "1.5", "--engine", "echo", "--deinterlace", "ivtc")


def test_killed_and_resumed_is_straight(job, tmp_path) -> None:
    source = lively(tmp_path / "in.mkv")
    flags = (*ECHO, "--set", "segment_frames=40")
    assert job("upscale", source, tmp_path / "straight.mp4", *flags).code == 0
    target = tmp_path / "out.mp4"
    for event, frames in (("analysed", 1), ("advanced", 3), ("advanced", 50)):
        job.stopped(
            lambda e, event=event, frames=frames: e["event"] == event and e["frames"] >= frames,
            signal.SIGKILL, "upscale", source, target, *flags,
        )  # fmt: skip
        assert not target.exists()
    done = job("upscale", source, target, *flags)
    assert done.code == 0, done.last
    assert target.read_bytes() == (tmp_path / "straight.mp4").read_bytes()


def test_two_processes_are_one_and_plans_are_replayed(job, tmp_path) -> None:
    source = lively(tmp_path / "in.mkv")
    flags = (*ECHO, "--set", "segment_frames=40")
    one, two = tmp_path / "one.mp4", tmp_path / "two.mp4"
    assert job("upscale", source, one, *flags, "--keep").code == 0
    assert job("upscale", source, two, *flags, "--devices", "cpu:0,1").code == 0
    assert two.read_bytes() == one.read_bytes()
    again = tmp_path / "again.mp4"
    plan = json.loads((tmp_path / "one.mp4.longtake" / "plan.json").read_text())
    plan["task"]["target"] = str(again)
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    done = job("run", tmp_path / "plan.json")
    assert done.code == 0, done.last
    assert again.read_bytes() == one.read_bytes()


def test_cutting_a_film_into_segments_changes_nothing(job, tmp_path) -> None:
    source = lively(tmp_path / "in.mkv")
    flags = (*ECHO, "--codec", "ffv1", "--set")
    made = []
    for length in (40, 57, 120):
        target = tmp_path / f"{length}.mkv"
        done = job(
            "upscale", source, target, *flags, f"segment_frames={length}", "--set", "memory=no"
        )
        assert done.code == 0, done.last
        with av.open(str(target)) as container:
            made.append(np.stack([f.to_ndarray() for f in container.decode(video=0)]))
    assert (made[0] == made[1]).all()
    assert (made[0] == made[2]).all()


def test_another_way_of_reading_is_another_job(job, tmp_path) -> None:
    source = lively(tmp_path / "in.mkv")
    flags = (*ECHO, "--set", "segment_frames=40")
    target = tmp_path / "out.mp4"
    job.stopped(
        lambda e: e["event"] == "segment_done", signal.SIGKILL, "upscale", source, target, *flags
    )
    done = job("upscale", source, target, *(x.replace("ivtc", "bwdif") for x in flags))
    assert done.code == 2
    assert "deinterlace" in done.message
