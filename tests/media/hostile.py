"""Files that must be refused with a reason: `CORPUS[name](folder)` makes one and returns its path.

`WHY[name]` is a piece of the reason that the user must read. `victim` makes the film of somebody
else that such a file tries to reach: its pixels must never come out.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from tests.media import films

Maker = Callable[[Path], Path]
CORPUS: dict[str, Maker] = {}
WHY: dict[str, str] = {}


def hostile(why: str) -> Callable[[Maker], Maker]:
    """Register a maker together with what the error must say."""

    def keep(maker: Maker) -> Maker:
        CORPUS[maker.__name__] = maker
        WHY[maker.__name__] = why
        return maker

    return keep


def victim(folder: Path) -> Path:
    """Somebody else's film, in the same folder."""
    return films.make(folder / "victim.mp4", frames=5)


def _text(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


# --- nothing in it -------------------------------------------------------------------------------


@hostile("No such file")
def missing(folder: Path) -> Path:
    return folder / "missing.mp4"


@hostile("0 bytes")
def empty(folder: Path) -> Path:
    return _text(folder, "empty.mp4", "")


@hostile("begins with zeros")
def zeros(folder: Path) -> Path:
    path = folder / "zeros.mkv"
    path.write_bytes(bytes(100_000))
    return path


@hostile("not a video file")
def noise(folder: Path) -> Path:
    path = folder / "noise.mp4"
    path.write_bytes(np.random.default_rng(1).bytes(100_000))
    return path


@hostile("not a video file")
def prose(folder: Path) -> Path:
    return _text(folder, "prose.avi", "It was a dark and stormy night.\n" * 100)


@hostile("not a regular file")
def pipe(folder: Path) -> Path:
    path = folder / "pipe.mp4"
    os.mkfifo(path)
    return path


@hostile("no pictures")
def no_pictures(folder: Path) -> Path:
    path = folder / "pictures"
    path.mkdir()
    (path / "readme.txt").write_text("nothing")
    return path


@hostile("no film in it")
def only_sound(folder: Path) -> Path:
    path = folder / "sound.m4a"
    with av.open(str(path), "w", format="ipod") as out:
        films._add_tone(out, out.add_stream("aac", 48000), Fraction(1))
    return path


@hostile("cover art")
def sound_with_cover(folder: Path) -> Path:
    path = folder / "cover.mp4"
    with av.open(str(path), "w") as out:
        tone = out.add_stream("aac", 48000)
        art: Any = films._add_cover(out, path)
        out.mux(art)
        films._add_tone(out, tone, Fraction(1))
    return path


# --- pointing elsewhere --------------------------------------------------------------------------


@hostile("ffconcat")
def concat(folder: Path) -> Path:
    return _text(folder, "concat.mp4", f"ffconcat version 1.0\nfile {victim(folder).name}\n")


@hostile("ffconcat")
def concat_absolute(folder: Path) -> Path:
    return _text(folder, "abs.mp4", f"ffconcat version 1.0\nfile '{victim(folder)}'\n")


@hostile("not a video file")
def concat_hidden(folder: Path) -> Path:
    return _text(folder, "hidden.mp4", f"# x\nffconcat version 1.0\nfile {victim(folder).name}\n")


@hostile("HLS")
def playlist(folder: Path) -> Path:
    lines = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{victim(folder).name}\n#EXT-X-ENDLIST\n"
    return _text(folder, "list.mp4", lines)


@hostile("HLS")
def playlist_network(folder: Path) -> Path:
    lines = (
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    )
    return _text(folder, "list.m3u8", lines)


@hostile("SDP")
def session(folder: Path) -> Path:
    lines = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"
    return _text(folder, "session.mp4", lines + "a=rtpmap:96 H264/90000\n")


@hostile("XML")
def manifest(folder: Path) -> Path:
    text = '<?xml version="1.0"?><MPD><Period><BaseURL>victim.mp4</BaseURL></Period></MPD>'
    return _text(folder, "dash.mp4", text)


@hostile("not one frame")
def outside_reference(folder: Path) -> Path:
    """A mov whose samples lie in another file (dref without the self-reference flag)."""
    other = victim(folder)
    data = bytearray(other.read_bytes())
    at = data.find(b"url \0\0\0\1")
    data[at + 7] = 0  # not in this file
    cut = data.find(b"mdat")
    size = int.from_bytes(data[cut - 4 : cut], "big")
    data[cut + 4 : cut - 4 + size] = bytes(size - 8)
    path = folder / "outside.mov"
    path.write_bytes(bytes(data))
    return path


@hostile("not a regular file")
def link_to_device(folder: Path) -> Path:
    path = folder / "zero.mp4"
    path.symlink_to("/dev/zero")
    return path


# --- what may not be decoded ---------------------------------------------------------------------


@hostile("magicyuv is not accepted")
def forbidden_codec(folder: Path) -> Path:
    return films.make(folder / "magic.avi", frames=3, codec="magicyuv", pixel_format="gbrp")


@hostile("accepted format")
def forbidden_format(folder: Path) -> Path:
    return films.make(folder / "film.nut", frames=3, codec="ffv1")


@hostile("accepted format")
def animated(folder: Path) -> Path:
    return films.make(folder / "film.gif", frames=3, codec="gif", pixel_format="rgb8")


@hostile("encrypted")
def encrypted(folder: Path) -> Path:
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 31 + "1"}
    options = {**key, "encryption_kid": "0" * 31 + "2"}
    return films.make(folder / "secret.mp4", frames=5, container_options=options)


