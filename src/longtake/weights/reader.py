"""Open official checkpoints as they are: tensors one by one, mapped, never code.

A safetensors file is mapped. A pickle (`.pth`, `.ckpt`, `.pt`) is read with `weights_only=True`,
mapped too where it is in the zip format; one that holds more than plain data is refused.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from longtake.core.errors import BadInput
from longtake.weights.tables import PROMPT, Shape

if TYPE_CHECKING:
    import torch
    from torch import nn

    Net = TypeVar("Net", bound=nn.Module)

SAFETENSORS = ".safetensors"
_NO_RESERVE = 0x4000  # MAP_NORESERVE of Linux, which Python names since 3.13
_PORTION = 1 << 26  # values read through one mapping: 256 MB of float32
_WRAPPERS = ("state_dict", "model_state", "model", "module", "params", "params_ema")


class Weights(Protocol):
    """An open checkpoint. Nothing is read before `tensor` asks for it."""

    strange: tuple[str, ...]  # entries that are no tensors

    def shapes(self) -> dict[str, Shape]: ...
    def dtypes(self) -> dict[str, str]:
        """By key: float32, bfloat16, ..."""
        ...

    def tensor(self, key: str) -> torch.Tensor:
        """On the CPU, with the bytes still in the file where that can be."""
        ...


@contextmanager
def open_weights(path: Path, name: str | None = None) -> Iterator[Weights]:
    """Open a checkpoint lazily. `name` is the file's real name where `path` has another one.

    A bare tensor is given the key "prompt"; {"state_dict": {...}} and the like are unwrapped.
    Raises BadInput.
    """
    kind = Path(name or path.name).suffix
    with contextlib.ExitStack() as stack:
        if kind == SAFETENSORS:
            yield stack.enter_context(_safetensors(path))
        else:
            yield _Pickled(path)


def load(
    build: Callable[[], Net],
    path: Path,
    *,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    unused: Callable[[str], bool] | None = None,
) -> Net:
    """The net that `build` makes with the tensors of `path`, cast and moved one at a time: beside
    what the net keeps, the host holds some 256 MB of the mapped file. With no dtype and on the CPU
    nothing is copied.

    The net is built on meta; its names must be the file's, all of them, but for keys that `unused`
    says nobody needs. Raises BadInput.
    """
    import torch

    with torch.device("meta"):
        net = build()
    wanted = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    with open_weights(path) as weights:
        found = weights.shapes()
    more = {key for key in found.keys() - wanted.keys() if unused is not None and unused(key)}
    wrong = differences(wanted, {k: v for k, v in found.items() if k not in more})
    if wrong:
        raise BadInput(f"{path} does not fit {type(net).__name__}: {listed(wrong)}.")
    state: dict[str, torch.Tensor] = {}
    for keys in _portions(wanted):
        with open_weights(path) as weights:  # anew, so that pages already used are let go
            state |= {key: weights.tensor(key).to(device=device, dtype=dtype) for key in keys}
    net.load_state_dict(state, assign=True)
    return net.eval()


def _portions(shapes: Mapping[str, Shape]) -> Iterator[list[str]]:
    """The keys in runs of about `_PORTION` values."""
    keys: list[str] = []
    values = 0
    for key, shape in shapes.items():
        keys.append(key)
        values += math.prod(shape)
        if values >= _PORTION:
            yield keys
            keys, values = [], 0
    yield keys


def differences(wanted: Mapping[str, Shape], found: Mapping[str, Shape]) -> list[str]:
    """What is missing, too much or of another shape; empty where all agree."""
    return [
        *(f"{key} is missing" for key in wanted if key not in found),
        *(f"{key} is unknown" for key in found if key not in wanted),
        *(
            f"{key} is {shown(found[key])} instead of {shown(shape)}"
            for key, shape in wanted.items()
            if key in found and tuple(found[key]) != tuple(shape)
        ),
    ]


def shown(shape: Shape) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def listed(lines: Collection[str], most: int = 4) -> str:
    """The first lines, and how many more there are."""
    first = list(lines)[:most]
    return "; ".join(first) + (f"; and {len(lines) - most} more" if len(lines) > most else "")


# --- the two kinds of files ----------------------------------------------------------------------


class _Safetensors:
    """Tensors lie in one mapping of the file, which lives as long as one of them."""

    def __init__(self, file: Any, path: Path) -> None:
        self._file, self._path = file, path
        self._start, self._header = _header(path)
        self._mapped: torch.Tensor | None = None
        self.strange: tuple[str, ...] = ()

    def shapes(self) -> dict[str, Shape]:
        return {k: tuple(self._file.get_slice(k).get_shape()) for k in self._file.keys()}  # noqa: SIM118

    def dtypes(self) -> dict[str, str]:
        found = {k: self._file.get_slice(k).get_dtype() for k in self.shapes()}
        return {key: STORED_AS.get(kind, kind) for key, kind in found.items()}

    def tensor(self, key: str) -> torch.Tensor:
        import torch

        about = self._header[key]
        begin, end = (self._start + offset for offset in about["data_offsets"])
        dtype = getattr(torch, STORED_AS.get(about["dtype"], ""), None)
        if dtype is None:
            raise BadInput(f"{self._path}: {key} is {about['dtype']}, which is not read.")
        if begin == end:
            return torch.empty(about["shape"], dtype=dtype)
        if self._mapped is None:
            self._mapped = torch.frombuffer(_mapping(self._path), dtype=torch.uint8)
        flat = self._mapped[begin:end]
        if begin % dtype.itemsize:
            flat = flat.clone()
        return flat.view(dtype).reshape(about["shape"])


def _mapping(path: Path) -> mmap.mmap:
    """A file in memory, to be read page by page; what is written there stays there. No memory is
    set aside for it: a file may be larger than there is."""
    with path.open("rb") as file:
        if not sys.platform.startswith("linux"):
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        flags = mmap.MAP_PRIVATE | _NO_RESERVE
        return mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the tensors begin, and what is said of each; of a file that is known to be sound."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return 8 + length, json.loads(file.read(length))


STORED_AS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
STORED_AS |= {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "I8": "int8", "U8": "uint8"}
STORED_AS |= {"I64": "int64", "I32": "int32", "I16": "int16", "BOOL": "bool"}
"""A safetensors file's names of dtypes -> ours."""


