"""Which tensors a checkpoint holds: key -> shape, as small rules. Nothing here needs torch.

Sources: FlashVSR https://arxiv.org/abs/2510.12747, code github.com/OpenImagingLab/FlashVSR;
Wan2.1 github.com/Wan-Video/Wan2.1; TCDecoder follows github.com/madebyollin/taehv. The tables of
the transformer and of the VAE agree with the hash over names and shapes by which the official
loader knows them (`tests/weights/test_tables.py`).
"""

from __future__ import annotations

Shape = tuple[int, ...]
Table = dict[str, Shape]

PROMPT = "prompt"  # the name that a file of one bare tensor gets


def _affine(name: str, *shape: int) -> Table:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def wan_transformer(
    dim: int = 1536,
    ffn: int = 8960,
    layers: int = 30,
    text: int = 4096,
    latent: int = 16,
    image: int | None = None,
) -> Table:
    """The transformer of Wan2.1; defaults are text-to-video 1.3B: 825 tensors. With `image`, the
    width of CLIP's tokens, that of image-to-video, which takes 4 channels of a mask and the image's
    latents beside its own."""
    patch = latent * 4
    enter = latent if image is None else 2 * latent + 4
    table = {
        **_affine("patch_embedding", dim, enter, 1, 2, 2),
        **_affine("text_embedding.0", dim, text),
        **_affine("text_embedding.2", dim, dim),
        **_affine("time_embedding.0", dim, 256),
        **_affine("time_embedding.2", dim, dim),
        **_affine("time_projection.1", 6 * dim, dim),
        "head.modulation": (1, 2, dim),
        **_affine("head.head", patch, dim),
    }
    if image is not None:
        table |= _affine("img_emb.proj.0", image) | _affine("img_emb.proj.1", image, image)
        table |= _affine("img_emb.proj.3", dim, image) | _affine("img_emb.proj.4", dim)
    for i in range(layers):
        table |= _wan_block(f"blocks.{i}", dim, ffn, image is not None)
    return table


def wan_t2v_14b() -> Table:
    """1095 tensors."""
    return wan_transformer(dim=5120, ffn=13824, layers=40)


def wan_i2v_14b() -> Table:
    """1303 tensors; the same for 480p and 720p."""
    return wan_transformer(dim=5120, ffn=13824, layers=40, image=1280)


def _wan_block(at: str, dim: int, ffn: int, image: bool) -> Table:
    table: Table = {f"{at}.modulation": (1, 6, dim), **_affine(f"{at}.norm3", dim)}
    for kind in ("self_attn", "cross_attn"):
        for part in "qkvo":
            table |= _affine(f"{at}.{kind}.{part}", dim, dim)
        table |= {f"{at}.{kind}.norm_q.weight": (dim,), f"{at}.{kind}.norm_k.weight": (dim,)}
    if image:
        for part in ("k_img", "v_img"):
            table |= _affine(f"{at}.cross_attn.{part}", dim, dim)
        table[f"{at}.cross_attn.norm_k_img.weight"] = (dim,)
    return table | _affine(f"{at}.ffn.0", ffn, dim) | _affine(f"{at}.ffn.2", dim, ffn)


def flashvsr_projection() -> Table:
    """`LQ_proj_in.ckpt`, 8 tensors; the same in v1.0 and v1.1."""
    return {
        **_affine("conv1", 2048, 768, 4, 3, 3),
        "norm1.gamma": (2048, 1, 1, 1),
        **_affine("conv2", 3072, 2048, 4, 3, 3),
        "norm2.gamma": (3072, 1, 1, 1),
        **_affine("linear_layers.0", 1536, 3072),
    }


def flashvsr_decoder() -> Table:
    """`TCDecoder.ckpt`, the 66 tensors that inference uses."""
    table = {
        **_affine("decoder.1", 512, 784, 3, 3),
        "decoder.3.weight": (512, 512, 3, 3),
        "decoder.9.conv.weight": (512, 512, 1, 1),
        "decoder.10.weight": (256, 512, 3, 3),
        "decoder.15.conv.weight": (512, 256, 1, 1),
        "decoder.16.weight": (128, 256, 3, 3),
        "decoder.21.conv.weight": (256, 128, 1, 1),
        "decoder.22.weight": (128, 128, 3, 3),
        "decoder.24.weight": (128, 128, 3, 3),
        **_affine("decoder.26", 3, 128, 3, 3),
    }
    for first, width in ((5, 512), (11, 256), (17, 128)):
        for i in range(first, first + 3):
            table |= _affine(f"decoder.{i}.conv.0", width, 2 * width, 3, 3)
            table |= _affine(f"decoder.{i}.conv.2", width, width, 3, 3)
            table |= _affine(f"decoder.{i}.conv.4", width, width, 3, 3)
    return table


def prompt_embedding() -> Table:
    """`posi_prompt.pth`: one bare tensor, the positive prompt after UMT5."""
    return {PROMPT: (1, 512, 4096)}


