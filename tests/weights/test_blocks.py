"""Block files are read exactly, by many at once, and what has changed is found out."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from longtake.core.blocks import slab
from longtake.core.errors import BadInput
from longtake.weights import block_manifest, blocks
from longtake.weights.block_manifest import Description, Origin, block_name, sealed
from longtake.weights.blocks import BlockFiles

COUNT = 4
LAYOUT = slab([("a.weight", "bfloat16", (500, 411)), ("b", "float32", (7,)), ("c", "int8", (900,))])


def made(folder: Path, seed: int = 0, model: str = "wan-toy") -> Path:
    """A folder of random block files."""
    folder.mkdir()
    values = random.Random(seed)
    for index in range(COUNT):
        (folder / block_name(index)).write_bytes(values.randbytes(LAYOUT.bytes))
    (folder / "rest.safetensors").write_bytes(values.randbytes(5000))
    names = [*map(block_name, range(COUNT)), "rest.safetensors"]
    *files, rest = (sealed(folder / name) for name in names)
    described = Description(
        model=model, config={"dim": 4}, dtype="bfloat16", quant="none", slab=LAYOUT,
        blocks=tuple(files), rest=rest, made_from=(Origin(name="x", bytes=1, sha256="0" * 64),),
    )  # fmt: skip
    block_manifest.write(folder, described)
    block_manifest.note_all(folder, described)
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return made(tmp_path / "transformer")


def buffer() -> memoryview:
    """At a page's address."""
    return memoryview(mmap.mmap(-1, LAYOUT.bytes))


def content(folder: Path, index: int) -> bytes:
    return (folder / block_name(index)).read_bytes()


def changed(path: Path, at: int, *, quietly: bool = False) -> None:
    """Flip a byte; `quietly`, so that neither size nor time tells."""
    about = path.stat()
    body = bytearray(path.read_bytes())
    body[at] ^= 255
    path.write_bytes(body)
    if quietly:
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("request_bytes", [4096, 3 * 4096, 1 << 24])
def test_it_gives_what_the_files_hold(folder, monkeypatch, direct, request_bytes) -> None:
    monkeypatch.setattr(blocks, "REQUEST", request_bytes)
    asked = []
    plain = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda h, parts, at: asked.append((at, len(parts[0]))) or plain(h, parts, at)
    )
    with BlockFiles(folder, "wan-toy", direct=direct) as files:
        assert (files.slab, files.count) == (LAYOUT, COUNT)
        assert files.rest.read_bytes()[:8] == (folder / "rest.safetensors").read_bytes()[:8]
        into = buffer()
        for index in (2, 0, 3, 1, 1):
            files.read(index, into)
            assert into.tobytes() == content(folder, index)
    assert {at % 4096 for at, _ in asked} == {0}
    assert max(size for _, size in asked) <= request_bytes
    assert len(asked) == 5 * -(-LAYOUT.bytes // request_bytes)


def test_many_threads_read_at_once(folder, monkeypatch) -> None:
    monkeypatch.setattr(blocks, "REQUEST", 4096)
    start = threading.Barrier(8)
    with BlockFiles(folder) as files, ThreadPoolExecutor(8) as threads:

        def read(seed: int) -> bool:
            into, order = buffer(), random.Random(seed)
            start.wait()
            for index in (order.randrange(COUNT) for _ in range(10)):
                files.read(index, into)
                if into.tobytes() != content(folder, index):
                    return False
            return True

        assert all(threads.map(read, range(8)))


def test_an_address_that_direct_reads_do_not_take(folder) -> None:
    """The contract is a page's address; another one costs speed and nothing else."""
    odd = memoryview(mmap.mmap(-1, LAYOUT.bytes + 4096))[13 : 13 + LAYOUT.bytes]
    with BlockFiles(folder) as files:
        files.read(1, odd)
        assert odd.tobytes() == content(folder, 1)


def test_a_file_system_without_direct_reads(folder, monkeypatch) -> None:
    plain = os.open

    def refusing(path, flags, *more):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return plain(path, flags, *more)

    monkeypatch.setattr(os, "open", refusing)
    let_go = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *given: let_go.append(given[1:]))
    with BlockFiles(folder) as files:
        into = buffer()
        files.read(3, into)
        assert into.tobytes() == content(folder, 3)
    assert let_go == [(0, LAYOUT.bytes, os.POSIX_FADV_DONTNEED)]


