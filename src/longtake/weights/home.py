"""Where weights lie, and the file that an engine asks for. Nothing here needs torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from longtake.core.errors import BadInput, Usage, WeightsMissing
from longtake.weights import manifest
from longtake.weights.catalog import Model, WeightFile, model, version_in

VARIABLE = "LONGTAKE_WEIGHTS"


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """`LONGTAKE_WEIGHTS`, or the platform's folder for a user's data."""
    given = environment.get(VARIABLE)
    if given:
        return Path(given).expanduser()
    if sys.platform == "win32":
        place = Path(environment.get("LOCALAPPDATA", Path.home() / "AppData/Local"))
    elif sys.platform == "darwin":
        place = Path.home() / "Library/Application Support"
    else:
        place = Path(environment.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    return place / "longtake" / "weights"


def find(name: str, role: str, folder: Path | None = None) -> Path:
    """The file of model `name` (flashvsr-v1.1) with that role, converted or as it was published.

    `folder` holds files that the user put somewhere, and then `name` is the user's word on which
    version they are; the manifest and the folder's name must not say otherwise. By default the
    folder is that of `longtake weights pull`. No file is read: sizes are compared with what is
    known. Raises WeightsMissing, whose last words are the command to run, or BadInput.
    """
    return find_all(name, role, folder)[0]


def find_all(name: str, role: str, folder: Path | None = None) -> tuple[Path, ...]:
    """All files of a role, as `find` has it: shards in order, without their index; `blocks.json`
    alone where they were made into block files."""
    wanted = model(name)
    place = folder if folder is not None else home() / name
    belongs(place, wanted)
    found: dict[Path, None] = {}
    files = wanted.of_role(role)
    for file in [f for f in files if f.holds != "none"] or files:
        path = present(place, file)
        if path is None:
            to = "" if folder is None else f' --to "{folder}"'
            raise WeightsMissing(
                f"The {role} of {name} ({file.name}) is not in {place}. Run: "
                f"longtake weights pull {name}{to}"
            )
        _sound(place, path, wanted, file)
        found[path] = None
    return tuple(found)


def present(folder: Path, file: WeightFile) -> Path | None:
    """The file in a folder, by the first of its names that is there."""
    return next((folder / n for n in file.names if (folder / n).is_file()), None)


def belongs(folder: Path, wanted: Model) -> None:
    """Refuse a folder whose manifest or name says that it holds another version.

    Versions have the same names and shapes, so nothing else would notice. Raises BadInput.
    """
    for name, entry in manifest.read(folder).items():
        if entry.model != wanted.name:
            raise BadInput(
                f"{folder / name} belongs to {entry.model}, not to {wanted.name}: each version "
                f"needs its own files in a folder of its own."
            )
    said = version_in(folder.name, wanted.family)
    if said is not None and said != wanted.version:
        raise BadInput(
            f"{folder} is named {said}, but {wanted.name} is asked for. Rename the folder if its "
            f"name is wrong."
        )


def told(folder: Path, name: str | None, models: Mapping[str, Model]) -> Model:
    """The model that a folder holds: by `name`, its manifest, or the version in its own name.

    Raises Usage where nothing says it: it is never guessed.
    """
    if name is not None:
        wanted = model(name)
    else:
        names = {entry.model for entry in manifest.read(folder).values()}
        names = names or {
            m.name for m in models.values() if version_in(folder.name, m.family) == m.version
        }
        if len(names) != 1:
            raise Usage(
                f"Nothing says which model {folder} holds, and versions look alike. Give "
                f"--model NAME: one of {', '.join(models)}."
            )
        wanted = model(names.pop())
    belongs(folder, wanted)
    return wanted


def _sound(folder: Path, path: Path, wanted: Model, file: WeightFile) -> None:
    """Refuse a file of another size than is known."""
    name = path.relative_to(folder).as_posix()
    entry = manifest.read(folder).get(name)
    known = entry.bytes if entry else (file.bytes if name == file.name else None)
    size = path.stat().st_size
    if known is not None and size != known:
        raise BadInput(
            f"{path} has {size:,} bytes instead of {known:,}: it is damaged. Run: "
            f"longtake weights pull {wanted.name}"
        )
