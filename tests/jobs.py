"""Jobs that are disturbed: started as processes, watched through `--json`, killed when told.

A folder of tests that wants these fixtures imports them in its conftest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.media import films

PLUGINS = Path(__file__).resolve().parent / "plugins"


@dataclass
class Outcome:
    code: int
    events: list[dict[str, Any]]
    stderr: str = ""

    def named(self, name: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["event"] == name]

    @property
    def last(self) -> dict[str, Any]:
        return self.events[-1]

    @property
    def message(self) -> str:
        return str(self.last["message"])


@dataclass
class Command:
    """`longtake ... --json` in a process group of its own."""

    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *words: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "longtake", *map(str, words), "--json"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
            env=os.environ | self.environment | environment,
        )  # fmt: skip

    def __call__(self, *words: object, **environment: str) -> Outcome:
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=240)
        assert "Traceback" not in err, err
        return Outcome(process.returncode, [json.loads(line) for line in out.splitlines()], err)

    def stopped(
        self,
        when: Callable[[dict[str, Any]], bool],
        how: signal.Signals,
        *words: object,
        **env: str,
    ) -> Outcome:
        """Run until an event for which `when` holds, then signal the whole group."""
        process = self.start(*words, **env)
        assert process.stdout is not None
        events = []
        for line in process.stdout:
            events.append(json.loads(line))
            if when(events[-1]):
                os.killpg(process.pid, how)
                break
        rest, err = process.communicate(timeout=60)
        events += [json.loads(x) for x in rest.splitlines() if x.endswith("}")]
        return Outcome(process.returncode, events, err)


@pytest.fixture
def job(tmp_path: Path) -> Command:
    path = os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH")]))
    return Command({"LONGTAKE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": path, "NO_COLOR": "1"})


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 frames with B-frames and sound, three shots: cuts at 33 and 57."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    size = (96, 64)
    shots, moving = films.shots(size, (33, 24, 33)), films.texture(size)

    def picture(number: int) -> films.RGB:
        still, wave = shots(number).astype(int), moving(number).astype(int)
        return films.counter(((3 * still + wave) // 4).astype("uint8"), number)

    return films.make(path, frames=90, size=size, b_frames=2, sound=True, picture=picture)


@pytest.fixture
def straight(job: Command, film: Path, tmp_path: Path) -> Callable[..., bytes]:
    """The bytes of an undisturbed run with these flags."""

    def run(*flags: object, suffix: str = ".mp4") -> bytes:
        target = tmp_path / f"straight{suffix}"
        done = job("upscale", film, target, *flags)
        assert done.code == 0, done.events[-1]
        made = target.read_bytes()
        target.unlink()
        return made

    return run
