"""The official names of the transformer's tensors, which are ours; community files put a prefix
before them.

Source: https://huggingface.co/Wan-AI/Wan2.1-T2V-1.3B, diffusion_pytorch_model.safetensors;
https://github.com/Wan-Video/Wan2.1, wan/modules/model.py; the prefixes:
https://github.com/comfyanonymous/ComfyUI, comfy/model_detection.py.
"""

from __future__ import annotations

from typing import Final

from longtake.nets.wan.keys import Layout

OFFICIAL: Final = Layout(
    name="official",
    mark="time_projection.1.weight",
    prefixes=("", "model.diffusion_model.", "diffusion_model."),
    ours=str,
    theirs=str,
    useless=lambda name: False,  # noqa: ARG005 -- all are used
)
