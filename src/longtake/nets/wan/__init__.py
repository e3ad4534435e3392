"""The nets of Wan 2.1: https://arxiv.org/abs/2503.20314, https://github.com/Wan-Video/Wan2.1."""
