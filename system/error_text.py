"""Short texts for messages, from the errors of libraries and the output of other programs."""

from __future__ import annotations

import re

__all__ = ["error_summary", "first_line", "last_line", "strip_folders"]


def first_line(text: str) -> str:
    """Return the first line that is not blank, or an empty string."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def last_line(text: str) -> str:
    """Return the last line that is not blank, or an empty string."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def error_summary(error: BaseException) -> str:
    r"""Return the type of an error and the first line of its message.

    >>> error_summary(ValueError("too long\n(see the manual)"))
    'ValueError: too long'
    """
    line = first_line(str(error))
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def strip_folders(text: str) -> str:
    """Shorten absolute paths in a text to their file names; URLs stay unchanged.

    >>> strip_folders("cannot open '/tmp/x/part.0' of http://host/set/all")
    "cannot open 'part.0' of http://host/set/all"
    """
    return re.sub(r"(?<![\w/:])(?:/[^/\s'\"]+)+/", "", text)
