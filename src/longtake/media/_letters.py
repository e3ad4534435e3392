"""Letters of 5x7 px for labels in pictures; libav's wheel has no `drawtext`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 5, 8  # px; the lowest row is for tails
_COLUMNS = bytes.fromhex(  # of each letter from space to ~, the lowest bit on top
    "0000000000 00005f0000 0007000700 147f147f14 242a7f2a12 2313086462 3649562050 0008070300"
    "001c224100 0041221c00 2a1c7f1c2a 08083e0808 0080703000 0808080808 0000606000 2010080402"
    "3e5149453e 00427f4000 4261514946 2141454b31 1814127f10 2745454539 3c4a494930 0171090503"
    "3649494936 064949291e 0000140000 0040340000 0008142241 1414141414 0041221408 0201590906"
    "3e415d594e 7c1211127c 7f49494936 3e41414122 7f4141413e 7f49494941 7f09090901 3e41415173"
    "7f0808087f 00417f4100 2040413f01 7f08142241 7f40404040 7f021c027f 7f0408107f 3e4141413e"
    "7f09090906 3e4151215e 7f09192946 2649494932 03017f0103 3f4040403f 1f2040201f 3f4038403f"
    "6314081463 0304780403 6159494d43 007f414141 0204081020 004141417f 0402010204 4040404040"
    "0003070800 2054547840 7f28444438 3844444428 384444287f 3854545418 00087e0902 18a4a49c78"
    "7f08040478 00447d4000 2040403d00 7f10284400 00417f4000 7c04780478 7c08040478 3844444438"
    "fc18242418 18242418fc 7c08040408 4854545424 04043f4424 3c4040207c 1c2040201c 3c4030403c"
    "4428102844 4c9090907c 4464544c44 0008364100 0000770000 0041360800 0201020402"
)


def drawn(text: str, size: int = 1) -> NDArray[np.bool_]:
    """[8 x size, 6 x size x letters] True where there is ink; "?" for what has no letter here."""
    ink = np.zeros((HEIGHT, (WIDTH + 1) * len(text)), np.bool_)
    for place, letter in enumerate(text):
        code = ord(letter) if " " <= letter <= "~" else ord("?")
        at = WIDTH * (code - ord(" "))
        columns = np.frombuffer(_COLUMNS[at : at + WIDTH], np.uint8)
        left = (WIDTH + 1) * place
        ink[:, left : left + WIDTH] = (columns[None] >> np.arange(HEIGHT)[:, None]) & 1
    return ink.repeat(size, 0).repeat(size, 1)
