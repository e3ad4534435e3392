"""Checkpoints to block files: the same from every layout, whatever stops it, and never mixed."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.core.errors import BadInput, DiskFull, Usage
from longtake.nets import umt5_keys, umt5_needs
from longtake.nets.linear import kinds_of, quantized
from longtake.nets.wan import needs
from longtake.nets.wan.dit import DiT
from longtake.nets.wan.sizes import exact, matrix
from longtake.runtime.transformers import RECOGNISE
from longtake.weights import (
    _regions,
    block_manifest,
    catalog,
    convert,
    home,
    into_blocks,
    listing,
    manifest,
)
from longtake.weights.blocks import BlockFiles
from longtake.weights.check import check
from longtake.weights.convert import Converted
from longtake.weights.into_blocks import BlockOptions, Taken
from longtake.weights.quantize import QUANTS, dequantize, quantize
from tests.nets.wan.dits import Asked, predicted

from . import wan


@pytest.fixture
def toys(monkeypatch, tmp_path):
    """One file; the same in three; and another model of the same names and shapes."""
    made = (wan.model("single"), wan.model("toy", 3), wan.model("other", 3))
    for each in made:
        monkeypatch.setitem(catalog.MODELS, each.name, each)
    monkeypatch.setenv("LONGTAKE_WEIGHTS", str(tmp_path / "home"))
    return made


def into(source, target, model, dtype=None, quant="none", move=False):
    """The last word of a conversion of the transformer."""
    options = BlockOptions(quant={"transformer": quant}, move=move, recognise=RECOGNISE["wan"])
    events = list(convert.convert(source, target, model, dtype, options))
    return next(e for e in events if isinstance(e, Converted))


def blocks_of(folder: Path):
    """All tensors of a folder of block files, by key."""
    found = {}
    with BlockFiles(folder) as files:
        buffer = bytearray(files.slab.bytes)
        for index in range(files.count):
            files.read(index, memoryview(buffer))
            for field in files.slab.fields:
                kind = getattr(torch, field.dtype)
                part = buffer[field.offset : field.offset + field.bytes]
                at = torch.frombuffer(part, dtype=kind)
                found[f"blocks.{index}.{field.name}"] = at.reshape(field.shape)
        return found | load_file(files.rest)


# --- what is made --------------------------------------------------------------------------------


def test_every_layout_gives_the_same_blocks(toys, tmp_path) -> None:
    """One file or three, official names or those of diffusers."""
    single, three, _ = toys
    made = []
    for number, (model, diffusers) in enumerate(
        ((single, False), (three, False), (single, True), (three, True))
    ):
        source = wan.write(tmp_path / f"from{number}", model, diffusers=diffusers)
        into(source, tmp_path / f"to{number}", model)
        found = wan.hashes(tmp_path / f"to{number}/transformer")
        made.append({k: v for k, v in found.items() if k.endswith(".bin")})
    assert len(made[0]) == wan.CONFIG.layers
    assert made[0] == made[1] == made[2] == made[3]
    assert len(set(made[0].values())) == wan.CONFIG.layers
    state = wan.values()
    found = blocks_of(tmp_path / "to1/transformer")
    assert found.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(found[key], value if exact(key) else value.bfloat16()), key


def test_the_layout_is_that_of_a_slab(toys, tmp_path) -> None:
    into(wan.write(tmp_path / "from", toys[0]), tmp_path / "to", toys[0], quant="int8")
    folder = tmp_path / "to/transformer"
    described = block_manifest.read(folder)
    assert described.slab.bytes % 4096 == 0
    assert 0 <= described.slab.bytes - needs.weights(wan.CONFIG, "bfloat16", "int8").block < 4096
    assert all(f.offset % 256 == 0 for f in described.slab.fields)
    assert described.config == {
        "dim": 128, "heads": 1, "layers": 3, "ffn_dim": 192, "enter": 16, "leave": 16,
        "patch": [1, 2, 2], "text_dim": 24, "text_length": 512, "freq_dim": 256,
        "image_dim": None, "eps": 1e-6,
    }  # fmt: skip
    for file in described.files:
        body = (folder / file.name).read_bytes()
        assert len(body) == file.bytes
    assert (folder / "block.00.bin").stat().st_size == described.slab.bytes
    (origin,) = described.made_from
    assert origin.name == "diffusion_pytorch_model.safetensors"
    used = {range(f.offset, f.offset + f.bytes) for f in described.slab.fields}
    holes = set(range(described.slab.bytes)).difference(*used)
    body = (folder / "block.01.bin").read_bytes()
    assert not any(body[i] for i in holes)


@pytest.mark.parametrize("quant", ["int8", "fp8"])
@pytest.mark.parametrize("config", [wan.CONFIG, wan.I2V], ids=["t2v", "i2v"])
def test_a_net_takes_quantized_blocks(monkeypatch, tmp_path, quant, config) -> None:
    """As an engine does: the files' tensors, strictly, and it predicts nearly the same."""
    model = wan.model("toy", 2, config)
    monkeypatch.setitem(catalog.MODELS, model.name, model)
    source = wan.write(tmp_path / "from", model, config=config)
    into(source, tmp_path / "to", model, "float32", quant)
    state, found = wan.values(config=config), blocks_of(tmp_path / "to/transformer")
    kinds = kinds_of((k, str(v.dtype).removeprefix("torch.")) for k, v in found.items())
    assert set(kinds.values()) == {QUANTS[quant]}
    assert {f"{k}.weight" for k in kinds} == {
        k for k, v in state.items() if k.startswith("blocks.") and matrix(k, v.shape)
    }
    for name in kinds:
        numbers, scale = quantize(state[f"{name}.weight"], QUANTS[quant])
        assert torch.equal(found[f"{name}.weight"].float(), numbers.float())
        assert torch.equal(found[f"{name}.weight_scale"], scale)
    with torch.device("meta"):
        net = DiT(config)
    quantized(net, kinds)
    net.load_state_dict(found, assign=True)
    plain = DiT(config)
    plain.load_state_dict(state)
    asked = [Asked.by_formula(config, (2, 8, 8), 500.0)]
    with torch.inference_mode():
        (whole,), (near,) = predicted(plain.eval(), asked), predicted(net.eval(), asked)
    assert 0 < (near - whole).norm() / whole.norm() < {"int8": 0.02, "fp8": 0.08}[quant]


