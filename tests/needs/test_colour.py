"""N8: colours come out as they went in; tags stay what they were, the untagged stays untagged."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from longtake.core.media import Color
from tests.media import films

PATCHES = np.array(
    [[115, 82, 68], [194, 150, 130], [98, 122, 157], [87, 108, 67], [133, 128, 177],
     [103, 189, 170], [214, 126, 44], [80, 91, 166], [193, 90, 99], [94, 60, 108],
     [157, 188, 64], [224, 163, 46], [56, 61, 150], [70, 148, 73], [175, 54, 60],
     [231, 199, 31], [187, 86, 149], [8, 133, 161], [243, 243, 242], [200, 200, 200],
     [160, 160, 160], [122, 122, 121], [85, 85, 85], [52, 52, 52]], np.uint8,
)  # fmt: skip  # the 24 patches of a colour chart, sRGB
SIZE = (96, 64)  # 6 x 4 patches of 16 px
MATRIX = {"601": 6, "709": 1, "2020": 9}


def chart(_: int) -> np.ndarray:
    return PATCHES.reshape(4, 6, 3).repeat(16, 0).repeat(16, 1)


def middles(path: Path, matrix: int, full: bool) -> np.ndarray:
    """The mean colour of each patch's middle, decoded with this matrix and range. [24, 3]"""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        rgb = frame.reformat(
            format="rgb48le", src_colorspace=matrix, src_color_range=2 if full else 1,
            dst_color_range=2, interpolation=0x40000 | 0x2000 | 0x4000 | 4,
        ).to_ndarray()  # fmt: skip
    step = rgb.shape[0] // 4
    cells = rgb.reshape(4, step, 6, step, 3)[:, step // 4 : -step // 4, :, step // 4 : -step // 4]
    return cells.mean(axis=(1, 3)).reshape(24, 3) / 65535


def tags(path: Path) -> list[tuple[int, int, int, int]]:
    """(matrix, primaries, transfer, range) of the stream's parameters and of a decoded frame."""
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        frame = next(container.decode(video=0))
        return [
            (int(x.colorspace), int(x.color_primaries), int(x.color_trc), int(x.color_range))
            for x in (context, frame)
        ]


@pytest.mark.parametrize("engine", ["resize", "lite"])
@pytest.mark.parametrize("tagged", [True, False], ids=["tagged", "untagged"])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("name", sorted(MATRIX))
def test_colours_are_kept(longtake, tmp_path, name, full, tagged, engine) -> None:
    matrix = MATRIX[name]
    if engine == "lite" and (full or name == "2020"):
        pytest.skip("the path to and from RGB is the same for every engine")
    stated = Color(matrix=matrix, primaries=matrix, transfer=matrix if matrix != 9 else 14,
                   full_range=full)  # fmt: skip
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    films.make(
        source, frames=3, size=SIZE, picture=chart, pixel_format="yuv444p", options={"crf": "4"},
        color=stated if tagged else None,
    )  # fmt: skip
    flags = ["--engine", engine, "--scale", "2"]
    if not tagged:
        matrix, full = 6, False  # what libav made the untagged film with
    done = longtake("upscale", source, target, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    error = deltaE_ciede2000(
        rgb2lab(middles(source, matrix, full)), rgb2lab(middles(target, matrix, full))
    )
    assert error.mean() <= 1.0
    assert error.max() <= 3.0
    assert tags(target) == tags(source)
    if not tagged:
        assert "states no colour matrix" in done.stdout


def test_an_untagged_film_is_read_as_told(longtake, tmp_path) -> None:
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    films.make(source, frames=3, size=SIZE, picture=chart, pixel_format="yuv444p")
    told = ("--assume-color", "bt709-full")
    done = longtake("upscale", source, target, "--engine", "resize", "--scale", "2", *told)
    assert done.returncode == 0
    assert "states no colour matrix" not in done.stdout
    assert tags(target) == tags(source)  # still untagged
    error = np.abs(middles(source, 1, True) - middles(target, 1, True)).max()
    assert error < 0.02


@pytest.mark.parametrize(
    ("form", "bits"),
    [("yuv420p10le", 10), ("yuv422p", 8), ("yuv422p10le", 10), ("yuv444p", 8), ("yuv444p10le", 10)],
)
def test_deep_and_fine_sources_keep_depth_and_chroma(longtake, tmp_path, form, bits) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    films.make(source, frames=3, size=SIZE, pixel_format=form, codec="ffv1")
    done = longtake("upscale", source, target, "--engine", "resize", "--scale", "2")
    assert done.returncode == 0
    with av.open(str(target)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == form


def test_a_ten_bit_ramp_keeps_its_steps(longtake, tmp_path) -> None:
    """At its own size a 10-bit film through 16-bit RGB loses nothing that shows."""
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    with av.open(str(source), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1024, 16, "yuv444p10le"
        ramp = np.clip(np.arange(1024), 64, 940).astype(np.uint16)
        frame = av.VideoFrame(1024, 16, "yuv444p10le")
        for plane, row in zip(
            frame.planes, (ramp, np.full_like(ramp, 512), np.full_like(ramp, 512)), strict=True
        ):
            padded = np.zeros((16, plane.line_size // 2), np.uint16)
            padded[:, :1024] = row
            plane.update(padded.tobytes())
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    flags = ("--engine", "resize", "--height", "16", "--codec", "ffv1")
    assert longtake("upscale", source, target, *flags).returncode == 0
    luma = []
    for path in (source, target):
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            assert frame.format.name == "yuv444p10le"
            plane = frame.planes[0]
            rows = np.frombuffer(bytes(plane), np.uint16).reshape(16, plane.line_size // 2)
            luma.append(rows[:, :1024].astype(int))
    assert np.abs(luma[0] - luma[1]).max() <= 1


@pytest.mark.parametrize("transfer", [16, 18], ids=["pq", "hlg"])
def test_hdr_is_refused_and_never_written_as_sdr(longtake, tmp_path, transfer) -> None:
    source = tmp_path / "in.mp4"
    hdr = Color(matrix=9, primaries=9, transfer=transfer, full_range=False)
    films.make(source, frames=3, size=SIZE, pixel_format="yuv420p10le", color=hdr)
    for command in (("upscale",), ("plan", "upscale")):
        refused = longtake(*command, source, tmp_path / "out.mp4")
        assert refused.returncode == 2
        assert "HDR" in refused.stderr
    assert not list(tmp_path.glob("out*"))
