"""`longtake completion bash|zsh`: a script that knows our commands, flags and plug-ins of today.

It is made by shtab out of the same parser that reads the command line, and it is static: pressing
Tab starts no Python. Plug-ins that are installed later appear when it is printed again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab
from rich_argparse import RawDescriptionRichHelpFormatter

from longtake.cli.options import DROPS, Help
from longtake.core.plugins import names
from longtake.core.task import Limits, Upscale, options
from longtake.runtime.engines import presets
from longtake.settings import Settings

SHELLS = ("bash", "zsh")
_FOLDERS = {"folder", "folders"}  # arguments that can be nothing else
_EPILOG = """\
bash: longtake completion bash > ~/.local/share/bash-completion/completions/longtake
zsh:  longtake completion zsh > ~/.zfunc/_longtake   (a folder that is in $fpath before compinit)
"""
_READLINE = """\
# names that need quotes are completed by readline itself
complete -o filenames -o bashdefault -o default -F _shtab_longtake longtake
"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = _Help
    parser.epilog = _EPILOG
    parser.add_argument("shell", choices=SHELLS, metavar="|".join(SHELLS), help="the shell")


def run(given: argparse.Namespace, settings: Settings) -> int:
    from longtake.cli.main import whole_parser

    parser = whole_parser()
    for action in _actions(parser):
        _teach(action)
    script = shtab.complete(parser, shell=given.shell)
    print(script)
    if given.shell == "bash":
        print(_READLINE, end="")
    return 0


class _Help(Help, RawDescriptionRichHelpFormatter):
    """An epilog in lines, as it is written."""


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every argument of a parser and of its commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action


def _teach(action: argparse.Action) -> None:
    """Say what can follow: a file, a folder, or one of some words."""
    words = _words().get(action.dest, ())
    if action.choices is None and words:
        action.choices = words
    elif action.type is Path or action.dest in _FOLDERS:
        kind = shtab.DIRECTORY if action.dest in _FOLDERS else shtab.FILE
        action.complete = kind  # type: ignore[attr-defined]


def _words() -> dict[str, tuple[str, ...]]:
    fields = [pair for kind in (Upscale, Limits) for pair in options(kind)]
    return {
        **{field.name: how.choices for field, how in fields if how.choices},
        "engine": tuple(names("engines")),
        "engines": tuple(names("engines")),
        "preset": tuple(sorted({one.name for name in names("engines") for one in presets(name)})),
        "to": tuple(names("media.sinks")),
        "drop": DROPS,
        "devices": ("auto", "all", "cpu", "cuda:0"),
    }
