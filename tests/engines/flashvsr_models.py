"""FlashVSR with the weights of the official code's outputs, and what it is fed with there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtake.core.media import Clip
from longtake.engines._color_fix import adain
from longtake.engines._flashvsr_stream import Model, SmallDecoding, VaeDecoding, no_fix
from longtake.engines._flashvsr_tiles import tiles
from longtake.engines._parts import Parts
from longtake.nets.flashvsr.block import DiTConfig
from longtake.nets.flashvsr.decoder import DecoderConfig, TCDecoder
from longtake.nets.flashvsr.dit import DiT, Settings
from longtake.nets.flashvsr.projector import Projector, ProjectorConfig
from longtake.nets.flashvsr.state import KVState
from longtake.nets.wan.tiles import Histories, TiledVae, Tiling
from longtake.nets.wan.vae import VaeConfig, WanVae
from tests.nets.flashvsr.goldens import golden, weights
from tests.nets.formula import video


class TiledDecoding:
    """The VAE in tiles, as one of the official outputs has it."""

    def __init__(self, tiling: Tiling) -> None:
        self._tiling, self._histories = tiling, Histories()

    def __call__(self, vae: Any, latent: Tensor, _: Tensor) -> Iterable[Tensor]:
        tiled = TiledVae(vae=vae, tiling=self._tiling)
        return (x.clamp_(-1, 1) for x in tiled.decode(latent[:, :, 0], self._histories))


def official_dit() -> tuple[DiT, Tensor]:
    """The net and its prompt."""
    stored, about = golden("dit_weights")
    c = about["config"]
    net = DiT(DiTConfig(
        dim=c["dim"], heads=c["num_heads"], layers=c["num_layers"], ffn_dim=c["ffn_dim"],
        text_dim=c["text_dim"], freq_dim=c["freq_dim"],
    ))  # fmt: skip
    net.load_state_dict(weights(stored))
    return net.eval(), stored["context"]


def official_projector(variant: str) -> Projector:
    stored, about = golden("lq_proj_buffer_v10")
    config = ProjectorConfig(
        variant=variant,
        hidden=tuple(about["hidden"]),
        dim=about["out_dim"],  # type: ignore[arg-type]
    )
    net = Projector(config)
    kept = {k: v for k, v in weights(stored).items() if not k.startswith("linear_layers.1")}
    net.load_state_dict(kept)
    return net.eval()


def official_decoder(kind: str) -> TCDecoder | WanVae:
    if kind == "tiny":
        stored, about = golden("tcdecoder")
        net: TCDecoder | WanVae = TCDecoder(DecoderConfig(widths=tuple(about["channels"])))
    else:
        stored, about = golden("wan_vae")
        net = WanVae(VaeConfig(base=about["dim"]))
    net.load_state_dict(weights(stored))
    return net.eval()


def official_model(stored: dict[str, Tensor], about: dict[str, Any], colored: bool = True) -> Model:
    """The pipeline of a golden `pipe_*`, with its noise; give it `clips_of`."""
    dit, context = official_dit()
    config = dit.config
    height, width = about["H"], about["W"]
    times = height // stored["clip_u8"].shape[1]
    kv = partial(
        KVState, layers=config.layers, windows=(height // 128) * (width // 128), dim=config.dim,
        kv_ratio=int(about["kv_ratio"]), dtype=torch.float32, device=torch.device("cpu"),
    )  # fmt: skip
    extra, decoding = about["extra"], SmallDecoding
    if about["kind"] == "full":
        decoding = VaeDecoding  # type: ignore[assignment]
        if extra.get("tiled"):
            tiling = Tiling(size=tuple(extra["tile_size"]), stride=tuple(extra["tile_stride"]))
            decoding = partial(TiledDecoding, tiling)  # type: ignore[assignment]
    with torch.inference_mode():
        constants = dit.prepare(context)
    # its last frames are looked at only; here they are made, too
    noise = torch.nn.functional.pad(stored["noise"], (0, 0, 0, 0, 0, 8))
    return Model(
        parts=Parts({
            "projector": official_projector(about["lq"]), "dit": dit,
            "decoder": official_decoder(about["kind"]),
        }),
        constants=constants,
        settings=Settings(topk_ratio=about["topk_ratio"], local_range=about["local_range"]),
        kv=kv, decoding=decoding,
        noise=lambda window: lambda latents: noise[:, :, latents.start : latents.stop],
        enlarge=lambda frame: video(torch.from_numpy(frame)[None], times)[:, :, 0],
        fix=adain if colored else no_fix,
        dtype=torch.float32, size=(width, height), bits=16, tiles=tiles((width, height), 0),
    )  # fmt: skip


def clips_of(pixels: Tensor | np.ndarray, size: int, start: int = 0) -> Iterable[Clip]:
    """[T, H, W, 3] in clips of `size` frames."""
    frames = np.asarray(pixels)
    for i in range(0, len(frames), size):
        yield Clip(pixels=frames[i : i + size], start=start + i)


def recorded(model: Model, record: Callable[[Tensor], None]) -> Model:
    """The same model; every chunk's latents are told to `record`."""
    made = model.decoding

    class Recording:
        def __init__(self) -> None:
            self._decode = made()

        def __call__(self, net: Any, latent: Tensor, source: Tensor) -> Iterable[Tensor]:
            record(latent)
            return self._decode(net, latent, source)

    return replace(model, decoding=Recording)


def watched(model: Model, record: Callable[[Tensor], None]) -> Model:
    """The same model; which blocks are kept is told to `record`, slab by slab."""
    attend = model.settings.attend

    def watching(queries: Tensor, keys: Tensor, values: Tensor, selection: Any) -> Tensor:
        record(selection.kept)
        return attend(queries, keys, values, selection)

    return replace(model, settings=replace(model.settings, attend=watching))
