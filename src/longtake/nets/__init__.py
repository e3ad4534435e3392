"""Networks: torch only; no files, no choice of device, no knowledge of video."""