def umt5(
    vocabulary: int = 256_384,
    dim: int = 4096,
    ffn: int = 10_240,
    layers: int = 24,
    heads: int = 64,
    buckets: int = 32,
) -> Table:
    """`models_t5_umt5-xxl-enc-bf16.pth`, umT5's encoder: 242 tensors."""
    table: Table = {"token_embedding.weight": (vocabulary, dim), "norm.weight": (dim,)}
    for i in range(layers):
        at = f"blocks.{i}"
        table |= {f"{at}.{part}.weight": (dim,) for part in ("norm1", "norm2")}
        table |= {f"{at}.attn.{part}.weight": (dim, dim) for part in "qkvo"}
        table |= {f"{at}.ffn.{part}.weight": (ffn, dim) for part in ("gate.0", "fc1")}
        table[f"{at}.ffn.fc2.weight"] = (dim, ffn)
        table[f"{at}.pos_embedding.embedding.weight"] = (buckets, heads)
    return table


def clip_vision(
    dim: int = 1280, ffn: int = 5120, layers: int = 31, patch: int = 14, side: int = 224
) -> Table:
    """What Wan uses of `models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth`: the first 31
    blocks of the image's side, 377 tensors."""
    table: Table = {
        "visual.cls_embedding": (1, 1, dim),
        "visual.pos_embedding": (1, (side // patch) ** 2 + 1, dim),
        "visual.patch_embedding.weight": (dim, 3, patch, patch),
        **_affine("visual.pre_norm", dim),
    }
    for i in range(layers):
        at = f"visual.transformer.{i}"
        table |= _affine(f"{at}.norm1", dim) | _affine(f"{at}.norm2", dim)
        table |= _affine(f"{at}.attn.to_qkv", 3 * dim, dim) | _affine(f"{at}.attn.proj", dim, dim)
        table |= _affine(f"{at}.mlp.0", ffn, dim) | _affine(f"{at}.mlp.2", dim, ffn)
    return table


def taew2_1() -> Table:
    """`taew2_1.pth`, TAEHV for Wan 2.1: the 64 tensors of its decoder."""
    widths = (256, 128, 64, 64)
    table = {**_affine("decoder.1", widths[0], 16, 3, 3), **_affine("decoder.22", 3, 64, 3, 3)}
    for level, times in enumerate((1, 2, 2)):
        width, narrower = widths[level : level + 2]
        first = 3 + 6 * level
        for i in range(first, first + 3):
            table |= _affine(f"decoder.{i}.conv.0", width, 2 * width, 3, 3)
            table |= _affine(f"decoder.{i}.conv.2", width, width, 3, 3)
            table |= _affine(f"decoder.{i}.conv.4", width, width, 3, 3)
        table[f"decoder.{first + 4}.conv.weight"] = (times * width, width, 1, 1)
        table[f"decoder.{first + 5}.weight"] = (narrower, width, 3, 3)
    return table


# --- the VAE of Wan2.1 ---------------------------------------------------------------------------

_DOWN = {0: (96, 96), 1: (96, 96), 3: (96, 192), 4: (192, 192), 6: (192, 384), 7: (384, 384)}
_DOWN |= {9: (384, 384), 10: (384, 384)}
_UP = dict.fromkeys((0, 1, 2, 5, 6), (384, 384)) | {4: (192, 384)}
_UP |= dict.fromkeys((8, 9, 10), (192, 192)) | dict.fromkeys((12, 13, 14), (96, 96))


def wan_vae() -> Table:
    """`Wan2.1_VAE.pth`, 194 tensors: encoder and decoder."""
    table = {**_affine("conv1", 32, 32, 1, 1, 1), **_affine("conv2", 16, 16, 1, 1, 1)}
    table |= _affine("encoder.conv1", 96, 3, 3, 3, 3) | _affine("decoder.conv1", 384, 16, 3, 3, 3)
    for i, (before, after) in _DOWN.items():
        table |= _residual(f"encoder.downsamples.{i}", before, after)
    for i, (before, after) in _UP.items():
        table |= _residual(f"decoder.upsamples.{i}", before, after)
    for i, width, timed in ((2, 96, False), (5, 192, True), (8, 384, True)):
        table |= _affine(f"encoder.downsamples.{i}.resample.1", width, width, 3, 3)
        if timed:
            table |= _affine(f"encoder.downsamples.{i}.time_conv", width, width, 3, 1, 1)
    for i, width, timed in ((3, 384, True), (7, 384, True), (11, 192, False)):
        table |= _affine(f"decoder.upsamples.{i}.resample.1", width // 2, width, 3, 3)
        if timed:
            table |= _affine(f"decoder.upsamples.{i}.time_conv", 2 * width, width, 3, 1, 1)
    for half, width, out in (("encoder", 384, 32), ("decoder", 96, 3)):
        table |= _vae_middle(f"{half}.middle")
        table |= {f"{half}.head.0.gamma": (width, 1, 1, 1)}
        table |= _affine(f"{half}.head.2", out, width, 3, 3, 3)
    return table


def _residual(at: str, before: int, after: int) -> Table:
    table = {
        f"{at}.residual.0.gamma": (before, 1, 1, 1),
        **_affine(f"{at}.residual.2", after, before, 3, 3, 3),
        f"{at}.residual.3.gamma": (after, 1, 1, 1),
        **_affine(f"{at}.residual.6", after, after, 3, 3, 3),
    }
    return table if before == after else table | _affine(f"{at}.shortcut", after, before, 1, 1, 1)


def _vae_middle(at: str, width: int = 384) -> Table:
    return {
        **_residual(f"{at}.0", width, width),
        f"{at}.1.norm.gamma": (width, 1, 1),
        **_affine(f"{at}.1.to_qkv", 3 * width, width, 1, 1),
        **_affine(f"{at}.1.proj", width, width, 1, 1),
        **_residual(f"{at}.2", width, width),
    }
