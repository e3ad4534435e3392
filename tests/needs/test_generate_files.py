"""Films from files that a community made, from small decoders and on small machines: through the
command line, with small nets, or with what large ones say of themselves."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from longtake.media import stills
from longtake.nets import umt5_needs
from longtake.nets.wan import sizes
from longtake.runtime.transformers import RECOGNISE
from longtake.weights import _regions, block_manifest, catalog, into_blocks
from longtake.weights.into_blocks import BlockOptions
from tests.generators.wan_models import T2V, in_fp8, nets, written
from tests.needs.test_generate import UMT5, asked, done, folder_of, frames, known, plan_of


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    return folder_of(tmp_path_factory.mktemp("weights"), "t2v-1.3b")


# --- files of a community, and a small decoder ---------------------------------------------------


def words_of(source: Path, folder: Path) -> None:
    """The official tokenizer, small as it is here."""
    shutil.copytree(source / UMT5, folder / UMT5)
    for path in (folder / UMT5).iterdir():
        known(folder, "t2v-1.3b", f"{UMT5}/{path.name}", "tokenizer")


@pytest.fixture(scope="module")
def scaled(text, tmp_path_factory) -> Path:
    """The same nets with matrices in fp8 and a scale for each, under names that nobody knows."""
    folder = tmp_path_factory.mktemp("community")
    words_of(text, folder)
    dit = load_file(text / "diffusion_pytorch_model.safetensors")
    words = load_file(text / "models_t5_umt5-xxl-enc-bf16.safetensors")
    written(folder / "wan_fp8_scaled.safetensors", in_fp8(dit, "scale_weight", sizes.matrix))
    written(folder / "umt5_fp8.safetensors", in_fp8(words, "weight_scale", umt5_needs.matrix))
    shutil.copy(text / "Wan2.1_VAE.safetensors", folder / "wan_2.1_vae.safetensors")
    return folder


def test_scaled_fp8_files_of_others_make_the_same_film_in_every_place(
    job, scaled, text, tmp_path
) -> None:
    """Theirs as they are, and the same as block files; near to the film that they were made of."""
    made = {}
    for offload in ("resident", "swap", "ring"):
        target = tmp_path / f"{offload}.mkv"
        done(job, *asked(scaled, target), "--place", f"offload={offload}")
        made[offload] = frames(target)
    assert all(np.array_equal(found, made["resident"]) for found in made.values())
    done(job, *asked(text, tmp_path / "whole.mkv"))
    whole = frames(tmp_path / "whole.mkv")
    assert 0 < np.abs(made["ring"].astype(int) - whole).mean() < whole.std() / 4


def test_fp8_without_scales_is_refused_unless_asked_for(job, scaled, tmp_path) -> None:
    folder = tmp_path / "raw"
    words_of(scaled, folder)
    for name in ("umt5_fp8", "wan_2.1_vae"):
        shutil.copy(scaled / f"{name}.safetensors", folder)
    raw = load_file(scaled / "wan_fp8_scaled.safetensors")
    bare = {key: value for key, value in raw.items() if not key.endswith("scale_weight")}
    written(folder / "wan_fp8_scaled.safetensors", bare)
    refused = job(*asked(folder, tmp_path / "x.mkv"))
    assert refused.code == 2
    assert "20 tensors are float8_e4m3fn without scales" in refused.message
    done(job, *asked(folder, tmp_path / "x.mkv"), "raw_fp8=true")


def test_a_small_decoder(job, text, tmp_path) -> None:
    """Another film of the same size than by the VAE, once its weights are there."""
    target = tmp_path / "cat.mkv"
    refused = job(*asked(text, target), "decoder=taehv", LONGTAKE_WEIGHTS=str(tmp_path))
    assert refused.code == 2
    assert "longtake weights pull taew-2.1" in refused.message
    (tmp_path / "taew-2.1").mkdir()
    written(tmp_path / "taew-2.1/taew2_1.safetensors", nets(T2V, seed=1).taehv.state_dict())
    ended = done(job, *asked(text, target), "decoder=taehv", LONGTAKE_WEIGHTS=str(tmp_path)).last
    found = frames(target)
    assert found.shape == (9, 48, 64, 3)
    done(job, *asked(text, target), "--restart")
    assert not np.array_equal(frames(target), found)
    assert 0.85 * ended["predicted_ram"] < ended["peak_ram"] < 1.04 * ended["predicted_ram"]


def test_a_distilled_model_says_what_it_was_made_for(job, tmp_path) -> None:
    words = ["generate", "--prompt", "x", str(tmp_path / "x.mp4"), "--machine", "h200"]
    home = {"LONGTAKE_WEIGHTS": str(tmp_path)}
    plain = plan_of(*words, "--set", "model=t2v-14b-distilled", **home)
    said = "was made for 4 steps without guidance"
    assert any(said in note for note in plain["notes"])
    preset = ("--preset", "distilled-4step", "--set", "model=t2v-14b-distilled")
    made = plan_of(*words, *preset, **home)
    assert not any(said in note for note in made["notes"])
    assert made["recipe"]["knobs"]["sampler"] == "euler"
    assert made["time"]["total"] < plain["time"]["total"] / 5


# --- small machines ------------------------------------------------------------------------------


def described(folder: Path, model: catalog.Model, role: str, quant: str) -> None:
    """What block files of a published net say of themselves; a plan needs no more."""
    read = RECOGNISE["wan"][role](model.file(role).table())
    options = BlockOptions(quant={role: quant}, recognise=RECOGNISE["wan"])
    (folder / role).mkdir(parents=True)
    source = folder / "published.safetensors"
    with source.open("wb") as file:
        fields = _regions.packed(
            (key, "bfloat16", shape) for key, shape in model.file(role).table().items()
        )
        head = _regions.header(fields, {})
        file.write(head)
        file.truncate(len(head) + sum(field.bytes for field in fields))
    made = into_blocks.planned([source], model, role, "bfloat16", options)
    source.unlink()

    def sealed(name: str, size: int) -> block_manifest.Sealed:
        return block_manifest.Sealed(name=name, bytes=size, sha256="0", head="0", tail="0")

    block_manifest.write(
        folder / role,
        block_manifest.Description(
            model=model.name, role=role, config=read.config, dtype="bfloat16", quant=quant,
            slab=made.slab, rest=sealed("rest.safetensors", sum(f.bytes for f in made.rest)),
            blocks=tuple(
                sealed(block_manifest.block_name(i), made.slab.bytes) for i in range(made.count)
            ),
            made_from=(),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("version", ["t2v-14b", "i2v-14b-480p"])
def test_14b_on_8_gib_of_vram_and_16_gib_of_ram(tmp_path, version) -> None:
    """With transformer and text encoder in int8 block files."""
    model = catalog.model(f"wan-{version}")
    for role in ("transformer", "text"):
        described(tmp_path / "wan", model, role, "int8")
    picture = tmp_path / "cat.png"
    picture.write_bytes(stills.png(np.zeros((48, 64, 3), np.uint8)))
    words = ["generate", "--prompt", "x", str(tmp_path / "x.mp4"), "--machine", "rtx-4060-8gb"]
    words += ["--image", str(picture)] if version.startswith("i2v") else []
    words += ["--ram", "16G", "--vram", "8G"]
    knobs = ["--set", f"model={version}", f"folder={tmp_path / 'wan'}"]
    assert plan_of(*words, *knobs)["placement"]["offload"] == "disk"
    if version.startswith("i2v"):
        return
    place = ["--place", "offload=disk", "host_blocks=0"]
    least = plan_of(*words, *place, *knobs)["memory"]["engine"]["parked"]
    assert least < 5 << 30
    shutil.rmtree(tmp_path / "wan/text")  # it is published in bfloat16, and waits on the host
    more = plan_of(*words, *place, *knobs)["memory"]["engine"]["parked"] - least
    published = umt5_needs.weights(umt5_needs.XXL, "bfloat16").blocks
    ahead = 3 * umt5_needs.weights(umt5_needs.XXL, "bfloat16", "int8").block
    assert abs(more - (published - ahead)) < 1 << 20
