"""Redirection of everything that libraries print into a log file, so that the progress display stays readable.

Native code (XLA, Ray's core) writes to the file descriptors 1 and 2 directly, so the descriptors are redirected. The
display writes to a copy of the original stderr.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from ..primitives.errors import UsageError
from .standard_streams import forgiving_stream

__all__ = ["log_traceback", "redirect_output"]

LARGEST_LOG = 16 * 2**20
"""Size in bytes above which a log is cut before more is written to it."""

KEPT_LOG = 2**20
"""Number of bytes at the end of the log that are kept when it is cut."""

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def redirect_output(log: Path) -> Iterator[TextIO]:
    """Send stdout, stderr, logging and warnings to `log`; yield a stream to the original stderr.

    Where stdout or stderr is not the process's own descriptor (as under test runners), only logging and warnings are
    redirected.

    Raises:
        UsageError: the log cannot be written.
    """
    try:
        log.open("a").close()
    except OSError as error:
        raise UsageError(
            f"cannot write {log}: {error.strerror}; if another user owns its folder, copy the folder to one of your own"
        ) from error
    _cut(log)
    handler = logging.FileHandler(log, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO) if level else logging.INFO)
    logging.captureWarnings(True)
    try:
        with _redirect_descriptors(log) as terminal:
            yield terminal
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


def _cut(log: Path) -> None:
    """Keep the end of a log that has become too large."""
    with suppress(OSError):
        if log.stat().st_size > LARGEST_LOG:
            with log.open("r+b") as file:
                file.seek(-KEPT_LOG, os.SEEK_END)
                end = file.read()
                file.seek(0)
                file.write(b"(earlier lines were cut)\n" + end.partition(b"\n")[2])
                file.truncate()


def log_traceback(log: Path, error: BaseException) -> bool:
    """Append an exception with its traceback to the log; return False if that fails."""
    with suppress(OSError), log.open("a", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
        return True
    return False


@contextmanager
def _redirect_descriptors(log: Path) -> Iterator[TextIO]:
    if not (_is_descriptor(sys.stdout, 1) and _is_descriptor(sys.stderr, 2)):
        yield sys.stderr
        return
    sys.stdout.flush()
    sys.stderr.flush()
    former = os.dup(1), os.dup(2)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    terminal = forgiving_stream(os.dup(former[1]), close=True, encoding=sys.stderr.encoding or "utf-8")
    try:
        os.dup2(file, 1)
        os.dup2(file, 2)
        yield terminal
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in enumerate(former, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(file)
        terminal.close()


def _is_descriptor(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError, AttributeError):
        return False
