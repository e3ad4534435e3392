"""CLIP's vision tower: the transformers library's numbers, names, the image it is given."""

from __future__ import annotations

import pytest
import torch

from longtake.nets.clip_vision import (
    MEAN,
    STD,
    ClipConfig,
    ClipVision,
    names,
    not_needed,
    not_needed_there,
    prepared,
)
from longtake.nets.names import adopted
from longtake.weights import reader
from tests.nets.flashvsr.goldens import difference
from tests.nets.formula import formula
from tests.nets.oracles import filled, handed, library, stored

SMALL = ClipConfig(image=42, patch=14, dim=48, heads=3, ffn_dim=80, layers=3)
TINY = ClipConfig(image=16, patch=8, dim=20, heads=2, ffn_dim=44, layers=1)


def oracle(config: ClipConfig, net: ClipVision):
    """With one block more, which must not count."""
    transformers = library("transformers")
    other = transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(
            hidden_size=config.dim,
            intermediate_size=config.ffn_dim,
            num_hidden_layers=config.layers + 1,
            num_attention_heads=config.heads,
            image_size=config.image,
            patch_size=config.patch,
            hidden_act="gelu",
            layer_norm_eps=config.eps,
        )
    )
    return handed(net, names(config, other.state_dict()), other)


def image(config: ClipConfig, batch: int) -> torch.Tensor:
    return formula((batch, 3, config.image, config.image), 5) * 2


@pytest.mark.parametrize("config", [SMALL, TINY], ids=["small", "tiny"])
def test_it_is_the_library_s(config) -> None:
    net = filled(ClipVision(config))
    other = oracle(config, net)
    for batch in (1, 3):
        seen = other(image(config, batch), output_hidden_states=True)
        made = net(image(config, batch))
        assert difference(made, seen.hidden_states[-2]) <= 1e-5
        assert difference(made, seen.hidden_states[-1]) > 1e-2


def test_it_is_what_the_library_said() -> None:
    tensors, _ = stored("clip_vision")
    net = filled(ClipVision(SMALL))
    assert difference(net(tensors["image"]), tensors["made"]) <= 1e-5


def test_blocks_can_be_run_one_by_one() -> None:
    net = filled(ClipVision(SMALL))
    x = net.visual.embed(image(SMALL, 2))
    assert x.shape == (2, 10, 48)
    for block in net.visual.transformer:
        x = block(x)
    assert torch.equal(x, net(image(SMALL, 2)))


def test_half_precision_is_near() -> None:
    net = filled(ClipVision(SMALL))
    exact = net(image(SMALL, 1))
    made = net.to(torch.bfloat16)(image(SMALL, 1))
    assert made.dtype == torch.bfloat16
    assert difference(made, exact) <= 3e-2


def test_the_image_is_stretched_and_normed() -> None:
    grey = prepared(torch.full((1, 3, 90, 160), 0.5))
    assert grey.shape == (1, 3, 224, 224)
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        assert grey[0, channel].mean().item() == pytest.approx((0.75 - mean) / std, abs=1e-5)
    whole = formula((1, 3, 224, 224), 1)
    back = prepared(whole) * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    torch.testing.assert_close(back * 2 - 1, whole, atol=1e-5, rtol=0)
    ramp = torch.linspace(-1, 1, 100).expand(1, 3, 7, 100)
    assert (prepared(ramp)[0, 0, 3].diff()[5:-5] > 0).all()


def test_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[B, 3, 42, 42\], not \[1, 3, 42, 56\]"):
        filled(ClipVision(SMALL))(torch.zeros(1, 3, 42, 56))
    with pytest.raises(ValueError, match="225 px"):
        ClipConfig(image=225)


def test_official_names_and_sizes() -> None:
    with torch.device("meta"):
        whole = ClipVision(ClipConfig())
        made = whole(torch.empty(1, 3, 224, 224))
    sizes = {key: tuple(value.shape) for key, value in whole.state_dict().items()}
    assert made.shape == (1, 257, 1280)
    assert len(sizes) == 5 + 31 * 12
    block = 4 * 1280 * 1280 + 2 * 1280 * 5120 + 9 * 1280 + 5120
    assert sum(p.numel() for p in whole.parameters()) == 630_766_080 - block - 2 * 1280
    assert sizes["visual.patch_embedding.weight"] == (1280, 3, 14, 14)
    assert sizes["visual.cls_embedding"] == (1, 1, 1280)
    assert sizes["visual.pos_embedding"] == (1, 257, 1280)
    assert sizes["visual.transformer.30.attn.to_qkv.weight"] == (3840, 1280)
    assert sizes["visual.transformer.0.mlp.2.weight"] == (1280, 5120)


def test_both_layouts_of_files(tmp_path) -> None:
    net, given = filled(ClipVision(SMALL)), image(SMALL, 1)
    more = ("log_scale", "textual.head.0.weight", "visual.post_norm.weight", "visual.head",
            "visual.transformer.3.norm1.weight")  # fmt: skip
    official = tmp_path / "clip.pth"
    torch.save(net.state_dict() | {key: torch.ones(2) for key in more}, official)
    loaded = reader.load(
        lambda: ClipVision(SMALL), official, unused=lambda key: not_needed(SMALL, key)
    )
    assert torch.equal(loaded(given), net(given))
    assert not any(not_needed(SMALL, key) for key in net.state_dict())
    newer = oracle(SMALL, net).state_dict()
    older = {f"vision_model.{k.removeprefix('vision_model.')}": v for k, v in newer.items()}
    older |= {"vision_model.embeddings.position_ids": torch.arange(10)[None]}
    older |= {"visual_projection.weight": torch.ones(2, 2)}
    for theirs in (newer, older):
        with torch.device("meta"):
            empty = ClipVision(SMALL)
        table = names(SMALL, theirs)
        state = adopted(empty, table, theirs, lambda key: not_needed_there(SMALL, key))
        empty.load_state_dict(state, assign=True)
        assert torch.equal(empty(given), net(given))
        with pytest.raises(ValueError, match=r"encoder\.layers\.3\.layer_norm1\.bias is unknown"):
            adopted(empty, table, theirs)
