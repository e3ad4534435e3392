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
    dim: int = 1536, ffn: int = 8960, layers: int = 30, text: int = 4096, latent: int = 16
) -> Table:
    """The transformer of Wan2.1 text-to-video; defaults are 1.3B: 825 tensors."""
    patch = latent * 4
    table = {
        **_affine("patch_embedding", dim, latent, 1, 2, 2),
        **_affine("text_embedding.0", dim, text),
        **_affine("text_embedding.2", dim, dim),
        **_affine("time_embedding.0", dim, 256),
        **_affine("time_embedding.2", dim, dim),
        **_affine("time_projection.1", 6 * dim, dim),
        "head.modulation": (1, 2, dim),
        **_affine("head.head", patch, dim),
    }
    for i in range(layers):
        table |= _wan_block(f"blocks.{i}", dim, ffn)
    return table


def _wan_block(at: str, dim: int, ffn: int) -> Table:
    table: Table = {f"{at}.modulation": (1, 6, dim), **_affine(f"{at}.norm3", dim)}
    for kind in ("self_attn", "cross_attn"):
        for part in "qkvo":
            table |= _affine(f"{at}.{kind}.{part}", dim, dim)
        table |= {f"{at}.{kind}.norm_q.weight": (dim,), f"{at}.{kind}.norm_k.weight": (dim,)}
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
