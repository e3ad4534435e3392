"""Jobs as processes; see tests/jobs.py."""

from tests.jobs import job

__all__ = ["job"]
