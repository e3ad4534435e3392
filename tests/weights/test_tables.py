"""The tables of keys and shapes are those by which the official loader knows its files."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import pytest
import torch

from longtake.nets import taehv_needs
from longtake.nets.clip_vision import ClipVision
from longtake.nets.clip_vision_needs import ClipConfig
from longtake.nets.umt5 import UmT5
from longtake.nets.umt5_needs import UmT5Config
from longtake.weights import tables
from longtake.weights.catalog import MODELS, version_in
from longtake.weights.pull import Source


def fingerprint(table: tables.Table) -> str:
    """As DiffSynth-Studio's `hash_state_dict_keys` makes it of names and shapes."""
    words = [f"{key}:{'_'.join(map(str, shape))}" for key, shape in table.items()]
    return hashlib.md5(",".join(sorted([*words, *table])).encode()).hexdigest()


@pytest.mark.parametrize(
    ("table", "tensors", "values", "official"),
    [
        (tables.wan_transformer, 825, 1_418_996_800, "9269f8db9040a9d860eaca435be61814"),
        (tables.wan_t2v_14b, 1095, 14_288_491_584, "aafcfd9672c3a2456dc46e1cb6e52c70"),
        (tables.wan_i2v_14b, 1303, 16_394_878_784, "6bfcfb3b342cb286ce886889d519a77e"),
        (tables.umt5, 242, 5_680_910_336, "9c8818c2cbea55eca56c7b447df170da"),
        (tables.wan_vae, 194, 126_892_531, "ccc42284ea13e1ad04693284c7a09be6"),
        (tables.flashvsr_projection, 8, 287_845_888, None),
        (tables.flashvsr_decoder, 66, 45_338_371, None),
    ],
)
def test_table(table, tensors, values, official) -> None:
    found = table()
    assert (len(found), sum(map(math.prod, found.values()))) == (tensors, values)
    assert official in (None, fingerprint(found))


def test_published_sizes_fit_the_tables() -> None:
    """A file is as long as its values at 2 or 4 bytes each, and some percent of names and more."""
    known = [f for m in MODELS.values() for f in m.files if f.bytes is not None]
    assert len({f.name for f in known}) == 12
    for file in known:
        assert len(file.sha256) == 64
        if file.holds == "none":
            continue
        values = sum(map(math.prod, file.table().values()))
        more = 1 if file.role == "image" else 0.05  # its other half reads text
        assert any(0 <= file.bytes / (values * width) - 1 < more for width in (2, 4)), file.name


def test_the_tables_are_those_of_the_nets() -> None:
    with torch.device("meta"):
        text, image = UmT5(UmT5Config()), ClipVision(ClipConfig())
    for net, table in ((text, tables.umt5()), (image, tables.clip_vision())):
        assert {k: tuple(v.shape) for k, v in net.state_dict().items()} == table


def test_files_of_wan() -> None:
    """Shards as they are published, each name once, and what every model has."""
    for version, shards in (
        ("t2v-1.3b", 1), ("t2v-14b", 6), ("i2v-14b-480p", 7), ("i2v-14b-720p", 7)
    ):  # fmt: skip
        model = MODELS[f"wan-{version}"]
        assert model.hf.name == f"Wan-AI/Wan2.1-{version.upper()}"
        names = [f.name for f in model.files]
        assert len(set(names)) == len(names)
        parts = [f for f in model.of_role("transformer") if f.holds != "none"]
        assert [f.holds for f in parts] == (["some"] * shards if shards > 1 else ["all"])
        assert {f.converted for f in model.of_role("transformer")} == {"transformer/blocks.json"}
        assert model.in_blocks == ("transformer", "text")
        assert model.file("tokenizer").name == "google/umt5-xxl/tokenizer.json"
        assert ("image" in {f.role for f in model.files}) == version.startswith("i2v")
    last = MODELS["wan-i2v-14b-720p"].of_role("transformer")[6]
    assert last.name == "diffusion_pytorch_model-00007-of-00007.safetensors"


def test_versions_in_names() -> None:
    said = {
        "FlashVSR-v1.1": "v1.1",
        "flashvsr_v1.0": "v1.0",
        "v1.1": "v1.1",
        "FlashVSR-1.1": "v1.1",
    }
    said |= dict.fromkeys(("FlashVSR", "Wan2.1", "mine", "models_2024_11", "1.1"))
    assert {name: version_in(name, "flashvsr") for name in said} == said
    said = {"Wan2.1-T2V-14B": "t2v-14b", "wan-i2v-14b-480p": "i2v-14b-480p"}
    said |= dict.fromkeys(("Wan2.1", "v2.1", "wan", "Wan2.2-T2V-A14B", "flashvsr-v1.1"))
    assert {name: version_in(name, "wan") for name in said} == said


def test_distilled_models_are_the_others_but_for_the_transformer() -> None:
    """Theirs comes from another repository, all else from where the model has it."""
    for version in ("t2v-14b", "i2v-14b-480p", "i2v-14b-720p"):
        plain, made = MODELS[f"wan-{version}"], MODELS[f"wan-{version}-distilled"]
        assert made.hf.name == f"lightx2v/{plain.folder}-StepDistill-CfgDistill-Lightx2v"
        (one,) = made.of_role("transformer")
        assert one.table() == plain.file("transformer").table()
        assert one.names == (
            "transformer/blocks.json", "distill_models/distill_model.safetensors",
            "distill_model.safetensors",
        )  # fmt: skip
        others = [replace(f, repository=None) for f in made.files if f.role != "transformer"]
        assert others == [f for f in plain.files if f.role != "transformer"]
        asked = {f.role: str(Source().of_file(made, f)) for f in made.files}
        assert f"/{made.hf.name}/resolve/main/distill_models/distill" in asked["transformer"]
        assert f"/{plain.hf.name}/resolve/{plain.hf.revision}/models_t5" in asked["text"]


def test_taehv_s_tensors_are_the_net_s() -> None:
    (file,) = MODELS["taew-2.1"].files
    assert file.table() == taehv_needs.tensors(taehv_needs.TAEW2_1)
    assert len(file.table()) == 64
    assert file.names == ("taew2_1.pth", "taew2_1.safetensors")
    assert str(Source().of_file(MODELS["taew-2.1"], file)).endswith("/taew2_1.pth")
