"""Everything beside the pictures: kept by packet, converted only where a container must."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.core.media import Track, TrackKind
from longtake.media import subtitles, tracks, verify
from longtake.media.carry import Steady, likely_samples
from longtake.media.sinks import mkv, mp4, png
from longtake.media.subtitles import Cue, Timeline
from tests.media import fakes, rich
from tests.media.fakes import X264, cuts, output, regular
from tests.media.rich import Sound, Source

SINKS: dict[str, Any] = {"mp4": mp4.plugin, "mkv": mkv.plugin}
STEREO = Sound(codec="aac", rate=48000, language="eng", title="Stereo", disposition=1)


def carried(
    folder: Path, source: Source, sink: str, drop: Sequence[str] = (), **changes: Any
) -> tuple[Path, Path]:
    """(source, target) of a film of 48 frames that went through the sink and was verified."""
    suffix = {"matroska": "mkv", "mpegts": "ts"}.get(source.container, source.container)
    path = rich.make(folder / f"in.{suffix}", source)
    out = output(sar=source.sar, **changes)
    info = fakes.info(
        path, container=source.container, tracks=rich.tracks(path), chapters=2, sar=source.sar
    )
    film = regular(48, out, info)
    job = fakes.plan(film, out, X264, cuts(48, 20), drop=tuple(drop))
    assert not SINKS[sink].losses(info, drop).refused
    target = fakes.joined(SINKS[sink], film, job, folder, f"out.{sink}")
    assert list(verify.verify(target, film, job))[-1] == 48
    return path, target


def streams(path: Path) -> list[tuple[Any, ...]]:
    """What a player knows of each stream beside the film."""
    with av.open(str(path)) as file:
        return [
            (
                s.type,
                s.codec_context.name if s.codec_context else s.name,
                s.metadata.get("language"),
                s.metadata.get("title", s.metadata.get("name")),
                int(s.disposition),
            )
            for s in file.streams
            if s.type != "data"
        ]


def payload(path: Path, kind: str) -> list[tuple[int, int]]:
    """(packets, CRC) of each stream of a kind."""
    with av.open(str(path)) as file:
        wanted = [s for s in file.streams if s.type == kind]
        found = {s.index: [0, 0] for s in wanted}
        for packet in file.demux(wanted):
            if packet.size:
                count, crc = found[packet.stream.index]
                found[packet.stream.index] = [count + 1, zlib.crc32(bytes(packet), crc)]
        return [(a, b) for a, b in found.values()]


def chapters(path: Path) -> list[tuple[str, Fraction, Fraction]]:
    with av.open(str(path)) as file:
        return [
            (
                c["metadata"]["title"],
                c["start"] * (c["time_base"] or 1),
                c["end"] * (c["time_base"] or 1),
            )
            for c in file.chapters()
        ]


def texts(path: Path, index: int = 0) -> list[tuple[int, int, str]]:
    """(start, stop in ms, text) of every cue of a text track, as libav reads it."""
    found = []
    with av.open(str(path)) as file:
        for packet in file.demux(file.streams.subtitles[index]):
            if not packet.size or packet.pts is None:
                continue
            events: list[Any] = packet.decode()  # type: ignore[assignment]
            text = "|".join(e.ass.decode().split(",", 8)[-1] for e in events)
            start = round(packet.pts * packet.time_base * 1000)
            stop = start + round((packet.duration or 0) * packet.time_base * 1000)
            if text:
                found.append((start, stop, text))
    return found


def test_mkv_to_mkv_differs_only_in_the_pictures(tmp_path: Path) -> None:
    path, target = carried(tmp_path, Source(cover=True), "mkv")
    assert streams(target) == streams(path)
    for kind in ("audio", "subtitle"):
        assert payload(target, kind) == payload(path, kind)
    assert chapters(target) == chapters(path)
    with av.open(str(path)) as a, av.open(str(target)) as b:
        words = {k: v for k, v in a.metadata.items() if k != "ENCODER"}
        assert words.items() <= b.metadata.items()
        font: Any = b.streams.attachments[0]
        assert (font.name, font.mimetype, font.data) == ("Some Font.ttf", "font/ttf", rich.FONT)
        assert b.streams.video[0].sample_aspect_ratio == Fraction(64, 45)
        covers = [[bytes(p) for p in f.demux(f.streams.video[1]) if p.size] for f in (a, b)]
        assert covers[0] == covers[1] == [rich._png()]


def test_mkv_to_mp4_converts_text_and_keeps_the_rest(tmp_path: Path) -> None:
    path, target = carried(tmp_path, Source(cover=True), "mp4", drop=["attachments"])
    assert payload(target, "audio") == payload(path, "audio")
    assert [c[0] for c in chapters(target)] == ["Eins", "Zwei"]
    assert [c[1:] for c in chapters(target)] == [c[1:] for c in chapters(path)]
    kinds = [s for s in streams(target) if s[0] != "video"]
    assert kinds == [
        ("audio", "aac", "eng", "Stereo", 1),
        ("audio", "ac3", "ger", "Kommentar", 8),
        ("subtitle", "mov_text", "fre", "Text 0", 1),
        ("subtitle", "mov_text", "spa", "Text 1", 64),
    ]
    wanted = [
        (100, 700, "Hällo\\NWelt"), (900, 1400, "two"),
        (1400, 1500, "two\\Nthree"), (1500, 1900, "three"),
    ]  # fmt: skip
    assert texts(target, 0) == wanted
    assert texts(target, 1) == wanted
    with av.open(str(target)) as file:
        assert (file.metadata["title"], file.metadata["artist"]) == ("The Film", "Nö")
        cover = file.streams.video[1]
        assert int(cover.disposition) == 1024
        assert [bytes(p) for p in file.demux(cover) if p.size] == [rich._png()]
        assert file.streams.video[0].sample_aspect_ratio == Fraction(64, 45)


@pytest.mark.parametrize("sink", SINKS)
def test_mp4_goes_to_both(tmp_path: Path, sink: str) -> None:
    source = Source(container="mp4", subtitles=("mov_text",), attachment=False, cover=True)
    path, target = carried(tmp_path, source, sink)
    assert payload(target, "audio") == payload(path, "audio")
    assert [c[0] for c in chapters(target)] == ["Eins", "Zwei"]
    assert streams(target)[1][2:] == ("eng", "Stereo", 1)
    assert texts(target) == [
        (100, 700, "Hällo\\NWelt"), (900, 1500, "two"), (1500, 1900, "three"),
    ]  # fmt: skip
    codec = {"mp4": "mov_text", "mkv": "srt"}[sink]
    assert [s[1] for s in streams(target) if s[0] == "subtitle"] == [codec]


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("codec", ["aac", "mp3", "ac3", "eac3", "flac", "libopus", "pcm_s16le"])
@pytest.mark.parametrize("container", ["matroska", "mp4"])
def test_sound_is_copied_bit_for_bit(tmp_path: Path, sink: str, codec: str, container: str) -> None:
    sound = Sound(codec=codec, rate=48000, start=Fraction(1, 2), length=Fraction(3))
    source = Source(
        container=container, sounds=(sound,), subtitles=(), attachment=False, chapters=False
    )
    path, target = carried(tmp_path, source, sink)
    if codec != "pcm_s16le":  # cut anew by every container; verified above as a whole
        assert payload(target, "audio") == payload(path, "audio")
    begins = []
    for file_path in (path, target):
        with av.open(str(file_path)) as file:
            stamps = [p.pts * p.time_base for p in file.demux(audio=0) if p.pts is not None]
            begins.append((stamps[0], stamps[-1]))
    assert all(abs(a - b) <= Fraction(1, 1000) for a, b in zip(*begins, strict=True))


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("start", [Fraction(-1, 2), Fraction(0), Fraction(7, 10)])
def test_sound_may_begin_early_or_late_and_outlast(
    tmp_path: Path, sink: str, start: Fraction
) -> None:
    """The film begins at 1 s here, so sound can be before it."""
    sound = Sound(codec="aac", rate=48000, start=1 + start, length=Fraction(4))
    source = Source(
        start=24, rate=Fraction(24), sounds=(sound,), subtitles=(), attachment=False, chapters=False
    )
    path = rich.make(tmp_path / "in.mkv", source)
    out = output(rate=Fraction(24), time_base=Fraction(1, 24))
    film = regular(48, out, fakes.info(path, tracks=rich.tracks(path)))
    film.stamps, film.last = [*range(24, 72)], 72
    job = fakes.plan(film, out, X264, cuts(48, 20))
    target = fakes.joined(SINKS[sink], film, job, tmp_path, f"out.{sink}")
    list(verify.verify(target, film, job))
    with av.open(str(target)) as file:
        assert file.streams.video[0].start_time == (24 if sink == "mp4" else 1000)
    assert payload(target, "audio") == payload(path, "audio")


def test_sound_from_mkv_has_even_packets_in_mp4(tmp_path: Path) -> None:
    """Stamps of 1 ms become samples again: every packet as long as it is."""
    ac3 = Sound(codec="ac3", rate=44100, language="ger")
    _, target = carried(tmp_path, Source(sounds=(STEREO, ac3), attachment=False), "mp4")
    for index, size in enumerate((1024, 1536)):
        with av.open(str(target)) as file:
            stamps = [p.pts for p in file.demux(audio=index) if p.pts is not None]
        assert {b - a for a, b in pairwise(stamps)} == {size}


@pytest.mark.parametrize("sink", SINKS)
def test_mpeg_ts_loses_its_headers_only(tmp_path: Path, sink: str) -> None:
    source = Source(container="mpegts", subtitles=(), attachment=False, chapters=False)
    path = rich.make(tmp_path / "in.ts", source)
    out = output()
    film = regular(48, out, fakes.info(path, container="mpegts", tracks=rich.tracks(path)))
    job = fakes.plan(film, out, X264, cuts(48, 20))
    target = fakes.joined(SINKS[sink], film, job, tmp_path, f"out.{sink}")
    list(verify.verify(target, film, job))
    assert [c for c, _ in payload(target, "audio")] == [c for c, _ in payload(path, "audio")]


@pytest.mark.parametrize("sink", SINKS)
def test_web_captions_and_what_is_dropped(tmp_path: Path, sink: str) -> None:
    source = Source(subtitles=("webvtt", "subrip"), attachment=False)
    _, target = carried(tmp_path, source, sink)
    assert texts(target, 0)[0][2] == "Hällo\\NWelt"
    folder = tmp_path / "less"
    folder.mkdir()
    _, target = carried(folder, source, sink, drop=["audio", "subtitles", "chapters"])
    assert [s[0] for s in streams(target)] == ["video"]
    assert not chapters(target)


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_a_second_film_in_the_source_is_copied(tmp_path: Path, sink: str, container: str) -> None:
    """With frames out of order, of which mkv states no first decoding stamps."""
    path = tmp_path / f"in.{container}"
    pictures = fakes.moving(48, output(width=64, height=64))
    with av.open(str(path), "w") as file:
        both: list[Any] = [file.add_stream("libx264", rate=24) for _ in range(2)]
        for number, stream in enumerate(both):
            stream.width = stream.height = 64
            stream.disposition = number
        for i in range(48):
            for stream in both:
                frame = av.VideoFrame.from_ndarray(pictures[i], "rgb24")
                frame.pts = i
                file.mux(stream.encode(frame))
        for stream in both:
            file.mux(stream.encode(None))
    out = output(rate=Fraction(24), time_base=Fraction(1, 24), width=96)
    info = fakes.info(path, stream=1, tracks=(track("video", "h264", 0),))
    film = regular(48, out, info)
    job = fakes.plan(film, out, X264, cuts(48, 20))
    target = fakes.joined(SINKS[sink], film, job, tmp_path, f"out.{sink}")
    assert list(verify.verify(target, film, job))[-1] == 48
    with av.open(str(target)) as file:
        assert [s.width for s in file.streams.video] == [64, 96]
        times = [f.pts * f.time_base for f in file.decode(video=0) if f.pts is not None]
    assert all(abs(t - Fraction(i, 24)) <= Fraction(1, 1000) for i, t in enumerate(times))


def test_a_time_code_stays(tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("libx264", rate=25)
        stream.width = stream.height = 16
        stream.metadata["timecode"] = "01:02:03:04"
        for i in range(48):
            frame = av.VideoFrame(16, 16, "yuv420p")
            frame.pts = i
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    held = rich.tracks(path)
    assert [t.kind for t in held] == ["data"]
    out = output(rate=Fraction(25), time_base=Fraction(1, 25))
    info = fakes.info(path, container="mov,mp4", tracks=held)
    assert "time codes" in mp4.plugin.losses(info, ()).noted[0]
    assert not mp4.plugin.losses(info, ["data"]).noted
    film = regular(48, out, info)
    job = fakes.plan(film, out, X264, cuts(48))
    for name, sink in SINKS.items():
        target = fakes.joined(sink, film, job, tmp_path, f"out.{name}")
        with av.open(str(target)) as file:
            words = {k.lower(): v for k, v in file.streams.video[0].metadata.items()}
            assert words["timecode"] == "01:02:03:04"


def track(kind: TrackKind, codec: str, index: int = 3, **words: str) -> Track:
    return Track(index=index, kind=kind, codec=codec, **words)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("held", "drop", "cure"),
    [
        (track("subtitle", "hdmv_pgs_subtitle", language="eng"), "subtitles", "an .mkv target"),
        (track("subtitle", "pgssub"), "subtitles", "an .mkv target"),
        (track("subtitle", "dvdsub"), "subtitles", "an .mkv target"),
        (track("subtitle", "dvbsub"), "subtitles", "an .mkv target"),
        (track("attachment", "ttf"), "attachments", "an .mkv target"),
        (track("attachment", ""), "attachments", "an .mkv target"),
        (track("audio", "wmav2"), "audio", ""),
        (track("audio", "wavpack"), "audio", "an .mkv target"),
    ],
    ids=lambda x: x.codec if isinstance(x, Track) else None,
)
def test_what_an_mp4_cannot_hold_is_refused_by_name(held: Track, drop: str, cure: str) -> None:
    info = fakes.info(tracks=(track("audio", "aac", 1), held))
    refused = mp4.plugin.losses(info, ()).refused
    assert len(refused) == 1
    assert f"track 3 ({held.codec or 'a font or another file'}" in refused[0]
    assert f"--drop {drop}" in refused[0]
    assert cure in refused[0]
    assert not mp4.plugin.losses(info, [drop]).refused


@pytest.mark.parametrize(
    ("kind", "codec"),
    [
        ("audio", "aac"), ("audio", "mp3float"), ("audio", "ac3"), ("audio", "dca"),
        ("audio", "truehd"), ("audio", "opus"), ("audio", "flac"), ("audio", "pcm_s24le"),
        ("subtitle", "subrip"), ("subtitle", "srt"), ("subtitle", "ass"), ("subtitle", "ssa"),
        ("subtitle", "webvtt"), ("subtitle", "mov_text"), ("video", "mjpeg"), ("video", "png"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("sink", SINKS)
def test_usual_tracks_are_taken(sink: str, kind: TrackKind, codec: str) -> None:
    assert SINKS[sink].losses(fakes.info(tracks=(track(kind, codec),)), ()) == tracks.Losses()


def test_an_mkv_refuses_little_and_a_folder_nothing() -> None:
    odd = (track("subtitle", "eia_608"), track("audio", "wmav2", 4), track("attachment", "otf", 5))
    info = fakes.info(tracks=odd, variable=True)
    refused = mkv.plugin.losses(info, ()).refused
    assert [r.split(" (")[0] for r in refused] == [
        "An mkv cannot hold subtitle track 3", "An mkv cannot hold audio track 4",
    ]  # fmt: skip
    folder = png.plugin.losses(info, ())
    assert not folder.refused
    assert any("holds no sound" in n for n in folder.noted)
    assert not any("sound" in n for n in png.plugin.losses(info, ["audio"]).noted)


@pytest.mark.parametrize(
    ("ass", "plain", "srt"),
    [
        ("one\\Ntwo", "one\ntwo", "one\ntwo"),
        ("{\\an8\\pos(3,4)}up", "up", "up"),
        ("a{\\i1}b{\\i0}c", "abc", "a<i>b</i>c"),
        ("{\\b1}x{\\i1}y{\\b0}z", "xyz", "<b>x<i>y</i></b><i>z</i>"),
        ("{\\i1}all{\\r} none", "all none", "<i>all</i> none"),
        ("{\\p1}m 0 0 l 9 9{\\p0}said", "said", "said"),
        ("hard\\hspace {\\c&H00FF00&}green{\\c}", "hard\u00a0space green", "hard\u00a0space green"),
        ("{\\bord2\\blur1}no bold", "no bold", "no bold"),
        ("", "", ""),
    ],
)
def test_markup(ass: str, plain: str, srt: str) -> None:
    assert subtitles.plain(ass) == plain
    assert subtitles.subrip(ass) == srt


cue = st.tuples(st.integers(0, 50), st.integers(0, 20), st.sampled_from("abc"))


@given(st.lists(cue, max_size=12))
def test_a_timeline_shows_at_every_moment_what_the_cues_say(
    given_: list[tuple[int, int, str]],
) -> None:
    cues = [Cue(start=a, stop=a + n, text=t) for a, n, t in sorted(given_, key=lambda c: c[0])]
    line = Timeline()
    made = [c for one in cues for c in line.feed(one)] + list(line.rest())
    assert all(a.stop <= b.start for a, b in pairwise(made))
    for moment in range(75):
        wanted = [c.text for c in cues if c.start <= moment < c.stop]
        shown = [c.text.split("\n") for c in made if c.start <= moment < c.stop]
        assert list(chain(*shown)) == wanted


def test_long_text_is_cut_between_letters() -> None:
    sample = subtitles.mov_text("ä" * 40_000)
    assert int.from_bytes(sample[:2]) == len(sample) - 2 <= 0xFFFF
    assert set(sample[2:].decode()) == {"ä"}


@given(
    st.sampled_from([(1024, 48000), (1536, 44100), (1152, 44100), (4096, 96000), (512, 48000)]),
    st.integers(-50, 2000),
)
def test_steady_sound_is_exact_and_never_off_by_a_tick(form: tuple[int, int], begin: int) -> None:
    size, rate = form
    tick = Fraction(1, 1000)
    steady = Steady(tick=tick, rate=rate)
    made = []
    for i in range(60):
        true = begin * tick + Fraction(i * size, rate) + (Fraction(1, 2) if i >= 40 else 0)  # a gap
        given_ = round(true / tick) * tick
        samples = likely_samples(int(Fraction(size, rate) / tick), tick, rate)
        assert samples == size
        made.append(steady.stamp(given_, samples))
        assert abs(Fraction(made[-1], rate) - given_) <= tick
    gaps = [b - a for a, b in pairwise(made)]
    assert {g for i, g in enumerate(gaps) if i != 39} == {size}
