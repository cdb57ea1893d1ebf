"""The one error tree of the package: every error a user can meet, and the exit code it carries.

PrimerSearchError
+-- UsageError               exit 2   wrong usage, configuration or data: one sentence, what, where, how to fix
|   +-- MalformedProgramError         the text is no DNA (JSON, fields, types, ranges, cycles, size)
+-- InvalidProgramError      exit 1   a DNA, but one the language refuses (kinds, widths, causality, finiteness)
+-- WorkFailedError          exit 1   the work was well specified and failed all the same
"""

__all__ = [
    "InvalidProgramError",
    "MalformedProgramError",
    "PrimerSearchError",
    "UsageError",
    "WorkFailedError",
]


class PrimerSearchError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line returns for it."""

    exit_code = 1


class UsageError(PrimerSearchError, ValueError):
    """Wrong usage, configuration or data; the message is one sentence: what, where, how to fix.

    A ValueError, too, as wrong arguments of modules are everywhere else in Flax.
    """

    exit_code = 2


class MalformedProgramError(UsageError):
    """The input is not a DNA: broken JSON, unknown fields or ops, indices out of range, cycles, too large."""


class InvalidProgramError(PrimerSearchError):
    """A well-formed DNA that the language refuses.

    Attributes:
        reason: one word a table can group by: `kinds`, `widths`, `length_dependent`, `causality`,
            `finiteness` or `parameters` (over the cap).
    """

    def __init__(self, reason: str, message: str):
        super().__init__(reason, message)  # both, so that it crosses processes
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


class WorkFailedError(PrimerSearchError):
    """Well-specified work failed: no worker survived, an export did not reproduce the program, ..."""