@pytest.mark.parametrize("name", ["scale_weight", "weight_scale"])
def test_scaled_fp8_of_others(toys, tmp_path, name) -> None:
    """Kept bit for bit with --quant fp8; made wide again, or brought into int8, else."""
    state, wide = {}, {}
    for key, value in wan.values().items():
        layer = key.removesuffix("weight")
        if key.startswith("blocks.") and matrix(key, value.shape):
            scale = value.abs().amax() / 448
            state[key] = (value / scale).to(torch.float8_e4m3fn)
            state[f"{layer}{name}"] = scale
            wide[key] = dequantize(state[key], scale)
        else:
            state[key] = value.half()
    state["scaled_fp8"] = torch.zeros(2).to(torch.float8_e4m3fn)
    source = tmp_path / "wan_fp8_scaled.safetensors"
    save_file({f"model.diffusion_model.{k}": v for k, v in state.items()}, source)
    for number, quant in enumerate(QUANTS):
        into(source, tmp_path / str(number), toys[0], quant=quant)
        found = blocks_of(tmp_path / str(number) / "transformer")
        for key, value in wide.items():
            kept, scale = found[key], found.get(f"{key}_scale")
            if quant == "fp8":
                assert torch.equal(kept.view(torch.uint8), state[key].view(torch.uint8))
                assert torch.equal(scale, state[key.replace("weight", name)].expand(len(kept)))
            elif quant == "int8":
                assert torch.equal(kept, quantize(value, "int8")[0])
            else:
                assert torch.equal(kept, value.bfloat16())


