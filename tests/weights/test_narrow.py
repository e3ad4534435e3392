"""The image encoder's file with its matrices in 8 bits: what is in it, and what never gets lost."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.core.errors import BadInput, Usage
from longtake.nets import clip_vision_needs
from longtake.runtime.transformers import RECOGNISE
from longtake.weights import catalog, home, into_safetensors, listing, manifest
from longtake.weights.check import Checked, check
from longtake.weights.convert import Converted, convert
from longtake.weights.files import digest
from longtake.weights.into_blocks import BlockOptions, Taken
from longtake.weights.pull import Source, pull
from longtake.weights.quantize import QUANTS, quantize
from longtake.weights.reader import open_weights
from tests.generators.wan_models import I2V, nets, official, small_clip

MODEL = small_clip()
OFFICIAL = MODEL.file("image").name
MADE = MODEL.file("image").converted
TABLE = MODEL.file("image").table()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Official files."""
    official(tmp_path / "from", nets(I2V))
    return tmp_path / "from"


def into(source: Path, target: Path, quant: str, move: bool = False) -> list[Converted | Taken]:
    options = BlockOptions(quant={"image": quant}, move=move, recognise=RECOGNISE["wan"])
    return list(convert(source, target, MODEL, None, options))


def checked(folder: Path) -> Checked:
    (found,) = (c for c in check(folder, MODEL) if c.role == "image")
    return found


def exact(folder: Path) -> dict[str, Tensor]:
    return torch.load(folder / OFFICIAL, weights_only=True)


def test_matrices_are_those_of_the_net() -> None:
    """Weights know them by a name's beginning, nets by the block's own names."""
    assert MODEL.file("image").narrows == clip_vision_needs.BLOCKS
    for model in catalog.MODELS.values():
        roles = [file.role for file in model.files if file.narrows]
        assert roles == (["image"] if "-i2v-" in model.name else [])


@pytest.mark.parametrize("quant", ["int8", "fp8"])
def test_matrices_of_blocks_have_8_bits_and_all_else_is_as_it_was(
    folder: Path, tmp_path: Path, quant: str
) -> None:
    state, before = exact(folder), digest(folder / OFFICIAL)
    (made,) = into(folder / OFFICIAL, tmp_path / "to", quant)
    assert isinstance(made, Converted)
    found = load_file(made.path)
    blocks = {key for key in TABLE if "transformer" in key and state[key].dim() == 2}
    assert len(blocks) == 2 * 4
    scales = {f"{key.removesuffix('weight')}weight_scale" for key in blocks}
    assert found.keys() == TABLE.keys() | scales  # and nothing of what is not run
    for key in TABLE:
        if key in blocks:
            numbers, scale = quantize(state[key], QUANTS[quant])
            assert found[key].dtype is getattr(torch, QUANTS[quant])
            assert torch.equal(found[key].view(torch.uint8), numbers.view(torch.uint8))
            assert torch.equal(found[f"{key}_scale"], scale)
        else:
            assert found[key].dtype is state[key].dtype
            assert torch.equal(found[key], state[key])
    assert digest(folder / OFFICIAL) == before
    entry = manifest.read(tmp_path / "to")[MADE]
    assert (entry.sha256, entry.made_from, entry.role) == (made.sha256, before, "image")
    assert (checked(tmp_path / "to").state, made.sha256) == ("good", digest(made.path))
    assert "scales of 8" in checked(tmp_path / "to").says
    files = {f.role: f for f in listing.look(MODEL, tmp_path / "to").files}
    assert files["image"].state == "whole"


def test_beside_the_official_file_it_is_the_one_that_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(catalog.MODELS, MODEL.name, MODEL)
    first = into(folder / OFFICIAL, folder, "int8")
    assert (folder / OFFICIAL).is_file()
    assert home.find(MODEL.name, "image", folder) == folder / MADE
    again = into(folder / OFFICIAL, folder, "int8")
    assert (first[0].sha256, len(again)) == (again[0].sha256, 1)


def test_moved_it_stands_alone_and_the_same_command_finds_it(folder: Path, tmp_path: Path) -> None:
    for target in (folder, tmp_path / "to"):
        source = shutil.copytree(folder, tmp_path / f"copy-{target.name}")
        place = source if target is folder else target
        before = digest(source / OFFICIAL)
        made, taken = into(source / OFFICIAL, place, "int8", move=True)
        assert isinstance(taken, Taken)
        assert (taken.sha256, taken.removed) == (before, True)
        assert not (source / OFFICIAL).exists()
        (there,) = into(source / OFFICIAL, place, "int8", move=True)
        assert isinstance(there, Converted)
        assert (there.says, there.sha256) == ("there already", made.sha256)
        with pytest.raises(Usage, match="is in int8 already"):
            into(source / OFFICIAL, place, "fp8")


def test_a_file_of_the_made_one_s_name_is_replaced_by_move_alone(folder: Path) -> None:
    state = {key: value for key, value in exact(folder).items() if key in TABLE}
    (folder / OFFICIAL).unlink()
    save_file({key: value.half() for key, value in state.items()}, folder / MADE)
    with pytest.raises(Usage, match=r"would be replaced: give another folder, or --move"):
        into(folder / MADE, folder, "int8")
    assert load_file(folder / MADE)["visual.transformer.0.mlp.0.weight"].dtype is torch.float16
    made, taken = into(folder / MADE, folder, "int8", move=True)
    found = load_file(folder / MADE)
    numbers, _ = quantize(state["visual.transformer.0.mlp.0.weight"].half(), "int8")
    assert torch.equal(found["visual.transformer.0.mlp.0.weight"], numbers)
    assert found["visual.transformer.0.norm1.weight"].dtype is torch.float16
    assert isinstance(taken, Taken)
    assert checked(folder).sha256 == made.sha256


