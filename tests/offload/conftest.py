from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _all_threads_end() -> Iterator[None]:
    """Of every test; one core computes, so that the others' turns come."""
    before, cores = set(threading.enumerate()), torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(cores)
    left = [x.name for x in threading.enumerate() if x not in before and "longtake" in x.name]
    assert not left
