"""What FlexAttention needs, asked without loading torch."""

from __future__ import annotations

import importlib.util
import os
import shutil


def flex_lacks(capability: tuple[int, int], *, here: bool = True) -> str | None:
    """Why FlexAttention cannot run on a GPU of that compute capability; None if it can. `here`: in
    this environment; else in one that has what is needed."""
    if capability < (8, 0):
        found = ".".join(map(str, capability))
        return f"it needs compute capability 8.0 or more, and this device has {found}"
    if not here:
        return None
    if importlib.util.find_spec("triton") is None:
        return "it needs Triton, which is not installed: pip install triton"
    compilers = [os.environ["CC"]] if os.environ.get("CC") else ["gcc", "clang", "cc"]
    if not any(map(shutil.which, compilers)):
        return f"Triton needs a C compiler and none is on the PATH ({', '.join(compilers)})"
    return None
