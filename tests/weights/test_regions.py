"""Tensors written by regions: a safetensors file that others read, and a disk that fills up."""

from __future__ import annotations

import errno

import pytest
import torch
from safetensors.torch import load_file

from longtake.core.errors import BadInput, DiskFull
from longtake.weights import _regions
from longtake.weights._regions import Regions, header, packed
from longtake.weights.files import header as read_header

KINDS = ("float32", "int8", "bfloat16", "float8_e4m3fn", "int64", "bool", "float16", "float64")


def values(kind: str, shape: tuple[int, ...]) -> torch.Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(len(kind))) * 9
    return made.to(getattr(torch, kind))


@pytest.mark.parametrize("portion", [7, 1 << 26])
def test_a_safetensors_file_of_all_dtypes(tmp_path, monkeypatch, portion) -> None:
    monkeypatch.setattr(_regions, "_PORTION", portion)
    tensors = {f"{kind}.{n}": values(kind, shape) for kind in KINDS
               for n, shape in enumerate(((), (3,), (5, 7, 1), (0, 4)))}  # fmt: skip
    fields = packed(
        (name, str(v.dtype).removeprefix("torch."), tuple(v.shape)) for name, v in tensors.items()
    )
    assert [f.offset for f in fields] == [0, *(f.offset + f.bytes for f in fields[:-1])]
    path = tmp_path / "all.safetensors"
    head = header(fields, {"model": "toy"})
    path.write_bytes(b"?" * (len(head) + sum(f.bytes for f in fields)))
    with Regions(tmp_path) as regions:
        regions.put_bytes(path.name, 0, head)
        for field in reversed(fields):
            regions.put(path.name, len(head) + field.offset, tensors[field.name])
        regions.settle()
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        assert bytes(found[name].reshape(-1).view(torch.uint8)) == bytes(
            value.reshape(-1).view(torch.uint8)
        )
    assert read_header(path)["__metadata__"] == {"model": "toy"}


def test_what_the_disk_gives_back_is_compared(tmp_path, monkeypatch) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    with Regions(tmp_path) as regions:
        regions.put_bytes("a", 10, b"x" * 50)
        regions.settle()
        regions.put_bytes("a", 60, b"y" * 40)
        with (tmp_path / "a").open("r+b") as file:
            file.seek(99)
            file.write(b"z")
        with pytest.raises(BadInput, match="the 40 bytes from byte 60"):
            regions.settle()


def test_other_errors_of_the_disk_stay_what_they_are(tmp_path, monkeypatch) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    for number, kind in ((errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, OSError)):

        def failing(*_: object, number: int = number) -> int:
            raise OSError(number, "no")

        monkeypatch.setattr(_regions, "_write", failing)
        with Regions(tmp_path) as regions, pytest.raises(kind):
            regions.put_bytes("a", 0, b"x")