def test_in_its_own_folder_only_nets_with_blocks_change(toys, tmp_path) -> None:
    """So `pull`, `convert` and an engine may all use one folder."""
    _, model, _ = toys
    folder = wan.write(tmp_path / "home/wan-toy", model)
    before = wan.hashes(folder)
    assert [p.name for p in home.find_all("wan-toy", "transformer")] == [
        f"diffusion_pytorch_model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)
    ]
    made = into(folder, folder, model, move=True)
    assert made.path == folder / "transformer"
    assert home.find_all("wan-toy", "transformer") == (made.path / catalog.BLOCKS,)
    inside = ("transformer/", "text/")
    after = {k: v for k, v in wan.hashes(folder).items() if not k.startswith(inside)}
    assert after == {k: v for k, v in before.items() if "-of-" not in k and "models_t5" not in k}
    assert [c.state for c in check(folder, model)] == ["good", "good", "note"]
    state = listing.look(model, folder)
    assert [f.state for f in state.files] == ["whole", "whole", "unchecked"]
    assert state.files[0].here == made.bytes == state.files[0].of
    assert "there already" in into(folder, folder, model, move=True).says


def test_the_other_files_come_along_as_they_are(toys, tmp_path) -> None:
    _, model, _ = toys
    source = wan.write(tmp_path / "from", model)
    options = BlockOptions(recognise=RECOGNISE["wan"])
    events = list(convert.convert(source, tmp_path / "to", model, None, options))
    kinds = [Taken] * 3 + [Converted, Taken, Converted, Converted]
    assert [type(e) for e in events] == kinds
    assert (tmp_path / "to/google/umt5-xxl/tokenizer.json").read_bytes() == wan.TOKENIZER
    assert [c.state for c in check(tmp_path / "to", model)] == ["good"] * 3
    assert {f.state for f in listing.look(model, tmp_path / "to").files} == {"whole"}
    assert {e.model for e in manifest.read(tmp_path / "to").values()} == {"wan-toy"}


# --- the text encoder ----------------------------------------------------------------------------


def text_to(source, target, model, quant="none", **more):
    """What becomes of the text encoder, which the others do not change."""
    options = BlockOptions(quant={"text": quant}, recognise=RECOGNISE["wan"], **more)
    events = list(convert.convert(source, target, model, None, options))
    return next(e for e in events if isinstance(e, Converted) and e.path.name == "text")


@pytest.mark.parametrize("quant", QUANTS)
def test_the_text_encoder_from_every_layout(toys, tmp_path, quant) -> None:
    """As published, made safetensors before, or in the names of transformers: a block each, and the
    table of tokens as it is beside them, whatever the matrices are kept in."""
    single, _, _ = toys
    source = wan.write(tmp_path / "from", single)
    official = torch.load(source / "models_t5.pth", weights_only=True)
    made = [text_to(source, tmp_path / "a", single, quant).sha256]
    (source / "models_t5.pth").unlink()
    save_file(official, source / "models_t5.safetensors")
    text_to(source, tmp_path / "b", single, quant)
    (source / "models_t5.safetensors").unlink()
    config = umt5_keys.read({key: tuple(value.shape) for key, value in official.items()}).config
    names = umt5_keys.names(config, ["shared.weight"])
    theirs = {names[key][0]: value for key, value in official.items()}
    theirs["spiece_model"] = torch.zeros(9, dtype=torch.uint8)
    save_file(theirs, source / "umt5_xxl.safetensors")
    text_to(source, tmp_path / "c", single, quant)
    found = [wan.hashes(tmp_path / name / "text") for name in "abc"]
    blocks = [{k: v for k, v in some.items() if k != "blocks.json"} for some in found]
    assert blocks[0] == blocks[1] == blocks[2]
    assert len(blocks[0]) == config.layers + 1
    assert made[0] == found[0]["blocks.json"]
    described = block_manifest.read(tmp_path / "a/text")
    assert (described.role, described.config["vocabulary"]) == ("text", 32)
    held = blocks_of(tmp_path / "a/text")
    for key, value in official.items():
        inside = key.split(".", 2)[-1]
        if not key.startswith("blocks.") or not umt5_needs.matrix(inside, value.shape):
            assert torch.equal(held[key], value), key
        elif quant == "none":
            assert torch.equal(held[key], value)
        else:
            numbers, scale = quantize(value, QUANTS[quant])
            assert torch.equal(held[key].float(), numbers.float())
            assert torch.equal(held[f"{key}_scale"], scale)