@contextmanager
def _safetensors(path: Path) -> Iterator[_Safetensors]:
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, framework="np")
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path} is not a safetensors file: {error}.") from None
    with file:
        yield _Safetensors(file, path)


class _Pickled:
    def __init__(self, path: Path) -> None:
        self._tensors, self.strange = _tensors_of(_unpickled(path), path)

    def shapes(self) -> dict[str, Shape]:
        return {key: tuple(value.shape) for key, value in self._tensors.items()}

    def dtypes(self) -> dict[str, str]:
        return {key: str(v.dtype).removeprefix("torch.") for key, v in self._tensors.items()}

    def tensor(self, key: str) -> torch.Tensor:
        return self._tensors[key]


def _unpickled(path: Path) -> Any:
    import torch

    try:
        mapped = zipfile.is_zipfile(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on protocols; what it cannot read it refuses
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|global|class) ([\w.]+\.[\w.]+)", str(error))
        raise BadInput(
            f"{path} holds more than plain tensors{f' ({found[1]})' if found else ''} and is not "
            f"opened, since a pickle can run code. Ask its maker for safetensors."
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"{path} cannot be read as a checkpoint: {reason}") from None


def _tensors_of(stored: Any, path: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The tensors by key, and the names of what is none."""
    import torch

    if isinstance(stored, torch.Tensor):
        return {PROMPT: stored}, ()
    if not isinstance(stored, dict):
        raise BadInput(f"{path} holds a {type(stored).__name__}, and not tensors by name.")
    tensors = {str(k): v for k, v in stored.items() if isinstance(v, torch.Tensor)}
    strange = tuple(str(k) for k, v in stored.items() if not isinstance(v, torch.Tensor))
    inner = next((stored[w] for w in _WRAPPERS if isinstance(stored.get(w), dict)), None)
    if not tensors and inner is not None:
        within, more = _tensors_of(inner, path)
        kept = [k for k in strange if stored[k] is not inner]
        return within, (*kept, *more)
    if not tensors:
        raise BadInput(f"{path} holds no tensors, only {listed(strange) or 'nothing'}.")
    return tensors, strange
