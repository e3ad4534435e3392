"""Fetch one file over HTTP, going on where an earlier attempt ended.

What has come lies in NAME.partial; beside it, NAME.partial.json says which file of the host it is
the beginning of, so that two different files are never put together. Only the standard library is
used: proxies, certificates and redirects are those of urllib.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from longtake import __version__
from longtake.core.errors import BadInput, DiskFull, DownloadFailed, Usage

TRIES = 5  # attempts in a row that may bring nothing
PAUSES = (1.0, 2.0, 4.0, 8.0)  # s before each further attempt
PATIENCE = 60.0  # s without a byte until the connection is given up
_BLOCK = 1 << 20  # bytes
_EVERY = 0.2  # s between two words on how far it is
_AGAIN = {408, 425, 429, 500, 502, 503, 504}  # what a host says that may pass
_HASH = re.compile(r'^(?:W/)?"?([0-9a-f]{64})"?$')
_MEGA = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Bytes of this file that are here; of how many, where the host says so."""

    bytes: int
    of: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """The connection broke: it is tried again after some seconds."""

    reason: str
    seconds: float
    bytes: int  # that are kept


Step = Received | Retried


class _Broken(Exception):
    """The attempt ended early; another may bring the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """Which file of the host a partial file is the beginning of."""

    tag: str  # ETag or the time of the last change; "" where the host says neither
    bytes: int | None


def fetch(url: str, partial: Path, sha256: str | None = None) -> Generator[Step, None, str | None]:
    """Bring the file at `url` into `partial`, all of it; returns the sha256 that the host names
    for it, if it does. The file is not checked here.

    `sha256`, where it is known, allows going on with a part of another host. Raises BadInput where
    there is no such file, DownloadFailed after 5 attempts in a row that brought nothing, DiskFull.
    """
    if not url.startswith(("http://", "https://")):
        raise Usage(f"{url} is no address that can be fetched: give http:// or https://.")
    best, fruitless, anew = size(partial), 0, False
    while True:
        try:
            return (yield from _attempt(url, partial, sha256))
        except _Broken as broken:
            now = size(partial)
            if now < best and not anew:  # what was here could not be used; a host that never goes
                best, anew = 0, True  # on loses it each time, so this counts once
            fruitless = 0 if now > best else fruitless + 1
            best = max(best, now)
            if fruitless == TRIES:
                raise DownloadFailed(
                    f"{url}: {broken}; {TRIES} attempts in a row brought nothing new. "
                    f"{now / _MEGA:.1f} MB are kept: the same command goes on from there."
                ) from None
            pause = PAUSES[min(fruitless, len(PAUSES)) - 1] if fruitless else 0.0
            yield Retried(reason=str(broken), seconds=pause, bytes=now)
            time.sleep(pause)


def size(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def discard(partial: Path) -> None:
    """Remove what has come, and the note beside it."""
    partial.unlink(missing_ok=True)
    _note(partial).unlink(missing_ok=True)


def need_room(folder: Path, needed: int, what: str) -> None:
    """Raises DiskFull where the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(
            f"{what} needs {needed / _MEGA:,.1f} MB more, {folder} has {free / _MEGA:,.1f} MB free."
        )


def _attempt(url: str, partial: Path, sha256: str | None) -> Generator[Step, None, str | None]:
    have = size(partial)
    answer, named = _ask(url, have)
    with contextlib.closing(answer):
        if answer.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            if have and _total(answer.headers) == have:
                return named
            discard(partial)
            raise _Broken(f"the host has fewer than the {have} bytes that were here")
        origin = _Origin(tag=_tag(answer.headers, named), bytes=_total(answer.headers))
        if answer.status != http.client.PARTIAL_CONTENT:
            have = 0  # the host sends all of it, whatever was asked
        elif have and not (sha256 or origin == _noted(partial)):
            discard(partial)
            raise _Broken("the file has changed at the host, so it is fetched from the start")
        elif _start(answer.headers) != have:
            raise _Broken(f"the host sent another part than the one from byte {have}")
        if origin.bytes is not None:
            need_room(partial.parent, origin.bytes - have, url)
        _note(partial).write_text(json.dumps([origin.tag, origin.bytes]), encoding="utf-8")
        yield from _pour(answer, partial, have, origin.bytes)
    return named