def test_stopped_anywhere_nothing_is_lost_and_nothing_half_made_is_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, target = digest(folder / OFFICIAL), tmp_path / "to"
    expected = into(folder / OFFICIAL, tmp_path / "whole", "int8")[0].sha256

    class Pulled(BaseException):
        pass

    def stopping(after: int):
        puts = 0

        def put(self, *words):
            nonlocal puts
            puts += 1
            if puts > after:
                raise Pulled
            return real(self, *words)

        return put

    real = into_safetensors.Regions.put
    for after in (0, 3, 20):
        with monkeypatch.context() as patch:
            patch.setattr(into_safetensors.Regions, "put", stopping(after))
            with pytest.raises(Pulled):
                into(folder / OFFICIAL, target, "int8", move=True)
        assert digest(folder / OFFICIAL) == before
        assert not (target / MADE).exists()
    made, _ = into(folder / OFFICIAL, target, "int8", move=True)
    assert made.sha256 == expected
    assert sorted(p.name for p in target.iterdir()) == [".lock", "manifest.json", MADE]


def test_what_is_wrong_is_found(folder: Path, tmp_path: Path) -> None:
    into(folder / OFFICIAL, tmp_path / "to", "int8")
    path = tmp_path / "to" / MADE
    state = load_file(path)
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(body)
    assert "damaged" in checked(tmp_path / "to").says
    (tmp_path / "to/manifest.json").unlink()
    bare = {k: v for k, v in state.items() if k != "visual.transformer.1.attn.proj.weight_scale"}
    save_file(bare, path)
    found = checked(tmp_path / "to")
    assert found.state == "bad"
    assert "visual.transformer.1.attn.proj.weight is int8, and there are no scales" in found.says


def whole_model(folder: Path) -> catalog.Model:
    """All of its files as small as those in the folder."""
    shapes = {}
    for path in folder.iterdir():
        with open_weights(path) as weights:
            shapes[path.name] = weights.shapes()
    files = [
        replace(file, table=lambda name=file.name: shapes[name], bytes=None, sha256=None)
        for file in (catalog._WAN_1_3B, *MODEL.of_role("text"), *MODEL.of_role("vae"))
    ]
    return replace(MODEL, files=(*files, MODEL.file("image")))


@pytest.mark.parametrize("inside", [True, False], ids=["same", "other"])
def test_with_the_block_files_of_the_other_nets(folder: Path, tmp_path: Path, inside: bool) -> None:
    model, target = whole_model(folder), folder if inside else tmp_path / "to"
    quant = {"transformer": "int8", "text": "fp8", "image": "int8"}
    options = BlockOptions(quant=quant, recognise=RECOGNISE["wan"], move=True)
    (folder / "taew2_1.pth").unlink()
    expected = into(folder / OFFICIAL, tmp_path / "alone", "int8")[0].sha256
    steps = list(convert(folder, target, model, None, options))
    assert sum(isinstance(step, Taken) for step in steps) == 3
    made = {s.path.name: s for s in steps if isinstance(s, Converted)}
    more = set() if inside else {"Wan2.1_VAE.safetensors"}
    assert made.keys() == {"transformer", "text", MADE} | more
    assert made[MADE].sha256 == expected
    again = {s.path.name: s for s in convert(folder, target, model, None, options)}
    assert {name: s.sha256 for name, s in again.items()} == {n: s.sha256 for n, s in made.items()}
    states = {c.role: c.state for c in check(target, model, RECOGNISE["wan"])}
    vae = "note" if inside else "good"
    assert states == {"transformer": "good", "text": "good", "vae": vae, "image": "good"}


def test_pulled_again_the_official_file_stands_for_a_damaged_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(catalog.MODELS, MODEL.name, MODEL)
    target = tmp_path / "to"
    made, _ = into(shutil.copy(folder / OFFICIAL, target_of(target)), target, "int8", move=True)
    assert made.path == target / MADE
    list(pull(MODEL, target, Source.of(str(folder)), ["image"]))
    assert home.find(MODEL.name, "image", target) == target / MADE
    body = bytearray((target / MADE).read_bytes())
    body[-1] ^= 1
    (target / MADE).write_bytes(body)
    list(pull(MODEL, target, Source.of(str(folder)), ["image"]))
    assert home.find(MODEL.name, "image", target) == target / OFFICIAL
    assert digest(target / OFFICIAL) == digest(folder / OFFICIAL)


def target_of(folder: Path) -> Path:
    folder.mkdir()
    return folder / OFFICIAL


def test_what_cannot_be_made_is_said(folder: Path, tmp_path: Path) -> None:
    options = BlockOptions(quant={"image": "int8"}, recognise=RECOGNISE["wan"])
    with pytest.raises(Usage, match=r"names image, which wan-t2v-1\.3b does not have"):
        list(convert(folder, tmp_path / "x", catalog.model("wan-t2v-1.3b"), None, options))
    shard = folder / "diffusion_pytorch_model.safetensors"
    with pytest.raises(Usage, match="does not hold it"):
        into(shard, tmp_path / "x", "int8")
    state = exact(folder)
    state["visual.transformer.1.attn.proj.weight"][3, 4] = torch.nan
    torch.save(state, folder / OFFICIAL)
    with pytest.raises(BadInput, match=r"visual\.transformer\.1\.attn\.proj\.weight holds NaN"):
        into(folder / OFFICIAL, tmp_path / "x", "int8")
    assert not (tmp_path / "x" / MADE).exists()
