"""Documents of a source, and what was left out of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

__all__ = ["Document", "Documents", "LeftOut", "LeftOutTally", "format_left_out"]

NAMES = 5
"""Number of names that are kept for each reason."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text that belongs to one split as a whole; `name` tells where it came from."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Files, folders or records that were not read, for one reason.

    Attributes:
        reason: the reason.
        count: number of files and records; each file in a folder counts.
        bytes: size of the files.
        first: names of the first `NAMES` of them.
    """

    reason: str
    count: int
    bytes: int
    first: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of a manifest."""
        return {**asdict(self), "first": list(self.first)}


class Documents(Protocol):
    """Documents of a source. Each iteration reads them again, in the same order."""

    @property
    def left_out(self) -> Sequence[LeftOut]:
        """Files and records that were not read, by reason. The list is complete once the source has been read."""
        ...

    def __iter__(self) -> Iterator[Document]: ...


class LeftOutTally:
    """Count of what is left out, by reason."""

    def __init__(self) -> None:
        self._found: dict[str, LeftOut] = {}

    def add(self, reason: str, name: str, size: int = 0, count: int = 1) -> None:
        """Count a file, a folder or a record."""
        known = self._found.get(reason, LeftOut(reason, 0, 0, ()))
        names = known.first if len(known.first) == NAMES else (*known.first, name)
        self._found[reason] = LeftOut(reason, known.count + count, known.bytes + size, names)

    def total(self) -> tuple[LeftOut, ...]:
        """Return the counts."""
        return tuple(self._found.values())


def format_left_out(left_out: Sequence[LeftOut]) -> str:
    """Return one line about what was left out; an empty string if nothing was.

    >>> format_left_out([LeftOut("hidden", 7, 2048, (".a", ".git/"))])
    'left out: 7 hidden, 2,048 bytes (.a, .git/)'
    """
    parts = []
    for each in left_out:
        more = ", ..." if each.count > len(each.first) == NAMES else ""
        size = f", {each.bytes:,} bytes" if each.bytes else ""
        parts.append(f"{each.count:,} {each.reason}{size} ({', '.join(each.first)}{more})")
    return f"left out: {'; '.join(parts)}" if parts else ""
