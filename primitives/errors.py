"""The error classes of the package and their exit codes.

PrimerSearchError
+-- UsageError               exit 2   wrong usage, configuration or data
|   +-- MalformedProgramError         the input is not a DNA (JSON, fields, types, ranges, cycles, size)
+-- InvalidProgramError      exit 1   a DNA that is not valid (kinds, widths, causality, finiteness)
+-- WorkFailedError          exit 1   well-specified work that failed
"""

__all__ = [
    "InvalidProgramError",
    "MalformedProgramError",
    "PrimerSearchError",
    "UsageError",
    "WorkFailedError",
]


class PrimerSearchError(Exception):
    """Base of all errors raised on purpose; `exit_code` is the exit code of the command line."""

    exit_code = 1


class UsageError(PrimerSearchError, ValueError):
    """Wrong usage, configuration or data; the message says what is wrong, where, and how to fix it.

    It is also a ValueError, like the errors that Flax raises for wrong arguments of modules.
    """

    exit_code = 2


class MalformedProgramError(UsageError):
    """Input that is not a DNA: broken JSON, unknown fields or ops, indices out of range, cycles, too large."""


class InvalidProgramError(PrimerSearchError):
    """A well-formed DNA that is not a valid program.

    Attributes:
        reason: one word to group errors by: `kinds`, `widths`, `length_dependent`, `causality`,
            `finiteness` or `parameters` (over the cap).
    """

    def __init__(self, reason: str, message: str):
        super().__init__(reason, message)  # both, so that it can be pickled
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


class WorkFailedError(PrimerSearchError):
    """Well-specified work that failed: no worker survived, an export did not reproduce the program, ..."""
