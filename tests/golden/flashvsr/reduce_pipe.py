"""Make `pipe` of this folder: frames of whole streams, by weights that follow from a formula.

    python -m tests.golden.flashvsr.reduce_pipe

Second-hand: made by this code while it equalled the official outputs
(`test_whole_pipelines_are_the_official_ones`), to notice changes where those are absent.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from longtake.core.media import Clip
from tests.engines import tiny_flashvsr as tiny
from tests.nets.flashvsr.goldens import SMALL

FRAMES, EVERY = 29, 8


def main() -> None:
    kept = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = tiny.make(Path(scratch) / "flashvsr-v1.1")
        for mode in ("tiny", "full"):
            with tiny.opened(tiny.planned(folder, mode=mode, bits=16)) as model:
                clip = Clip(pixels=tiny.film(FRAMES), start=0)
                made = np.concatenate([c.pixels for c in model.upscale([clip])])
            kept[mode] = torch.from_numpy(made[:, ::EVERY, ::EVERY].astype(np.float32) / 65535)
    save_file(kept, SMALL / "pipe.safetensors")


if __name__ == "__main__":
    main()