def test_each_net_has_its_own_format_and_folder(toys, tmp_path) -> None:
    """What was not asked for stays as it lies there; a net in another one's place is found."""
    _, model, _ = toys
    source = wan.write(tmp_path / "from", model)
    folder = tmp_path / "to"
    into(source, folder, model, quant="int8")
    assert block_manifest.read(folder / "text").quant == "none"
    made = text_to(source, folder, model)
    assert "there already" in made.says
    with pytest.raises(Usage, match=r"the text of wan-toy \(.* none\), .* --quant int8\) is asked"):
        text_to(source, folder, model, "int8")
    assert block_manifest.read(folder / "transformer").quant == "int8"
    for name in ("transformer", "text"):
        (folder / name).rename(folder / f"{name}.x")
    (folder / "text.x").rename(folder / "transformer")
    (folder / "transformer.x").rename(folder / "text")
    bad = {c.role: c.says for c in check(folder, model) if c.state == "bad"}
    assert bad == {
        "transformer": "this is the text: nets must not be mixed",
        "text": "this is the transformer: nets must not be mixed",
    }


def test_files_of_a_community_are_known_by_their_tensors(toys, tmp_path) -> None:
    """In one folder, by whatever names; two for one net are not guessed between."""
    single, _, _ = toys
    official = wan.write(tmp_path / "official", single)
    into(official, tmp_path / "wanted", single)
    source = tmp_path / "from"
    source.mkdir()
    state = load_file(official / "diffusion_pytorch_model.safetensors")
    save_file(state, source / "best_ever.safetensors")
    text = torch.load(official / "models_t5.pth", weights_only=True)
    save_file(text, source / "a_text.safetensors")
    save_file({"lora_up.weight": torch.ones(2)}, source / "lora.safetensors")
    into(source, tmp_path / "to", single)
    for name in ("transformer", "text"):
        found, wanted = (wan.hashes(tmp_path / x / name) for x in ("to", "wanted"))
        assert {k: v for k, v in found.items() if k != "blocks.json"} == {
            k: v for k, v in wanted.items() if k != "blocks.json"
        }
    found = {c.role: c for c in check(source, single, RECOGNISE["wan"])}
    assert {role: c.state for role, c in found.items()} == {
        "transformer": "note", "text": "note", "tokenizer": "bad",
    }  # fmt: skip
    assert "96 tensors, float32; not a published file" in found["transformer"].says
    assert found["text"].path.name == "a_text.safetensors"
    only = text_to(source / "a_text.safetensors", tmp_path / "only", single)
    assert only.path == tmp_path / "only/text"
    assert not (tmp_path / "only/transformer").exists()
    save_file(state, source / "other.safetensors")
    with pytest.raises(Usage, match=r"two checkpoints .* transformer .* best_ever.* other"):
        into(source, tmp_path / "which", single)


