"""One file a target format; the file name is the suffix: `out.mkv` is written by `mkv.py`."""
