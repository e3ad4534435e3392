"""Make `dit` of tests/golden/wan: what diffusers' WanTransformer3DModel predicts.

    python -m tests.golden.make_wan_dit

Weights and inputs follow from a formula, so the file holds outputs alone. Needs diffusers (extra
`test`).
"""

from __future__ import annotations

from typing import Final

import torch

from longtake.nets.wan.sizes import DiTConfig
from tests.nets.wan.dits import I2V, T2V, Asked, as_published, by_published, net_of

NAME: Final = "dit"
SIZES: Final = {"t2v": T2V, "i2v": I2V}


def asked_of(config: DiTConfig) -> list[Asked]:
    return [Asked.by_formula(config, (3, 6, 10), time, round(time)) for time in (999.0, 250.0)]


def main() -> None:
    from tests.golden.make_wan_nets import keep

    keep(NAME, {
        name: by_published(as_published(net_of(config)), asked_of(config), config.text_length)
        for name, config in SIZES.items()
    })  # fmt: skip


if __name__ == "__main__":
    with torch.inference_mode():
        main()