def test_fp8_without_scales_is_taken_only_if_asked(toys, tmp_path) -> None:
    single, _, _ = toys
    state = wan.values()
    narrow = {k for k, v in state.items() if k.startswith("blocks.") and matrix(k, v.shape)}
    raw = {k: v.to(torch.float8_e4m3fn) if k in narrow else v for k, v in state.items()}
    source = tmp_path / "raw.safetensors"
    save_file(raw, source)
    options = BlockOptions(recognise=RECOGNISE["wan"])
    with pytest.raises(BadInput, match=r"30 tensors are float8_e4m3fn without scales"):
        list(convert.convert(source, tmp_path / "to", single, None, options))
    (bad,) = (c for c in check(tmp_path, single, RECOGNISE["wan"]) if c.path == source)
    assert (bad.state, bad.role) == ("bad", "transformer")
    assert "without scales" in bad.says
    asked = BlockOptions(recognise=RECOGNISE["wan"], raw=True)
    list(convert.convert(source, tmp_path / "to", single, None, asked))
    found = blocks_of(tmp_path / "to/transformer")
    assert all(torch.equal(found[key], raw[key].bfloat16()) for key in narrow)


# --- two models in one folder --------------------------------------------------------------------


def test_a_second_model_in_the_same_folder_is_refused(toys, tmp_path) -> None:
    """Names, shapes and sizes are the same: the first one's weights would be used silently."""
    _, model, other = toys
    folder = tmp_path / "cache"
    into(wan.write(tmp_path / "a", model, seed=1), folder, model)
    before = wan.hashes(folder)
    wan.write(tmp_path / "b", other, seed=2)
    wan.write(tmp_path / "c", model, seed=3)
    for source, asked, dtype, quant, says in (
        ("b", other, None, "none", "belongs to wan-toy, not to wan-other"),
        ("c", model, None, "none", "was made from other files"),
        ("a", model, "float32", "none", "--dtype bfloat16 --quant none.*float32"),
        ("a", model, None, "int8", "--quant int8"),
    ):
        with pytest.raises((BadInput, Usage), match=says):
            into(tmp_path / source, folder, asked, dtype, quant)
        assert wan.hashes(folder) == before
    with pytest.raises(BadInput, match="holds wan-toy, not wan-other"):
        BlockFiles(folder / "transformer", "wan-other")
    into(tmp_path / "b", tmp_path / "cache2", other)
    first, second = blocks_of(folder / "transformer"), blocks_of(tmp_path / "cache2/transformer")
    assert not torch.equal(first["blocks.0.ffn.0.weight"], second["blocks.0.ffn.0.weight"])
    shutil.copy(tmp_path / "cache2/transformer/block.01.bin", folder / "transformer/block.01.bin")
    with pytest.raises(BadInput, match=r"block\.01\.bin is damaged"):
        BlockFiles(folder / "transformer")
    bad = [c for c in check(folder, model) if c.role == "transformer"]
    assert [c.state for c in bad] == ["bad"]
    assert "block.01.bin is damaged" in bad[0].says
    manifest_of_other = tmp_path / "cache2/transformer/blocks.json"
    shutil.copy(manifest_of_other, folder / "transformer/blocks.json")
    (found,) = (c for c in check(folder, model) if c.role == "transformer")
    assert "wan-other" in found.says


# --- stopped -------------------------------------------------------------------------------------


class Stopped(BaseException):
    """As a kill: nothing may catch it."""


class Fuse:
    """Stops at the n-th call of whatever touches the disk."""

    WATCHED = (
        (os, "fsync"),
        (_regions, "_write"),
        (Path, "replace"),
        (Path, "rename"),
        (Path, "unlink"),
    )

    def __init__(self, monkeypatch, after: int | None) -> None:
        self.calls, self.after = 0, after
        for owner, name in self.WATCHED:
            monkeypatch.setattr(owner, name, self.guarded(getattr(owner, name)))

    def guarded(self, plain):
        def call(*given, **named):
            self.calls += 1
            if self.after is not None and self.calls > self.after:
                raise Stopped
            return plain(*given, **named)

        return call


