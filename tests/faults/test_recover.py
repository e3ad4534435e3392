"""`recover` makes a playable film, with sound, of what an unfinished job has done."""

from __future__ import annotations

import signal

import av

from tests.media import films

FLAGS = ("--engine", "resize", "--scale", "2", "--set", "segment_frames=12")


def begun(job, film, target, segments=3):
    seen = []

    def enough(event):
        seen.extend([event] if event["event"] == "segment_done" else [])
        return len(seen) >= segments

    job.stopped(enough, signal.SIGKILL, "upscale", film, target, *FLAGS)
    return seen[segments - 1]["stop"]


def test_what_is_done_plays_with_its_sound_and_the_job_goes_on(job, film, tmp_path, straight):
    whole, target = straight(*FLAGS), tmp_path / "out.mp4"
    least = begun(job, film, target)
    found = job("recover", tmp_path / "out.mp4.longtake")
    assert found.code == 0, found.last
    assert found.last["event"] == "salvaged"
    frames = found.last["frames"]
    assert frames >= least
    with av.open(str(tmp_path / "out.partial.mp4")) as made:
        shown = [f.to_ndarray(format="rgb24") for f in made.decode(video=0)]
        assert [films.read_counter(f) for f in shown] == list(range(frames))
        made.seek(0)
        sound = sum(f.samples for f in made.decode(audio=0)) / 48000
    assert abs(sound - frames / 25) < 0.1
    assert job("upscale", film, target, *FLAGS).code == 0
    assert target.read_bytes() == whole


def test_every_committed_part_plays_alone(job, film, tmp_path) -> None:
    begun(job, film, tmp_path / "out.mp4")
    parts = sorted((tmp_path / "out.mp4.longtake" / "segments").glob("[0-9]*[0-9].mp4"))
    assert len(parts) >= 3
    for part in parts:
        with av.open(str(part)) as container:
            assert len(list(container.decode(video=0))) > 0


def test_pictures_are_recovered_without_taking_them_away(job, film, tmp_path) -> None:
    target = tmp_path / "out"
    begun(job, film, target)
    found = job("recover", tmp_path / "out.longtake", tmp_path / "some")
    assert found.code == 0, found.last
    names = sorted(p.name for p in (tmp_path / "some").iterdir())
    assert names == [f"{i:08d}.png" for i in range(found.last["frames"])]
    assert job("upscale", film, target, *FLAGS).code == 0
    assert len(list(target.iterdir())) == 90


def test_what_cannot_be_recovered_says_why(job, film, tmp_path) -> None:
    none = job("recover", tmp_path / "nothing.longtake")
    assert none.code == 2
    assert "not the work folder" in none.message
    target = tmp_path / "out.mp4"
    begun(job, film, target)
    (tmp_path / "out.partial.mp4").write_bytes(b"dear")
    refused = job("recover", tmp_path / "out.mp4.longtake")
    assert refused.code == 2
    assert (tmp_path / "out.partial.mp4").read_bytes() == b"dear"
    wrong = job("recover", tmp_path / "out.mp4.longtake", tmp_path / "out.mkv")
    assert wrong.code == 2
