"""FlashVSR: streaming one-step diffusion for video super-resolution (arXiv 2510.12747)."""
