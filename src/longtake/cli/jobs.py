"""`longtake jobs [FOLDER ...]`"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from longtake.cli.options import add_json, words_of
from longtake.cli.show import print_json, say
from longtake.core.errors import Usage
from longtake.core.plan import Plan
from longtake.core.task import Task, Upscale
from longtake.planner.explain import bytes_
from longtake.planner.survey import gpus
from longtake.runtime import workfolder
from longtake.runtime.unfinished import Unfinished, find, look
from longtake.settings import Settings

_COLORS = {"running": "green", "unfinished": "yellow", "damaged": "red"}
_SAYS = {
    "running": "a process works on it now",
    "finished": "the film is in its place; only this folder was left behind",
    "kept": "done, and kept by --keep",
}


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", type=Path, metavar="FOLDER", nargs="*",
        help="where to look for OUT.longtake, or such a folder itself; default: here",
    )  # fmt: skip
    parser.add_argument("--recursive", action="store_true", help="look into subfolders too")
    parser.add_argument(
        "--clear", action="store_true",
        help="remove the work folders FOLDER with all that is done in them; never one in use",
    )  # fmt: skip
    add_json(parser)


def run(given: argparse.Namespace, settings: Settings) -> int:
    console = Console(highlight=False)
    if given.clear:
        return _clear(given.folders, console, given.json)
    found = [look(f) for place in given.folders or [Path()] for f in _below(place, given.recursive)]
    for job in found:
        if given.json:
            print_json(_as_json(job))
        else:
            _show(console, job)
    if not given.json:
        size = bytes_(sum(job.bytes for job in found))
        hint = "" if given.recursive else "; --recursive looks into subfolders"
        words = f"{len(found)} work folder{'s' * (len(found) != 1)}, {size}{hint}"
        say(console, "", words)
    return 0


def _below(place: Path, recursive: bool) -> Iterator[Path]:
    if not place.is_dir():
        raise Usage(f"{place}: no such folder.")
    yield from find(place, recursive)


def _clear(folders: list[Path], console: Console, as_json: bool) -> int:
    if not folders:
        raise Usage("--clear removes what is named: give the work folders OUT.longtake.")
    for folder in folders:
        size = workfolder.discard(folder)
        if as_json:
            print_json({"event": "cleared", "folder": str(folder), "bytes": size})
        else:
            say(console, "removed", f"{folder} ({bytes_(size)})")
    return 0


def _show(console: Console, job: Unfinished) -> None:
    says = job.reason if job.state == "damaged" else _SAYS.get(job.state, "")
    say(console, f"{job.state:10}", f"{job.folder}  {says}".rstrip(), _COLORS.get(job.state, ""))
    when = datetime.fromtimestamp(job.changed).strftime("%Y-%m-%d %H:%M")
    done = "not yet analysed"
    if job.plan is not None:
        done = (
            f"{job.source} with {job.plan.recipe.engine}: {job.segments} of "
            f"{len(job.plan.segments)} segments, {job.frames:,} of {job.plan.geometry.frames:,} "
            f"frames"
        )
    say(console, "", f"           {done}; {bytes_(job.bytes)}, last change {when}")
    for what, words in _commands(job).items():
        say(console, "", f"           {what:8} {_line(words)}")


def _commands(job: Unfinished) -> dict[str, list[str]]:
    """What can be done about it."""
    clear = ["longtake", "jobs", "--clear", str(job.folder)]
    if job.state == "running":
        return {}
    if job.state != "unfinished" or job.plan is None:
        return {"remove": clear}
    words = ["longtake", *_asked(job, job.plan.task)]
    found = {"go on": [*words, *_devices(job.plan)]}
    if job.segments:
        found["recover"] = ["longtake", "recover", str(job.folder)]
    return {**found, "remove": clear}


def _asked(job: Unfinished, task: Task) -> list[str]:
    """The command and its words, without what is the default."""
    target = str(job.target)
    if isinstance(task, Upscale):
        return ["upscale", str(job.source), target, *words_of(task)]
    image = [] if task.image is None else ["--image", str(job.source)]
    return ["generate", target, "--prompt", task.prompt, *image, *words_of(task)]


def _devices(plan: Plan) -> list[str]:
    """The flag without which another kind of device would be chosen, and the job be refused."""
    devices = plan.placement.devices
    if len(devices) > 1:
        kind = devices[0].partition(":")[0]
        return ["--devices", f"{kind}:{','.join(d.partition(':')[2] for d in devices)}"]
    on_cpu = plan.recipe.numerics.device == "cpu" and plan.recipe.numerics.torch is not None
    return ["--devices", "cpu"] if on_cpu and gpus() else []


def _line(words: list[str]) -> str:
    """As it is typed in a shell of this system."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _as_json(job: Unfinished) -> dict[str, Any]:
    plan, commands = job.plan, _commands(job)
    return {
        "event": "job",
        "folder": str(job.folder),
        "target": str(job.target),
        "state": job.state,
        "reason": job.reason or None,
        "source": str(job.source) if plan else None,
        "engine": plan.recipe.engine if plan else None,
        "segments": job.segments,
        "of_segments": len(plan.segments) if plan else None,
        "frames": job.frames,
        "of_frames": plan.geometry.frames if plan else None,
        "bytes": job.bytes,
        "changed": datetime.fromtimestamp(job.changed).astimezone().isoformat("T", "seconds"),
        "locked": job.state == "running",
        "go_on": commands.get("go on"),
        "recover": commands.get("recover"),
    }
