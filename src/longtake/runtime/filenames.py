"""File names: which ones a file system can hold, which two are one, in what order people put them.

Windows' rules: https://learn.microsoft.com/windows/win32/fileio/naming-a-file
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import unicodedata
from pathlib import Path

WINDOWS = os.name == "nt"
LONGEST_PATH = 259  # characters that Windows takes where long paths are not switched on
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9\u00b9\u00b2\u00b3]) *",
                      re.IGNORECASE)  # fmt: skip
_DIGITS = re.compile(r"(\d+)")


def windows_fault(name: str) -> str | None:
    """What keeps Windows from holding a file of this name; None where nothing does."""
    found = _FORBIDDEN.search(name)
    if found:
        return f"Windows has no {found[0]!r} in file names"
    if name != name.rstrip(". "):
        return "Windows drops dots and spaces from the end of a name"
    if _DEVICES.fullmatch(name.partition(".")[0]):
        return f"{name.partition('.')[0].rstrip()} is the name of a device on Windows"
    return None


def fault(path: Path, longest: Path) -> str | None:
    """Why `path` cannot be written here; None where it can. `longest` is the longest path that
    comes with it, a work folder's part."""
    names = {path.name, *longest.relative_to(path.parent).parts}
    if WINDOWS:
        wrong = windows_fault(path.name)
        if wrong:
            return wrong
        length = len(os.path.abspath(longest))
        if length > LONGEST_PATH and not _long_paths():
            return (
                f"the work folder's paths would have {length} characters, and Windows takes "
                f"{LONGEST_PATH}: choose a shorter folder, or switch long paths on"
            )
    most = _most_bytes(path.parent)
    length = max(len(os.fsencode(name)) for name in names)
    if length > most:
        return f"the work folder's name would have {length} bytes, and {most} are possible here"
    return None


def _most_bytes(folder: Path) -> int:
    """Bytes of the longest name in a folder."""
    if hasattr(os, "pathconf"):
        try:
            return os.pathconf(folder, "PC_NAME_MAX")
        except (OSError, ValueError):
            pass
    return 255


def _long_paths() -> bool:
    """Whether this Windows, and this Python on it, takes paths of any length."""
    try:
        return bool(ctypes.WinDLL("ntdll").RtlAreLongPathsEnabled())  # type: ignore[attr-defined,unused-ignore]
    except (AttributeError, OSError):
        return False


def usable(stem: str) -> str:
    """A stem that may become the name of a folder on every system: no dots or spaces at its end."""
    return stem.rstrip(". ") or "_"


def folded(path: Path, blind: bool) -> str:
    """What two names have in common that are one where case (and Unicode's form) does not count."""
    text = path.as_posix()
    return unicodedata.normalize("NFC", text).casefold() if blind else text


def case_blind(folder: Path) -> bool:
    """Whether `A` and `a` are one name in a folder; asked of the nearest one that there is."""
    at = folder.resolve()
    for place in (at, *at.parents):
        other = place.with_name(place.name.swapcase()) if place.name else place
        if other.name == place.name or not place.exists():
            continue
        try:
            return os.path.samefile(place, other)
        except OSError:
            return False
    return sys.platform in ("win32", "darwin")


def natural(path: Path) -> list[tuple[list[tuple[int, int, str]], str]]:
    """Sort key: 2.mp4 before 10.mp4, a.mp4 before a2.mp4; folder by folder, whatever the case."""
    return [([_piece(p) for p in _DIGITS.split(Path(n).stem.casefold())], n) for n in path.parts]


def _piece(text: str) -> tuple[int, int, str]:
    return (0, int(text), "") if text.isdecimal() else (1, 0, text)
