"""Jobs as processes; see tests/jobs.py."""

from tests.jobs import film, job, straight

__all__ = ["film", "job", "straight"]
