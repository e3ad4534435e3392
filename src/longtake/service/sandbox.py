"""Files that strangers upload are opened in a throw-away child process only.

The child has an empty environment, no network, no right to start a process or to write, and hard
limits of memory and time; what a platform lacks of these is left out. It answers with one line of
JSON, or with plain pixels, that are checked here: a child that was taken over can at worst give a
wrong description or a wrong picture.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from longtake.core.errors import BadInput
from longtake.core.media import VideoInfo
from longtake.core.plain import from_plain
from longtake.media import guard, thumbnail

Code = Literal[
    "unreadable", "not_allowed", "too_large", "took_too_long", "too_much_memory", "crashed"
]
MAX_RATE = 240  # frames / s
MAX_SECONDS = 24 * 3600  # of a film
_MAX_WORDS = 1000  # characters of one text
_MAX_WHOLE = 1 << 63
_PATIENCE = 2.0  # s for what is left in a pipe after the child's end
_BLOCK = 1 << 16  # bytes
_SCRIPT = Path(__file__).with_name("_limited.py")
_FRACTION = re.compile(r"-?\d{1,19}/\d{1,19}")
_SIGNS: tuple[tuple[str, Code], ...] = (  # words of `media.guard` and `media._structure`
    ("took too long", "took_too_long"),
    ("more memory than there is", "too_much_memory"),
    ("at most ", "too_large"),
    ("which do not fit into", "too_large"),
    (" is not accepted", "not_allowed"),
    ("the film is encrypted", "not_allowed"),
    (", not a film", "not_allowed"),
)


class Rejected(BadInput):
    """The file is not accepted."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code: Code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a child may take."""

    seconds: float = 20  # by the clock on the wall; rounded up, also of processor time
    memory: int = 2 << 30  # bytes of address space
    written: int = 0  # bytes of one file
    files: int = 64  # open at once
    output: int = 1 << 20  # bytes of standard output, and again of standard error
    threads: bool = False  # True: it may start threads; a further process never


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a child ended."""

    code: int  # exit code; negative: the signal that ended it
    output: bytes
    errors: bytes
    late: bool  # its time, by the clock or of the processor, was over
    flooded: bool  # it said more than it may


_DEFAULT = Limits()


def probed(path: Path, *, seconds: float = 20, memory: int = 2 << 30) -> VideoInfo:
    """What `media.probe.probe` says of a file, found out by a child that is thrown away.

    The child can open nothing but the file itself. Raises Rejected.
    """
    limits = Limits(seconds=seconds, memory=memory)
    ended = _read(path, [path.name], limits, "Reading its header")
    answer = _answer(ended, ended.output, path.name, limits)
    if "info" not in answer:
        raise Rejected("crashed", f"The decoder failed on it ({_end(ended)}).")
    return replace(_checked(answer["info"]), path=path)


def still(
    path: Path, width: int, at: Fraction | None = None, *, seconds: float = 20,
    memory: int = 2 << 30,
) -> NDArray[np.uint8]:  # fmt: skip
    """[h, w, 3] what `media.thumbnail.picture` gives, decoded by a child like that of `probed`.

    Raises Rejected.
    """
    most = 3 * width * thumbnail.TALLEST * width  # bytes
    limits = Limits(seconds=seconds, memory=memory, output=_DEFAULT.output + most)
    words = ["still", str(width), "" if at is None else str(at), path.name]
    ended = _read(path, words, limits, "Decoding a picture of it")
    line, _, pixels = ended.output.partition(b"\n")
    size = _answer(ended, line, path.name, limits)
    shape = size.get("height"), size.get("width"), 3
    if not _may_be(shape, width) or math.prod(shape) != len(pixels):
        raise Rejected("crashed", f"The decoder failed on it ({_end(ended)}).")
    return np.frombuffer(pixels, np.uint8).reshape(shape)


def _may_be(shape: tuple[Any, Any, int], width: int) -> TypeGuard[tuple[int, int, int]]:
    """Whether a picture that was asked for in that width may have this shape."""
    high, wide, _ = shape
    return (
        type(high) is int
        and type(wide) is int
        and 0 < wide <= width
        and 0 < high <= thumbnail.TALLEST * width
    )


def _read(path: Path, words: Sequence[str], limits: Limits, doing: str) -> Ended:
    """How the child that was given these words ended. Raises Rejected where its time was over."""
    argv = [sys.executable, "-I", "-m", "longtake.service._limited", *words]
    try:
        ended = run_limited(argv, limits, folder=path.parent)
    except (FileNotFoundError, NotADirectoryError):
        raise Rejected("unreadable", f"There is no folder {path.parent}.") from None
    if ended.late:
        raise Rejected("took_too_long", f"{doing} took more than {limits.seconds:g} s.")
    return ended


def run_limited(argv: Sequence[str], limits: Limits = _DEFAULT, *, folder: Path) -> Ended:
    """Run a program (by its absolute path) in `folder`, under limits, to its end.

    It gets no input and no environment; it can start no process and reach no network. Whatever is
    left of it when its time is over is killed, and so it is when this process dies.
    """
    process = subprocess.Popen(
        _command(argv, limits),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=_environment(),
        bufsize=0,
        start_new_session=os.name == "posix",
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            readers = [
                _Reader(pipe, limits.output, lambda: _kill(process))
                for pipe in (process.stdout, process.stderr)
            ]
            late = not _waited(process, limits.seconds)
        finally:
            _kill(process)
        code = process.wait()
        for reader in readers:
            reader.join(_PATIENCE)
    output, errors = readers
    return Ended(
        code=code,
        output=bytes(output.kept),
        errors=bytes(errors.kept),
        late=late or (os.name == "posix" and code == -signal.SIGXCPU),
        flooded=output.flooded or errors.flooded,
    )


class _Reader(threading.Thread):
    """Keeps what comes through a pipe, and stops the one who sends too much."""

    def __init__(self, pipe: IO[bytes], most: int, stop: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.kept = bytearray()
        self.flooded = False
        self._pipe, self._most, self._stop_sender = pipe, most, stop
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed: nobody waits for more
            while block := self._pipe.read(_BLOCK):
                room = self._most - len(self.kept)
                self.kept += block[:room]
                if len(block) > room:
                    self.flooded = True
                    self._stop_sender()
                    return


def _command(argv: Sequence[str], limits: Limits) -> list[str]:
    if os.name != "posix":
        return list(argv)
    said = {
        "parent": os.getpid(),
        "seconds": max(1, math.ceil(limits.seconds)),
        "memory": limits.memory,
        "written": limits.written,
        "files": limits.files,
        "threads": int(limits.threads),
    }
    return [sys.executable, "-I", "-S", str(_SCRIPT), json.dumps(said), *argv]


def _environment() -> dict[str, str]:
    """Nothing but what Python needs to start, and one thread for its arithmetic."""
    needed = ("SYSTEMROOT",) if os.name == "nt" else ("LD_LIBRARY_PATH",)
    kept = {name: os.environ[name] for name in needed if name in os.environ}
    return {"LC_ALL": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **kept}


def _waited(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the child, and where it could start others, all of its group.

    A group's number is not given away as long as one of its processes lives.
    """
    with contextlib.suppress(OSError):  # gone already
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


