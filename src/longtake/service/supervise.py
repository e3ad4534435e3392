"""`longtake serve`: workers as child processes, the chores that nobody asks for, and their end."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from longtake.core.errors import LongtakeError
from longtake.service.database import DatabaseAway
from longtake.service.devices import Post

_PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # s, before a worker is started again
_STEADY: Final = 60.0  # s of life after which a death is the first again
_REST: Final = 1.0  # s between two looks at whether a drained worker may work again
_END: Final = 20.0  # s that workers have to give their steps back
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Child:
    post: Post
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    deaths: int = 0
    not_before: float = 0.0


@dataclass(slots=True)
class Workers:
    """A worker process for each device; one that dies is started again, ever later. One that was
    drained is started again when it may.

    A worker is a fresh program, no fork of this one: nothing of CUDA is shared. It holds the other
    end of a pipe: when this process ends, however it ends, it stops.
    """

    posts: Sequence[Post]
    environment: Mapping[str, str]
    lease: float
    rests: Callable[[str], bool] = lambda _: False
    """Whether the worker of that name is drained."""
    log: str = "auto"
    """Of `--log`."""
    _children: list[_Child] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Workers:
        self._children = [_Child(post) for post in self.posts]
        self._thread = threading.Thread(target=self._watch, daemon=True, name="workers")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            process.terminate()
        end = time.monotonic() + _END
        for process in running:
            try:
                process.wait(max(end - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            for child in self._children:
                self._look(child)

    def _look(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is not None:
            code = child.process.poll()
            if code is None:
                return
            if child.process.stdin is not None:
                child.process.stdin.close()
            child.process, child.not_before = None, now + self._pause(child, code)
        if now < child.not_before:
            return
        if self._rests(child):
            child.not_before = now + _REST
            return
        post = child.post
        words = [sys.executable, "-m", "longtake", "worker", "--child", "--device", post.device,
                 "--name", post.name, "--lease", str(self.lease), "--log", self.log]  # fmt: skip
        child.process = subprocess.Popen(
            words, stdin=subprocess.PIPE,
            env={**os.environ, **self.environment, **post.environment},
        )  # fmt: skip
        child.began = now

    def _pause(self, child: _Child, code: int) -> float:
        """Seconds before the next one begins."""
        if code == 0:  # by its own will: it is drained
            _log.info("worker %s has ended", child.post.name)
            child.deaths = 0
            return _REST
        child.deaths = 1 if time.monotonic() - child.began > _STEADY else child.deaths + 1
        pause = _PAUSES[min(child.deaths, len(_PAUSES)) - 1]
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        _log.warning("worker %s ended by %s; again in %g s", child.post.name, how, pause)
        return pause

    def _rests(self, child: _Child) -> bool:
        try:
            return self.rests(child.post.name)
        except DatabaseAway as error:
            _log.warning("database: %s", error)
            return True


@dataclass(slots=True)
class Chores:
    """Functions that are called again and again, each in a thread of its own; they return how much
    they found to do, and 0 lets them rest for a while."""

    work: Mapping[str, tuple[Callable[[], int], float]]
    """By name: the function, and seconds of rest."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Chores:
        for name, (do, rest) in self.work.items():
            thread = threading.Thread(target=self._run, args=(name, do, rest), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _run(self, name: str, do: Callable[[], int], rest: float) -> None:
        while not self._stop.is_set():
            try:
                found = do()
            except (DatabaseAway, LongtakeError, OSError) as error:
                _log.warning("%s: %s", name, error)
                found = 0
            if not found:
                self._stop.wait(rest)
