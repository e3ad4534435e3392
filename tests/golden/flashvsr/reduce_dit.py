"""Make `masks`, `rope` and `dit` of this folder. README.md says what they are.

python -m tests.golden.flashvsr.reduce_dit
"""

from __future__ import annotations

import shutil

from safetensors import safe_open
from safetensors.torch import save_file

from tests.nets.flashvsr.goldens import FULL, SMALL


def main() -> None:
    from tests.nets.flashvsr.test_dit import small_stream

    shutil.copyfile(FULL / "masks.safetensors", SMALL / "masks.safetensors")
    with safe_open(FULL / "rope_time.safetensors", "pt") as file:
        names = [k for k in file.keys() if k.startswith(("apply.", "time.sin")) or ".sin" in k]  # noqa: SIM118
        kept = {name: file.get_tensor(name) for name in names}
        save_file(kept, SMALL / "rope.safetensors", file.metadata())
    save_file({f"chunk{i}": x for i, x in enumerate(small_stream())}, SMALL / "dit.safetensors")


if __name__ == "__main__":
    main()
