"""A command in a real pseudo-terminal of a given width, and the screen that a person sees."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyte

__all__ = ["ROWS", "Session", "in_terminal"]

ROWS = 40
"""Rows of the terminal."""

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9\d|10\d)(?:;\d+)*m")


@dataclass(frozen=True, slots=True)
class Session:
    """What a command wrote to its terminal.

    Attributes:
        code: exit code.
        raw: everything that it wrote.
        columns: width of the terminal.
        screens: the distinct screens after each chunk of output, without blank lines at the end.
    """

    code: int
    raw: str
    columns: int
    screens: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """The lines without escape sequences, as they were written; one that is drawn again counts as another."""
        return re.split(r"\r*\n|\r", _ESCAPE.sub("", self.raw))

    @property
    def escapes(self) -> list[str]:
        """The escape sequences."""
        return _ESCAPE.findall(self.raw)

    @property
    def colours(self) -> list[str]:
        """The escape sequences that set a colour."""
        return _COLOUR.findall(self.raw)


def in_terminal(columns: int, *words: str | Path, folder: Path | None = None, **environment: str) -> Session:
    """Run Python with these words in a pseudo-terminal; the words may begin with `-m primer_search`."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    inherited = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env={**inherited, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment},
        start_new_session=True,
    )
    os.close(theirs)
    screen = pyte.Screen(columns, ROWS)
    stream, raw, screens = pyte.ByteStream(screen), b"", []
    for chunk in _chunks(ours):
        raw += chunk
        stream.feed(chunk)
        screens.append("\n".join(line.rstrip() for line in screen.display).rstrip())
    os.close(ours)
    return Session(process.wait(), raw.decode(), columns, tuple(dict.fromkeys(screens)))


def _chunks(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # the other side is closed
            return
        if not chunk:
            return
        yield chunk