def test_stopped_anywhere_it_goes_on_and_nothing_is_lost(toys, tmp_path) -> None:
    """Also when files that were done are gone: a file goes only when its tensors are safe."""
    _, model, _ = toys
    source = wan.write(tmp_path / "from", model)
    with pytest.MonkeyPatch.context() as patch:
        fuse = Fuse(patch, None)
        into(source, tmp_path / "whole", model, quant="int8")
        total = fuse.calls
    wanted = wan.hashes(tmp_path / "whole")
    deleted = set()
    for after in [*range(0, total, total // 7), *range(total - 5, total, 2)]:
        here = shutil.copytree(source, tmp_path / f"from{after}")
        with pytest.MonkeyPatch.context() as patch:
            Fuse(patch, after)
            try:
                into(here, tmp_path / f"to{after}", model, quant="int8", move=True)
            except Stopped:
                if (tmp_path / f"to{after}/transformer").exists():
                    BlockFiles(tmp_path / f"to{after}/transformer").close()
        deleted.add(len(list(here.glob("*-of-*"))))
        into(here, tmp_path / f"to{after}", model, quant="int8", move=True)
        assert wan.hashes(tmp_path / f"to{after}") == wanted
        assert not list(here.glob("*-of-*"))
        shutil.rmtree(here)
        shutil.rmtree(tmp_path / f"to{after}")
    assert {0, 3} < deleted  # and some between


def test_another_conversion_does_not_go_on_with_it(toys, tmp_path) -> None:
    _, model, _ = toys
    source = wan.write(tmp_path / "from", model)
    with pytest.MonkeyPatch.context() as patch:
        Fuse(patch, 60)
        with pytest.raises(Stopped):
            into(source, tmp_path / "to", model)
    with pytest.raises(Usage, match=r"transformer\.part holds .*wan-toy.*that was stopped"):
        into(source, tmp_path / "to", model, quant="int8")
    left = next(source.glob("*-00003-of-*"))
    left.write_bytes(left.read_bytes() + b" ")
    with pytest.raises(BadInput, match=r"00003-of-00003\.safetensors has .* of .* bytes"):
        into(source, tmp_path / "to", model)


def test_a_disk_that_lies_is_found_out_before_anything_is_deleted(toys, tmp_path) -> None:
    _, model, _ = toys
    source, plain = wan.write(tmp_path / "from", model), _regions._read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_regions, "_read", lambda *given: plain(*given)[:-1] + b"\xff")
        with pytest.raises(BadInput, match="not those that the disk gives back"):
            into(source, tmp_path / "to", model, move=True)
    assert len(list(source.glob("*-of-*"))) == 3
    into(source, tmp_path / "to", model, move=True)
    assert not list(source.glob("*-of-*"))


def test_a_full_disk_says_numbers(toys, tmp_path, monkeypatch) -> None:
    _, model, _ = toys
    source = wan.write(tmp_path / "from", model)
    size = into(source, tmp_path / "size", model).bytes
    usage = shutil.disk_usage(tmp_path)._replace
    for share, move, fits in ((1.2, False, True), (0.6, False, False), (0.6, True, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, s=share: usage(free=int(size * s)))
        target = tmp_path / f"{share}{move}"
        here = shutil.copytree(source, tmp_path / f"from{share}{move}")
        if fits:
            into(here, target, model, move=move)
            continue
        with pytest.raises(DiskFull, match=r"need [\d.,]+ MB more, .* has [\d.,]+ MB.*--move"):
            into(here, target, model, move=move)
    monkeypatch.undo()


def test_a_disk_that_fills_up_keeps_what_is_done(toys, tmp_path) -> None:
    _, model, _ = toys
    source, plain, calls = wan.write(tmp_path / "from", model), _regions._write, []

    def full(*given):
        calls.append(1)
        if len(calls) > 60:
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_regions, "_write", full)
        with pytest.raises(DiskFull, match=r"MB are written so far"):
            into(source, tmp_path / "to", model)
    into(source, tmp_path / "to", model)
    into(source, tmp_path / "again", model)
    assert wan.hashes(tmp_path / "to") == wan.hashes(tmp_path / "again")


# --- refused -------------------------------------------------------------------------------------


def test_what_is_no_transformer_of_the_model(toys, tmp_path, monkeypatch) -> None:
    single, model, _ = toys
    source = wan.write(tmp_path / "from", model)
    with pytest.raises(BadInput, match=r"is not the transformer of wan-t2v-1\.3b: .*and 820 more"):
        into(source, tmp_path / "to", catalog.MODELS["wan-t2v-1.3b"])
    (source / "diffusion_pytorch_model-00002-of-00003.safetensors").rename(tmp_path / "away")
    with pytest.raises(BadInput, match=r"lacks .*00002.*pull wan-toy --only transformer"):
        into(source, tmp_path / "to", model)
    assert "transformer" not in {p.name for p in (tmp_path / "to").iterdir()}
    one = wan.write(tmp_path / "one", single)
    state = load_file(one / "diffusion_pytorch_model.safetensors")
    for change, says in (
        ({"blocks.0.ffn.0.extra": torch.ones(3)}, r"blocks\.0\.ffn\.0\.extra is unknown"),
        ({"blocks.1.modulation": torch.ones(6)}, r"blocks\.1\.modulation is \[6\]"),
        ({"blocks.1.ffn.0.weight": torch.full((192, 128), torch.nan)}, "holds NaN"),
    ):
        path = tmp_path / "changed.safetensors"
        save_file(state | change, path)
        with pytest.raises(BadInput, match=says):
            into(path, tmp_path / says[:5], single, quant="int8")
    ffn = "blocks.1.ffn.0.weight"
    for value, says in (
        (state[ffn].half(), r"ffn\.0\.weight is float16 in block 1 and not in block 0: give --dt"),
        (state[ffn].to(torch.int8), "is int8, and there are no scales"),
        (state[ffn].to(torch.float8_e4m3fn), r"1 tensors .* without scales.*; or --raw-fp8 takes"),
    ):
        save_file(state | {ffn: value}, path)
        with pytest.raises(BadInput, match=says):
            into(path, tmp_path / "kept", single, "keep")
    with pytest.raises(Usage, match="block files, which flashvsr"):
        into(one, tmp_path / "x", catalog.MODELS["flashvsr-v1.1"], quant="int8")


def test_a_damaged_official_file_is_named(toys, tmp_path, monkeypatch) -> None:
    """By the published hash; and a file of another model by that one's."""
    single, _, _ = toys
    source = wan.write(tmp_path / "from", single)
    path = source / "diffusion_pytorch_model.safetensors"
    known = catalog.replace(
        single.files[0], bytes=path.stat().st_size,
        sha256=into_blocks.digest(path),
    )  # fmt: skip
    published = catalog.replace(single, files=(known, *single.files[1:]))
    into(source, tmp_path / "good", published)
    assert manifest.read(tmp_path / "good")["transformer/blocks.json"].trusted == "published"
    body = bytearray(path.read_bytes())
    body[-5] ^= 1
    path.write_bytes(body)
    with pytest.raises(BadInput, match="is damaged: its sha256 is"):
        into(source, tmp_path / "bad", published)
    other = catalog.replace(
        catalog.MODELS["wan-other"],
        files=(catalog.replace(known, sha256=into_blocks.digest(path)),),
    )  # fmt: skip
    monkeypatch.setitem(catalog.MODELS, "wan-other", other)
    with pytest.raises(BadInput, match="the file of wan-other, not of wan-single"):
        into(source, tmp_path / "mixed", single)


def test_an_index_or_one_shard_stand_for_all(toys, tmp_path) -> None:
    _, model, _ = toys
    source = wan.write(tmp_path / "from", model)
    made = set()
    for number, name in enumerate((
        "diffusion_pytorch_model.safetensors.index.json",
        "diffusion_pytorch_model-00002-of-00003.safetensors",
    )):  # fmt: skip
        made.add(into(source / name, tmp_path / str(number), model).sha256)
    assert len(made) == 1
    (source / "bad.index.json").write_text('{"weight_map": {"a": "../x.safetensors"}}')
    with pytest.raises(BadInput, match="names no files beside it"):
        into(source / "bad.index.json", tmp_path / "bad", model)
