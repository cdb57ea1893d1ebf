"""A search in a separate process, started by the command `primer-search`.

So the search chooses its devices itself, even if this process has already used JAX. The run records the command that
repeats it. And Ctrl-C in a notebook interrupts only the call that waits for the search, not the search.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress

from ..primitives.errors import UsageError, WorkFailedError
from ..system.error_text import last_line
from ..system.signals import Interrupted

__all__ = ["SearchProcess"]

_ERRORS = {2: UsageError, 130: Interrupted}
"""Error to raise for each exit code; for all other codes, WorkFailedError."""


class SearchProcess:
    """The process of one command.

    Args:
        words: words of the command, without `primer-search`.
    """

    def __init__(self, words: Sequence[str]):
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - the next line closes it
        weakref.finalize(self, self._stderr.close)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "primer_search", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the process ends, and return whether it has; raise its error if it failed.

        Raises:
            UsageError, WorkFailedError, Interrupted: the command failed; the message is the one that it printed.
        """
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_seconds)
        if self.running:
            return False
        if self._process.returncode:
            self._stderr.seek(0)
            sentence = last_line(self._stderr.read().decode(errors="replace")).removeprefix("primer-search: ")
            error = _ERRORS.get(self._process.returncode, WorkFailedError)
            raise error(sentence or f"the search ended with exit code {self._process.returncode}")
        return True

    def terminate(self) -> None:
        """Interrupt the command, which saves its results, and wait until it has ended."""
        while self.running:
            self._process.terminate()
            time.sleep(0.5)
