"""What the VAE is compared with: the official outputs, and its own of a time when it was equal."""

from __future__ import annotations

from torch import Tensor

from longtake.nets.wan.vae import VaeConfig, WanVae
from tests.nets.flashvsr.goldens import difference, golden, weights
from tests.nets.formula import by_formula, each, formula, video


def official() -> tuple[WanVae, dict[str, Tensor]]:
    """The net with the weights of the golden, and its tensors; skips where they are absent."""
    stored, sizes = golden("wan_vae")
    net = WanVae(VaeConfig(base=sizes["dim"])).eval()
    net.load_state_dict(weights(stored))
    return net, stored


def official_error() -> float:
    """How far decoding and encoding are from the official results."""
    net, stored = official()
    decoded = each(net.decode, stored["z_rand"], {})
    encoded = each(net.encode, video(stored["clip_u8"]), {})
    return max(
        difference(decoded, stored["decode_rand_unclamped"]), difference(encoded, stored["encode"])
    )


def second_hand() -> dict[str, Tensor]:
    """Outputs of a VAE whose weights follow from a formula."""
    net = WanVae(VaeConfig(base=4)).eval()
    by_formula(net)
    clip = formula((1, 3, 9, 24, 32), 2)
    return {
        "decoded": each(net.decode, formula((1, 16, 3, 5, 7), 1), {})[..., ::3, ::3].contiguous(),
        "encoded": each(net.encode, clip, {}).contiguous(),
    }
