"""Make `umt5`, `clip_vision`, `vae` and `unipc` of tests/golden/wan, from other libraries.

    python -m tests.golden.make_wan_nets

Weights follow from a formula, so a file holds little but what the oracle made. Needs transformers
and diffusers (extra `test`).
"""

from __future__ import annotations

import json

import diffusers
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from longtake.nets.clip_vision import ClipVision
from longtake.nets.umt5 import UmT5
from longtake.nets.wan.vae import WanVae
from tests.nets import test_clip_vision as clip
from tests.nets import test_samplers as samplers
from tests.nets import test_umt5 as umt5
from tests.nets.formula import formula
from tests.nets.oracles import GOLDEN, filled
from tests.nets.wan import test_vae_diffusers as vae


def main() -> None:
    ids, mask = umt5.tokens(umt5.SMALL, 2, 60), umt5.padding(2, 60, holes=True)
    said = umt5.oracle(umt5.SMALL, filled(UmT5(umt5.SMALL)))(input_ids=ids, attention_mask=mask)
    keep("umt5", {"ids": ids, "mask": mask, "made": said.last_hidden_state})

    image = clip.image(clip.SMALL, 2)
    tower = clip.oracle(clip.SMALL, filled(ClipVision(clip.SMALL)))
    seen = tower(image, output_hidden_states=True).hidden_states[-2]
    keep("clip_vision", {"image": image, "made": seen})

    film = formula((1, 3, 9, 24, 32), 2)
    encoded = vae.encoded_there(vae.oracle(filled(WanVae(vae.SMALL))), film)
    keep("vae", {"encoded": encoded})

    keep("unipc", {
        f"{steps}.{shift}": samplers.unipc_there(steps, shift) for steps, shift in samplers.STORED
    })  # fmt: skip


def keep(name: str, tensors: dict[str, Tensor]) -> None:
    GOLDEN.mkdir(exist_ok=True)
    versions = {"diffusers": diffusers.__version__, "transformers": transformers.__version__}
    metadata = {key: json.dumps(value) for key, value in versions.items()}
    save_file(
        {k: v.contiguous() for k, v in tensors.items()}, GOLDEN / f"{name}.safetensors", metadata
    )


if __name__ == "__main__":
    with torch.inference_mode():
        main()