# --- the answer ----------------------------------------------------------------------------------


def _answer(ended: Ended, line: bytes, name: str, limits: Limits) -> dict[str, Any]:
    """What the child says in its line of JSON. Raises Rejected where that is a refusal or none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    answer = found if isinstance(found, dict) and not ended.flooded else {}
    if isinstance(answer.get("refused"), str):
        raise _refusal(answer["refused"], name)
    if "memory" in answer or (ended.code and b"MemoryError" in ended.errors):
        needs = f"Reading it needs more than {limits.memory >> 20} MiB."
        raise Rejected("too_much_memory", needs)
    if ended.code or not answer:
        raise Rejected("crashed", f"The decoder failed on it ({_end(ended)}).")
    return answer


def _refusal(words: str, name: str) -> Rejected:
    """The child's refusal under a code, without the name that the file has here."""
    words = _clean(words.removeprefix(f"{name}: "))
    words = "".join(sign if sign.isprintable() else " " for sign in words)
    code: Code = next((c for sign, c in _SIGNS if sign in words), "unreadable")
    return Rejected(code, words[:1].upper() + words[1:])


def _end(ended: Ended) -> str:
    if ended.code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-ended.code).name
    return f"exit code {ended.code}" if ended.code else "it gave no description"


def _checked(plain: Any) -> VideoInfo:
    """The description, if it may be one. Raises Rejected."""
    try:
        _refuse_odd_fractions(plain)
        info = from_plain(VideoInfo, _clean(plain))
        possible = _possible(info)
    except (TypeError, ValueError, ArithmeticError, RecursionError, KeyError):
        possible = False
    if not possible:
        raise Rejected("crashed", "The decoder gave a description that cannot be true.")
    try:
        guard.bound(info.width, info.height, Path("film"))
    except BadInput as error:
        raise _refusal(error.detail, "film") from None
    if info.rate > MAX_RATE:
        raise Rejected(
            "too_large", f"{float(info.rate):g} frames/s; at most {MAX_RATE} are accepted."
        )
    if info.duration > MAX_SECONDS or info.frames > MAX_SECONDS * MAX_RATE:
        hours = float(max(info.duration, info.frames / info.rate)) / 3600
        raise Rejected("too_large", f"{hours:.1f} h; at most {MAX_SECONDS // 3600} are accepted.")
    return info


def _refuse_odd_fractions(plain: Any) -> None:
    """Fraction("1e999999999") would be worked out: only a/b may reach it. Raises ValueError."""
    for name, kind in typing.get_type_hints(VideoInfo).items():
        if kind is Fraction and not _FRACTION.fullmatch(plain[name]):
            raise ValueError(name)


def _clean(value: Any) -> Any:
    """The same JSON value, with short texts that every database can hold and numbers of 64 bits."""
    if isinstance(value, dict):
        return {str(_clean(name)): _clean(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_clean(part) for part in value]
    if isinstance(value, str):
        return value[:_MAX_WORDS].replace("\0", "").encode("utf-8", "replace").decode()
    if isinstance(value, int) and not -_MAX_WHOLE <= value < _MAX_WHOLE:
        raise ValueError(f"{value:#x}")
    return value


def _possible(info: VideoInfo) -> bool:
    """Whether a probe can have said this."""
    tracks = all(min(t.index, t.channels, t.sample_rate) >= 0 for t in info.tracks)
    numbers = (info.frames, info.stream, info.chapters, info.size)
    ratios = (info.rate, info.time_base, info.sar)
    codes = (info.color.matrix, info.color.primaries, info.color.transfer)
    return (
        tracks
        and len(info.tracks) < guard.MAX_STREAMS
        and min(numbers) >= 0
        and min(info.width, info.height) > 0
        and info.duration >= 0
        and min(ratios) > 0
        and all(0 <= code <= 255 for code in codes)
        and 1 <= info.bits <= 32
        and abs(info.rotation) <= 360
        and info.telecine is None
        and not info.exact
    )
