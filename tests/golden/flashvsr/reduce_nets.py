"""Make `tcdecoder`, `color_fix` and `vae` of this folder.

    python -m tests.golden.flashvsr.reduce_nets

`tcdecoder` and `color_fix` are the official outputs with fewer frames and every fourth pixel.
`vae` is second-hand: the official weights would make too large a file, so weights follow from a
formula and the outputs are this code's own, written while it equalled the official ones (else the
script refuses). It notices changes; that the code was right is the word of the full goldens.
"""

from __future__ import annotations

import sys

import torch
from safetensors.torch import save_file

from tests.nets.flashvsr.goldens import SMALL, golden, weights
from tests.nets.wan.goldens import official_error, second_hand

FRAMES, LATENTS = 29, 8


def main() -> None:
    stored, _ = golden("tcdecoder")
    kept = {f"sd.{name}": weight.half() for name, weight in weights(stored).items()}
    kept["clip_u8"] = stored["clip_u8"][:FRAMES]
    kept["latents"] = stored["latents"][:, :, :LATENTS].contiguous()
    kept["decode_all"] = stored["decode_all"][:, :, :FRAMES, ::4, ::4].contiguous()
    save_file(kept, SMALL / "tcdecoder.safetensors")
    stored, _ = golden("color_fix")
    names = ("hq", "lq", "adain", "wavelet")
    frame = {name: stored[name][:, :, :1].contiguous() for name in names}
    save_file(frame, SMALL / "color_fix.safetensors")
    if (error := official_error()) > 1e-5:
        sys.exit(f"the VAE is off the official one by {error}")
    save_file(second_hand(), SMALL / "vae.safetensors")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