# --- too much ------------------------------------------------------------------------------------


@hostile("")
def huge_frames(folder: Path) -> Path:
    return _text(folder, "huge.y4m", "YUV4MPEG2 W200000 H200000 F25:1 Ip A1:1 C420jpeg\nFRAME\nxx")


@hostile("at most")
def wide_frames(folder: Path) -> Path:
    return _text(folder, "wide.y4m", "YUV4MPEG2 W20000 H16 F25:1 Ip A1:1 C420jpeg\nFRAME\nxx")


@hostile("at most")
def absurd_rate(folder: Path) -> Path:
    path = folder / "rate.y4m"
    head = b"YUV4MPEG2 W16 H16 F1000000:1 Ip A1:1 C420jpeg\n"
    path.write_bytes(head + (b"FRAME\n" + bytes(384)) * 5)
    return path


@hostile("streams")
def many_streams(folder: Path) -> Path:
    path = folder / "many.mkv"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("pcm_s16le", 8000) for _ in range(70)]
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 160), np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = 8000, 0
            out.mux(stream.encode(frame))
    return path


@hostile("do not fit")
def sample_bomb(folder: Path) -> Path:
    """An mp4 that promises four billion samples of one byte."""
    data = bytearray(films.make(folder / "bomb.mp4", frames=5).read_bytes())
    at = data.find(b"stsz")
    struct.pack_into(">II", data, at + 8, 1, 0xFFFFFFF0)
    path = folder / "bomb.mp4"
    path.write_bytes(bytes(data))
    return path


@hostile("")
def endless_boxes(folder: Path) -> Path:
    """A million empty boxes, one inside the other or side by side."""
    path = folder / "boxes.mp4"
    head = struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0)
    path.write_bytes(head + struct.pack(">I4s", 8, b"moov") * 500_000)
    return path


@hostile("")
def nested_boxes(folder: Path) -> Path:
    size = 8 * 50_000
    nest = b"".join(struct.pack(">I4s", size - 8 * i, b"moov") for i in range(50_000))
    path = folder / "nested.mp4"
    path.write_bytes(struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + nest)
    return path


@hostile("")
def circular_matroska(folder: Path) -> Path:
    """Sizes of all ones and nested unknown-size masters."""
    path = folder / "loop.mkv"
    head = films.make(folder / "seed.mkv", frames=2).read_bytes()[:64]
    path.write_bytes(head + b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" * 20_000)
    return path


# --- broken off ----------------------------------------------------------------------------------


@hostile("moov atom not found")
def headless(folder: Path) -> Path:
    """A download that broke off before the header at the end of an mp4."""
    path = films.make(folder / "headless.mp4", frames=50)
    path.write_bytes(path.read_bytes()[:-3000])
    return path


@hostile("bytes are missing")
def only_header(folder: Path) -> Path:
    path = films.make(folder / "header.mp4", frames=50, container_options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: data.find(b"mdat") + 4])
    return path


# --- pictures ------------------------------------------------------------------------------------


