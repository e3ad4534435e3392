"""longtake: long video on the GPU you have."""

__version__ = "0.1.0"
