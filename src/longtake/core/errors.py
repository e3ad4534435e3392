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


class WeightsMissing(BadInput):
    """Weights are missing."""


class DownloadFailed(LongtakeError):
    """The download did not come to its end."""


class WorkFolderBusy(Usage):
    """Another longtake process is working on this target."""


class DoesNotFit(LongtakeError):
    """The job does not fit."""

    exit_code = 4


class OutOfMemory(LongtakeError):
    """Memory ran out."""

    exit_code = 4


class HostMemoryShort(OutOfMemory):
    """The host has no more memory to give."""


class DiskFull(LongtakeError):
    """The disk is full. What is done is kept: free some space and run the same command again."""


class NotANumber(LongtakeError):
    """The engine gave values that are not numbers (NaN or infinity)."""


class FilmDied(LongtakeError):
    """The process that made this film ended without a word."""


class VerifyFailed(LongtakeError):
    """The finished file is not what it should be."""


class JournalDamaged(LongtakeError):
    """The journal of the work folder cannot be read."""


def in_words(error: Exception) -> tuple[str, str, int]:
    """Name, sentence and exit code of any error, as a person or a script is told of it."""
    if isinstance(error, LongtakeError):
        return type(error).__name__, str(error), error.exit_code
    if isinstance(error, OSError):
        return type(error).__name__, f"{error}. What is done is kept.", LongtakeError.exit_code
    message = (
        f"Internal error: {type(error).__name__}: {error}. What is done is kept. "
        f"LONGTAKE_DEBUG=1 shows where; please report it."
    )
    return type(error).__name__, message, LongtakeError.exit_code
