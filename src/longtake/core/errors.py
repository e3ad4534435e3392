"""Every error a user may meet: its docstring opens the message, `exit_code` ends the process."""

from __future__ import annotations


class LongtakeError(Exception):
    """Something went wrong."""

    exit_code = 1

    def __init__(self, detail: str = "") -> None:
        super().__init__(" ".join(x for x in (self.__doc__ or "", detail) if x))
        self.detail = detail


class BadInput(LongtakeError):
    """The input cannot be used."""

    exit_code = 2


class Usage(LongtakeError):
    """The command cannot be carried out as given."""

    exit_code = 2


class UnknownPlugin(Usage):
    """There is no plugin of that name."""


class TracksRefused(Usage):
    """The target cannot hold everything that the source holds."""


class RecipeChanged(Usage):
    """The work folder holds segments made from another input or with other settings."""


class WorkFolderBusy(Usage):
    """Another longtake process is working on this target."""


class DoesNotFit(LongtakeError):
    """The job does not fit."""

    exit_code = 4


class OutOfMemory(LongtakeError):
    """Memory ran out."""

    exit_code = 4


class DiskFull(LongtakeError):
    """The disk is full. What is done is kept: free some space and run the same command again."""


class NotANumber(LongtakeError):
    """The engine gave values that are not numbers (NaN or infinity)."""


class VerifyFailed(LongtakeError):
    """The finished file is not what it should be."""


class JournalDamaged(LongtakeError):
    """The journal of the work folder cannot be read."""
