"""Standard streams that do not stop a command if they are closed or full, or if their encoding lacks a character.

Messages and progress go to stderr. A search must not stop because the reader of stderr closes the pipe, or because a
device is full. Results go to stdout. If the reader of stdout closes the pipe, only the printing ends; the work is done
before.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from textwrap import fill
from typing import Any, TextIO

__all__ = ["discard_output", "forgiving_stream", "prepare_standard_streams", "print_line", "print_message"]


class _ForgivingFile(io.FileIO):
    """A file descriptor for messages: what cannot be written is lost."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def forgiving_stream(descriptor: int, *, close: bool, encoding: str = "utf-8") -> TextIO:
    """Return a stream to a descriptor whose writes never fail; `close`: the descriptor is closed with the stream."""
    raw = _ForgivingFile(descriptor, "w", closefd=close)
    buffer = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, encoding=encoding, errors="replace", line_buffering=True)


def prepare_standard_streams() -> None:
    """Open missing standard streams, let writes to stderr never fail, and replace characters that the encoding lacks.

    Closed descriptors are opened first. Otherwise the next file that is opened, such as the run store, would get the
    number of stdout or stderr, and libraries would print into that file.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - stays open
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - stays open
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    sys.stderr = forgiving_stream(2, close=False, encoding=getattr(sys.stderr, "encoding", None) or "utf-8")


def print_line(text: str, end: str = "\n") -> None:
    """Print to stdout, with a question mark for each character that its encoding lacks (`typer.echo` writes UTF-8)."""
    print(text, end=end, flush=True)


def print_message(message: str, stream: TextIO) -> None:
    """Print a message; on a terminal, a long message is wrapped between words."""
    if stream.isatty():
        columns = 80
        with suppress(OSError, ValueError):
            columns = max(os.get_terminal_size(stream.fileno()).columns, 20)
        message = fill(message, columns, break_long_words=False, break_on_hyphens=False)
    print(message, file=stream, flush=True)


def discard_output() -> None:
    """Discard all further output to stdout, so that Python does not write to a closed pipe when it exits."""
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