@hostile("not a PNG")
def false_picture(folder: Path) -> Path:
    path = films.folder(folder / "false", range(3))
    (path / "0001.png").write_bytes(b"GIF89a" + bytes(100))
    return path


@hostile("incomplete")
def cut_picture(folder: Path) -> Path:
    path = films.folder(folder / "cut", range(3))
    data = (path / "0001.png").read_bytes()
    (path / "0001.png").write_bytes(data[: len(data) // 2])
    return path


@hostile("damaged")
def damaged_picture(folder: Path) -> Path:
    path = films.folder(folder / "damaged", range(3))
    data = bytearray((path / "0002.png").read_bytes())
    data[60:400] = bytes(340)
    (path / "0002.png").write_bytes(bytes(data))
    return path


@hostile("Links are not followed")
def linked_picture(folder: Path) -> Path:
    films.folder(folder / "private", [7])
    path = films.folder(folder / "linked", range(2))
    (path / "0007.png").symlink_to(folder / "private" / "0007.png")
    return path


@hostile("must be of one size")
def uneven_pictures(folder: Path) -> Path:
    path = films.folder(folder / "uneven", range(3))
    films.png(path / "0001.png", 1, size=(64, 64))
    return path


@hostile("at most")
def huge_picture(folder: Path) -> Path:
    path = films.folder(folder / "huge", range(1))
    data = bytearray((path / "0000.png").read_bytes())
    struct.pack_into(">II", data, 16, 100_000, 100_000)
    (path / "0000.png").write_bytes(bytes(data))
    return path


@hostile("several kinds")
def mixed_pictures(folder: Path) -> Path:
    path = films.folder(folder / "mixed", range(2))
    films.png(path / "0002.tif", 2, codec="tiff")
    return path


@hostile("differ by their suffix")
def twin_pictures(folder: Path) -> Path:
    path = films.folder(folder / "twins", range(2), name="{:04d}.tif", codec="tiff")
    films.png(path / "0001.tiff", 1, codec="tiff")
    return path


def _cut(folder: Path, suffix: str, codec: str, pixel_format: str) -> Path:
    """Three pictures, of which the second lacks its last quarter."""
    path = films.folder(
        folder / codec, range(3), name="{:04d}" + suffix, codec=codec, pixel_format=pixel_format
    )
    data = (path / f"0001{suffix}").read_bytes()
    (path / f"0001{suffix}").write_bytes(data[: len(data) * 3 // 4])
    return path


@hostile("0001.tif")
def cut_tiff(folder: Path) -> Path:
    return _cut(folder, ".tif", "tiff", "rgb48le")


@hostile("incomplete")
def cut_jpeg(folder: Path) -> Path:
    return _cut(folder, ".jpg", "mjpeg", "yuvj420p")


@hostile("incomplete")
def cut_webp(folder: Path) -> Path:
    return _cut(folder, ".webp", "libwebp", "yuv420p")


@hostile("damaged")
def cut_bmp(folder: Path) -> Path:
    return _cut(folder, ".bmp", "bmp", "bgr24")


@hostile("at most")
def huge_bmp(folder: Path) -> Path:
    path = films.png(folder / "huge.bmp", codec="bmp", pixel_format="bgr24")
    data = bytearray(path.read_bytes())
    struct.pack_into("<ii", data, 18, 100_000, 100_000)
    path.write_bytes(bytes(data))
    return path


@hostile("several pictures")
def paged_tiff(folder: Path) -> Path:
    first, *rest = (Image.fromarray(films.texture((96, 64))(n)) for n in range(3))
    first.save(folder / "pages.tif", save_all=True, append_images=rest)
    return folder / "pages.tif"


@hostile("animated")
def moving_webp(folder: Path) -> Path:
    first, *rest = (Image.fromarray(films.texture((96, 64))(n)) for n in range(3))
    first.save(folder / "moving.webp", save_all=True, append_images=rest)
    return folder / "moving.webp"


@hostile("CMYK")
def print_colours(folder: Path) -> Path:
    Image.fromarray(films.texture((96, 64))(0)).convert("CMYK").save(folder / "print.jpg")
    return folder / "print.jpg"


@hostile("incomplete")
def endless_tiff(folder: Path) -> Path:
    """A directory that lies behind the file's end."""
    path = folder / "endless.tif"
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 0xFFFFFFF0) + bytes(64))
    return path