@pytest.mark.parametrize("direct", [True, False])
def test_short_reads_go_on(folder, monkeypatch, direct) -> None:
    plain, sizes = os.preadv, random.Random(5)

    def short(handle, parts, at):
        most = sizes.randrange(1, 40_000)
        return plain(handle, [parts[0][: most if not direct else -(-most // 512) * 512]], at)

    monkeypatch.setattr(os, "preadv", short)
    with BlockFiles(folder, direct=direct) as files:
        into = buffer()
        for index in range(COUNT):
            files.read(index, into)
            assert into.tobytes() == content(folder, index)


def test_a_failing_disk_is_told_with_numbers(folder, monkeypatch) -> None:
    monkeypatch.setattr(blocks, "REQUEST", 8192)
    plain = os.preadv

    def failing(handle, parts, at):
        if at == 16384:
            raise OSError(errno.EIO, "Input/output error")
        return plain(handle, parts, at)

    monkeypatch.setattr(os, "preadv", failing)
    with BlockFiles(folder) as files:
        says = rf"block\.02\.bin: 8,192 bytes from byte 16,384 of {LAYOUT.bytes:,}.*Input/output"
        with pytest.raises(BadInput, match=says):
            files.read(2, buffer())


@pytest.mark.parametrize("direct", [True, False])
def test_a_file_that_shrinks_while_it_is_used(folder, direct) -> None:
    with BlockFiles(folder, direct=direct) as files:
        os.truncate(folder / block_name(0), 8192)
        with pytest.raises(BadInput, match=rf"ends after 8,192 of {LAYOUT.bytes:,} bytes"):
            files.read(0, buffer())
        with pytest.raises(ValueError, match="a block needs"):
            files.read(1, buffer()[:-1])


def test_nothing_stays_open(folder) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with BlockFiles(folder) as files:
        files.read(0, memoryview(bytearray(LAYOUT.bytes)))
        assert len(set(os.listdir("/proc/self/fd")) - before) >= COUNT
    assert set(os.listdir("/proc/self/fd")) <= before


# --- what has changed ----------------------------------------------------------------------------


def full_hashes(monkeypatch) -> list[str]:
    """Names of files that are hashed in full from now on."""
    found: list[str] = []
    plain = block_manifest.digest

    def noted(path: Path) -> str:
        if path.name != "blocks.json":
            found.append(path.name)
        return plain(path)

    monkeypatch.setattr(block_manifest, "digest", noted)
    return found


def test_only_what_has_changed_is_hashed_in_full(folder, monkeypatch) -> None:
    hashed = full_hashes(monkeypatch)
    BlockFiles(folder).close()
    assert hashed == []
    os.utime(folder / block_name(1))
    BlockFiles(folder).close()
    assert hashed == [block_name(1)]
    BlockFiles(folder).close()  # and is then known again
    assert hashed == [block_name(1)]
    (folder / "seen.json").write_text("{")
    BlockFiles(folder).close()
    assert len(hashed) == 1 + COUNT + 1


@pytest.mark.parametrize("at", [0, 65_535, 100_000, LAYOUT.bytes - 1])
@pytest.mark.parametrize("quietly", [False, True])
def test_a_flipped_byte(folder, at, quietly) -> None:
    """Head and tail are read on each open, the rest where size or time tells, all by `wrong`."""
    changed(folder / block_name(2), at, quietly=quietly)
    assert LAYOUT.bytes > 300_000
    hidden = quietly and 65_536 <= at < LAYOUT.bytes - 65_536
    described = block_manifest.read(folder)
    if hidden:
        BlockFiles(folder).close()
    else:
        with pytest.raises(BadInput, match=r"block\.02\.bin is damaged"):
            BlockFiles(folder)
    (reason,) = block_manifest.wrong(folder, described, full=True)
    assert "block.02.bin is damaged: its sha256" in reason
    with pytest.raises(BadInput, match=r"block\.02\.bin"):  # what was found is not forgotten
        BlockFiles(folder)


def test_missing_and_short_files_are_all_named(folder) -> None:
    (folder / block_name(0)).unlink()
    os.truncate(folder / "rest.safetensors", 100)
    with pytest.raises(BadInput, match=r"00\.bin is missing; .*rest.* has 100 of 5,000 bytes"):
        BlockFiles(folder)
    with pytest.raises(BadInput, match="holds no block files"):
        BlockFiles(folder.parent)


def test_two_models_of_one_layout_are_never_mixed(tmp_path) -> None:
    """Sizes and names agree; so would times, after a careless copy."""
    first, second = made(tmp_path / "a", 1), made(tmp_path / "b", 2, "wan-other")
    with BlockFiles(first) as one, BlockFiles(second / "blocks.json") as two:
        assert one.slab == two.slab
        assert one.identity != two.identity
        assert one.identity == hashlib.sha256((first / "blocks.json").read_bytes()).hexdigest()
    with pytest.raises(BadInput, match="holds wan-other, not wan-toy"):
        BlockFiles(second, "wan-toy")
    about = (first / block_name(3)).stat()
    (first / block_name(3)).write_bytes((second / block_name(3)).read_bytes())
    os.utime(first / block_name(3), ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.raises(BadInput, match=r"block\.03\.bin is damaged"):
        BlockFiles(first)


def test_notes_of_another_model_count_for_nothing(tmp_path, monkeypatch) -> None:
    first, second = made(tmp_path / "a", 1), made(tmp_path / "b", 2)
    (first / "seen.json").write_bytes((second / "seen.json").read_bytes())
    hashed = full_hashes(monkeypatch)
    BlockFiles(first).close()
    assert len(hashed) == COUNT + 1


def test_the_same_weights_have_the_same_name_wherever_they_lie(tmp_path) -> None:
    first, second = made(tmp_path / "a"), made(tmp_path / "b")
    assert (first / "blocks.json").read_bytes() == (second / "blocks.json").read_bytes()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"format": 1', '"format": 2'), ('"block.01.bin"', '"../01.bin"'),
        ('"bfloat16",\n    "is": "Field"', '"complex",\n    "is": "Field"'),
        (f'"bytes": {LAYOUT.bytes}', '"bytes": 4096'), ('"offset": 0', '"offset": 1'),
        ("{", "["),
    ],
)  # fmt: skip
def test_a_manifest_that_nobody_wrote_is_refused(folder, old, new) -> None:
    path = folder / "blocks.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(BadInput, match=r"blocks\.json is damaged"):
        BlockFiles(folder)
