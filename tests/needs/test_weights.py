"""Downloads that survive, through the command line: cuts, kills, Ctrl-C, wrong bytes, licences."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.weights import toy
from tests.weights.host import Host, serving

ROOT = Path(__file__).resolve().parents[2]
CODE = "from tests.weights import toy; toy.main()"


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return toy.contents("v1.1")


@pytest.fixture
def host(files):
    with serving(Host(files=dict(files))) as host:
        yield host


@pytest.fixture
def start(host, files, tmp_path):
    """`longtake weights ...` as a process, with the toys in the catalogue; v1.1 has hashes."""
    digests = [hashlib.sha256(files[name]).hexdigest() for name in toy.NAMES.values()]

    def run(*words: str, code: str = CODE) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, *digests, "--", "weights", *words],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {
                "LONGTAKE_WEIGHTS": str(tmp_path), "HF_ENDPOINT": host.url, "NO_COLOR": "1",
                "COLUMNS": "200", "PYTHONPATH": "src",
            },
        )  # fmt: skip

    return run


@pytest.fixture
def weights(start):
    """The same, waited for: exit code, output, errors."""

    def run(*words: str, **how: str) -> tuple[int, str, str]:
        process = start(*words, **how)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    return run


def events(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def whole(folder: Path, files: dict[str, bytes]) -> bool:
    return all((folder / name).read_bytes() == body for name, body in files.items())


def test_five_cuts_resume_check_and_no_torch(weights, host, files, tmp_path) -> None:
    """`pull` and `list` never load torch, not even where the files are pickles."""
    host.cuts = [30_000, 20_000, 1, 9_000, 40_000]
    spy = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); {CODE}"
    code, out, err = weights("pull", "toy-v1.1", "--json", code=spy)
    assert (code, err) == (0, "")
    *lines, torch = out.splitlines()
    assert torch == "False"
    told = events("\n".join(lines))
    assert sum(e["event"] == "retried" for e in told) == 5
    stored = [e for e in told if e["event"] == "stored"]
    assert [e["trusted"] for e in stored] == ["published"] * 3
    assert [e["sha256"] for e in stored] == [hashlib.sha256(b).hexdigest() for b in files.values()]
    assert whole(tmp_path / "toy-v1.1", files)
    assert host.sent == sum(map(len, files.values()))  # not one byte twice
    assert all(path.startswith("/makers/toy-v1.1/resolve/main/") for path, _ in host.asked)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_in_the_middle_it_goes_on(start, weights, host, files, tmp_path, how) -> None:
    host.trickle = 0.02
    came = tmp_path / "toy-v1.1/net.safetensors.partial"
    process = start("pull", "toy-v1.1")
    deadline = time.monotonic() + 120
    while not (came.exists() and came.stat().st_size > 40_000):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    _, err = process.communicate(timeout=30)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command goes on" in err
    _, out, _ = weights("list", "--json")
    assert {e["name"]: e["state"] for e in events(out)}["toy-v1.1"] == "partial"
    here, host.trickle = came.stat().st_size, 0
    code, _, err = weights("pull", "toy-v1.1")
    assert (code, err) == (0, "")
    assert host.asked[1][1] == f"bytes={here}-"
    assert whole(tmp_path / "toy-v1.1", files)


def test_a_corrupted_file_is_named_and_fetched_again(weights, host, files, tmp_path) -> None:
    folder = tmp_path / "toy-v1.1"
    assert weights("pull", "toy-v1.1")[0] == 0
    body = bytearray(files["Decoder.ckpt"])
    body[len(body) // 2] ^= 255
    (folder / "Decoder.ckpt").write_bytes(body)
    code, out, _ = weights("check")
    assert code == 1
    assert "bad  decoder" in out
    assert "Decoder.ckpt: damaged: sha256 is" in out
    code, out, _ = weights("pull", "toy-v1.1")
    assert code == 0
    assert "Decoder.ckpt is damaged" in out
    assert [path.rpartition("/")[2] for path, _ in host.asked[3:]] == ["Decoder.ckpt"]
    assert whole(folder, files)
    code, out, _ = weights("check", str(folder), "--json")
    assert (code, {e["state"] for e in events(out)}) == (0, {"good"})


def test_wrong_bytes_no_file_no_name(weights, host, files, tmp_path) -> None:
    host.files["net.safetensors"] = files["net.safetensors"][:-1] + b"x"
    code, _, err = weights("pull", "toy-v1.1")
    assert (code, "twice" in err, "Traceback" in err) == (2, True, False)
    del host.files["net.safetensors"]
    code, _, err = weights("pull", "toy-v1.1")
    assert (code, "404" in err) == (2, True)
    for words, says in (
        (("pull", "toy-v1.3"), "there are toy-v1.1"),
        (("pull", "toy-v1.1", "--from", "ftp://x"), "give hf, modelscope"),
        (("check", str(ROOT)), "--model NAME"),
        (("convert", str(tmp_path), str(tmp_path / "o"), "--model", "toy-v1.1"), "no file of"),
    ):
        code, _, err = weights(*words)
        assert (code, says in err, "Traceback" in err) == (2, True, False), err


def test_every_weight_shows_its_licence(weights, longtake, tmp_path) -> None:
    _, out, _ = weights("list", "--json")
    listed = {e["name"]: e for e in events(out)}
    assert listed["toy-v1.1"]["licences"] == "Apache-2.0, MIT"
    assert all(f["licence"] for e in listed.values() for f in e["files"])
    assert {"flashvsr-v1.0", "flashvsr-v1.1", "lite"} <= listed.keys()
    shown = longtake("weights", "list", LONGTAKE_WEIGHTS=str(tmp_path))
    assert shown.returncode == 0
    rows = [line for line in shown.stdout.splitlines() if line.startswith(("flash", "lite"))]
    assert len(rows) == 3
    assert all("Apache-2.0" in row for row in rows)