def _pour(answer: Any, partial: Path, have: int, total: int | None) -> Generator[Step, None, None]:
    """Append what comes to the first `have` bytes of the partial file."""
    with partial.open("r+b" if have else "wb") as file:
        file.seek(have)
        file.truncate()
        told = 0.0
        while block := _read(answer):
            _store(file, block, partial)
            have += len(block)
            if total is not None and have > total:
                break
            if time.monotonic() - told > _EVERY:
                told = time.monotonic()
                file.flush()
                yield Received(bytes=have, of=total)
    yield Received(bytes=have, of=total)
    if total is not None and have != total:
        if have > total:
            discard(partial)
        raise _Broken(f"the connection ended after {have:,} of {total:,} bytes")


def _read(answer: Any) -> bytes:
    try:
        block: bytes = answer.read1(_BLOCK)
        return block
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(_words(error)) from None


def _store(file: IO[bytes], block: bytes, partial: Path) -> None:
    try:
        file.write(block)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"{partial} has {size(partial) / _MEGA:.1f} MB so far.") from None
        raise


# --- the host ------------------------------------------------------------------------------------


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the web only, and keeps the sha256 that a hub names on the way.

    https://huggingface.co/docs/huggingface_hub/package_reference/file_download: X-Linked-Etag.
    """

    def __init__(self) -> None:
        self.named: str | None = None

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith(("http://", "https://")):
            raise BadInput(f"{req.full_url} leads to {newurl}, which is not on the web.")
        self.named = _hash_in(headers) or self.named
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _ask(url: str, start: int) -> tuple[Any, str | None]:
    """The host's answer for the bytes from `start` on, and the sha256 that it names."""
    asked = {"User-Agent": f"longtake/{__version__}", "Accept-Encoding": "identity"}
    if start:
        asked["Range"] = f"bytes={start}-"
    redirects = _Redirects()
    try:
        opener = urllib.request.build_opener(redirects)
        answer = opener.open(urllib.request.Request(url, headers=asked), timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return error, redirects.named
        error.close()
        if error.code in _AGAIN:
            raise _Broken(f"the host says {error.code} {error.reason}") from None
        raise BadInput(
            f"{url} cannot be fetched: the host says {error.code} {error.reason}. Try another "
            f"source: --from modelscope, --from URL or --from FOLDER."
        ) from None
    except (OSError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise DownloadFailed(f"{url}: the host's certificate is not trusted: {cause}") from None
        raise _Broken(_words(cause)) from None
    return answer, _hash_in(answer.headers) or redirects.named


def _words(error: object) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came for {PATIENCE:.0f} s"
    return str(error) or type(error).__name__


def _hash_in(headers: Mapping[str, str]) -> str | None:
    found = _HASH.match(headers.get("X-Linked-Etag") or "")
    return found[1] if found else None


def _tag(headers: Mapping[str, str], named: str | None) -> str:
    return named or headers.get("ETag") or headers.get("Last-Modified") or ""


def _total(headers: Mapping[str, str]) -> int | None:
    """Bytes of the whole file, where the host says so."""
    last = (headers.get("Content-Range") or "").rpartition("/")[2]
    if last.isdigit():
        return int(last)
    length = headers.get("Content-Length") or ""
    return int(length) if length.isdigit() and not headers.get("Content-Range") else None


def _start(headers: Mapping[str, str]) -> int | None:
    found = re.match(r"bytes (\d+)-", headers.get("Content-Range") or "")
    return int(found[1]) if found else None


def _note(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def _noted(partial: Path) -> _Origin | None:
    try:
        tag, total = json.loads(_note(partial).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return None
    # A host that says neither tag nor size cannot promise that it is the same file.
    return _Origin(tag=tag, bytes=total) if tag else None
