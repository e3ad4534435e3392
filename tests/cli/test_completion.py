"""`longtake completion`: what the shells themselves make of the scripts."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from longtake.cli.main import COMMANDS
from longtake.core.plugins import names


@pytest.fixture(scope="module")
def script(longtake, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    for shell, name in (("bash", "longtake.bash"), ("zsh", "_longtake")):
        printed = longtake("completion", shell)
        assert printed.returncode == 0
        assert printed.stderr == ""
        (folder / name).write_text(printed.stdout, encoding="utf-8")
    return folder


@pytest.fixture
def bash(script, tmp_path):
    """What Tab offers after these words, the last of which is still being typed."""
    if not shutil.which("bash"):
        pytest.skip("bash is not here")

    def offered(*words: str) -> list[str]:
        asked = f"""
            source {script / "longtake.bash"}
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            _shtab_longtake
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        done = subprocess.run(
            ["bash", "-c", asked, "bash", "longtake", *words],
            cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        assert done.stderr == ""
        return sorted(done.stdout.split("\n")[:-1]) if done.stdout.strip() else []

    return offered


def test_commands_and_their_own_flags(bash) -> None:
    assert bash("") == sorted(COMMANDS)
    assert bash("ups") == ["upscale"]
    assert bash("plan", "") == ["generate", "upscale"]
    assert bash("upscale", "--rec") == ["--recursive"]
    assert bash("recover", "--rec") == []
    assert {"--scale", "--engine", "--to", "--json"} <= set(bash("upscale", "in.mp4", "--"))


def test_choices_and_plugins(bash) -> None:
    assert bash("upscale", "--engine", "") == names("engines")
    assert bash("upscale", "a", "b", "--effort", "very") == ["veryfast"]
    assert bash("upscale", "--scale", "") == sorted(["1.5", "2", "3", "4"])
    assert bash("plan", "upscale", "in", "out", "--to", "") == names("media.sinks")
    assert bash("upscale", "--drop", "att") == ["attachments"]
    assert bash("completion", "") == ["bash", "zsh"]


def test_names_of_files_and_folders(bash, tmp_path) -> None:
    (tmp_path / "film.mp4").write_text("x")
    (tmp_path / "films").mkdir()
    assert bash("upscale", "fi") == ["film.mp4", "films"]
    assert bash("upscale", "film.mp4", "fi") == ["film.mp4", "films"]
    assert bash("upscale", "--json", "--output", "fi") == ["film.mp4", "films"]
    assert bash("jobs", "fi") == ["films"]
    assert bash("recover", "fi") == ["films"]


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not here")
def test_zsh_completes_by_it(script, tmp_path) -> None:
    """Typed into a real zsh; the line is then turned into an echo of itself."""
    subprocess.run(["zsh", "-n", script / "_longtake"], check=True, timeout=30)
    start = (
        f"PS1=; fpath=({script} $fpath); autoload -Uz compinit; compinit -D -u; "
        "bindkey '^I' complete-word; bindkey '^A' beginning-of-line; print READY"
    )
    terminal, its_side = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=its_side, stdout=its_side, stderr=its_side, cwd=tmp_path,
        env=os.environ | {"TERM": "dumb"}, start_new_session=True,
    )  # fmt: skip
    os.close(its_side)
    try:
        _type(terminal, f"{start}\n", until="\nREADY")
        _type(terminal, "longtake upsc\t in out --engine res\t", until="resize")
        shown = _type(terminal, "\x01print -- FOUND \n", until="\nFOUND")
        assert "FOUND longtake upscale in out --engine resize" in shown
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)


def _type(terminal: int, keys: str, until: str) -> str:
    """What a terminal shows after these keys, until the words come."""
    os.write(terminal, keys.encode())
    shown, deadline = "", time.monotonic() + 30
    while until not in shown.replace("\r", ""):
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")
    return shown.replace("\r", "")


def test_an_unknown_shell_is_a_usage_error(longtake) -> None:
    refused = longtake("completion", "fish")
    assert refused.returncode == 2
    assert "bash" in refused.stderr
