"""Ctrl-C and termination signals: how they end a command.

The first signal raises KeyboardInterrupt in the main thread. That does not always end a command. Python drops
exceptions in destructors and in JAX's callback of the garbage collector, and the main thread runs no Python while XLA
compiles. Therefore the signal also sets a flag, which is read before a file is written and at the end of the command.
In a process of the command line, a thread also receives the signals. The thread raises a dropped KeyboardInterrupt
again. It ends the process at a second signal, or if the command has not ended within a limited time.
"""

from __future__ import annotations

import _thread
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from ..primitives.errors import PrimerSearchError
from .orphans import adopt_orphans

__all__ = [
    "GRACE_SECONDS",
    "INTERRUPTED",
    "InterruptFlag",
    "Interrupted",
    "deferred_interruption",
    "ends_at_interruption",
    "interrupt_on_termination",
    "interruptible",
    "raise_if_interrupted",
]

Event = TypeVar("Event")

INTERRUPTED = 130
"""Exit code of a command that a signal has ended."""

GRACE_SECONDS = 20.0
"""Time for a command to save its state and end after the first signal."""

SAME_SECONDS = 0.5
"""Signals within this time after the first do not count as a second signal, because a terminal and a parent process may
both send one."""

_CLOSE, _DROPPED = 0, 255
"""Messages to the thread of a watcher, besides the numbers of signals."""

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupted(PrimerSearchError):
    """The user ended the command; the message says how to continue."""

    exit_code = INTERRUPTED


@dataclass(slots=True)
class InterruptFlag:
    """Whether a signal has asked this process to stop.

    Attributes:
        requested: whether a signal has arrived.
        dropped: whether Python has dropped the signal's exception, so that the handler must raise another one.
        handled: whether the command already saves its state and ends, so that no exception is needed.
        farewell: returns the message to print if the watcher ends the process.
    """

    requested: bool = False
    dropped: bool = False
    handled: bool = False
    farewell: Callable[[], str] = lambda: "interrupted"

    def raise_if_interrupted(self) -> None:
        """Raise KeyboardInterrupt if a signal has arrived and the exception of the signal was lost."""
        if self.requested and not self.handled:
            raise KeyboardInterrupt

    def check_before(self, callback: Callable[[Event], None]) -> Callable[[Event], None]:
        """Return a callback that calls `raise_if_interrupted` first."""

        def checked(event: Event) -> None:
            self.raise_if_interrupted()
            callback(event)

        return checked


_current: InterruptFlag | None = None
"""Flag of the outermost `interrupt_on_termination`."""


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt if a signal has arrived. Call it before a write that an interruption must prevent."""
    if _current is not None:
        _current.raise_if_interrupted()


def interruptible(results: Iterable[Event]) -> Iterator[Event]:
    """Yield the results of long work; if a signal arrived during the work on one, raise KeyboardInterrupt instead."""
    for result in results:
        raise_if_interrupted()
        yield result


@contextmanager
def ends_at_interruption() -> Iterator[None]:
    """Run a block whose normal end is a signal, such as a server; the command then does not count as interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        if _current is not None:
            _current.requested = False


@contextmanager
def deferred_interruption() -> Iterator[Callable[[], bool]]:
    """Record the first Ctrl-C or termination signal instead of raising it, so that the block can save its state.

    A second signal raises KeyboardInterrupt.

    Yields:
        Function that returns whether a signal has arrived.
    """
    arrived: list[float] = []

    def record(*_: object) -> None:
        if arrived and time.monotonic() - arrived[0] > SAME_SECONDS:
            raise KeyboardInterrupt
        arrived.append(time.monotonic())
        if _current is not None:
            _current.requested = _current.handled = True

    former = _set_handlers(record)
    try:
        yield lambda: bool(arrived)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def interrupt_on_termination(grace_seconds: float | None = None) -> Iterator[InterruptFlag]:
    """Make SIGTERM, and SIGHUP unless it is ignored, act like Ctrl-C. Inside another such block, nothing changes.

    SIGINT is set as well, because shells start background processes with SIGINT ignored.

    Args:
        grace_seconds: time in which the block must end after the first signal. After that time, or at a second signal,
            a thread ends the process with exit code 130. None: there is no thread, and every signal raises.
    """
    global _current
    if _current is not None:
        yield _current
        return
    flag = InterruptFlag()

    def interrupt(*_: object) -> None:
        first = not flag.requested or flag.dropped
        flag.requested, flag.dropped = True, False
        if first or grace_seconds is None:
            raise KeyboardInterrupt

    former = _set_handlers(interrupt)
    watcher = _Watcher(flag, interrupt, former, grace_seconds) if former and grace_seconds is not None else None
    _current = flag
    try:
        yield flag
    finally:
        _current = None
        if watcher is not None:
            watcher.close()
        ending = watcher is not None and flag.requested  # the command is ending; no other signal may interrupt that
        for number, handler in former.items():
            signal.signal(number, signal.SIG_IGN if ending else handler)


def _set_handlers(handler: Callable[..., None]) -> dict[int, Any]:
    """Set the handler of the signals, and return the former handlers; do nothing outside the main thread."""
    former: dict[int, Any] = {}
    with suppress(ValueError):  # only the main thread may set handlers
        for name in _SIGNALS:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and not (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                former[number] = signal.signal(number, handler)
    return former


class _Watcher:
    """A thread that receives signals even while the main thread runs no Python, and ends the process if necessary."""

    def __init__(
        self, flag: InterruptFlag, handler: Callable[..., None], numbers: dict[int, Any], grace_seconds: float
    ):
        self._flag, self._handler, self._numbers, self._grace_seconds = flag, handler, frozenset(numbers), grace_seconds
        self._terminal = os.dup(2)  # a search redirects descriptor 2 to its log
        self._signals, self._written = os.pipe()
        os.set_blocking(self._written, False)
        self._former = signal.set_wakeup_fd(self._written, warn_on_full_buffer=False), sys.unraisablehook
        self._raised_again = 0
        sys.unraisablehook = self._after_drop
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        wakeup_descriptor, sys.unraisablehook = self._former
        signal.set_wakeup_fd(wakeup_descriptor)
        os.write(self._written, bytes([_CLOSE]))
        self._thread.join()
        for descriptor in (self._written, self._signals, self._terminal):
            os.close(descriptor)

    def _watch(self) -> None:
        first: float | None = None
        while True:
            left = None if first is None else max(0.0, first + self._grace_seconds - time.monotonic())
            if not select.select([self._signals], [], [], left)[0]:
                self._end_process(f" (the command did not end within {self._grace_seconds:g} s)")
            for number in os.read(self._signals, 64):
                if number == _CLOSE:
                    return
                if number == _DROPPED:
                    time.sleep(0.01)  # until the callback that dropped the exception has returned
                    self._raised_again += 1
                    _thread.interrupt_main()
                    continue
                if number == signal.SIGINT and self._raised_again:
                    self._raised_again -= 1
                    continue
                # A signal for which a library, such as a server, has set another handler is left to that handler.
                if number not in self._numbers or signal.getsignal(number) is not self._handler:
                    continue
                self._flag.requested = True
                if first is None:
                    first = time.monotonic()
                    adopt_orphans()  # Ray's agents outlive the daemon that started them
                elif time.monotonic() - first > SAME_SECONDS:
                    self._end_process("")

    def _after_drop(self, dropped: Any) -> None:
        """Handle an exception that Python drops. It cannot be raised again here, so the thread does that."""
        if isinstance(dropped.exc_value, KeyboardInterrupt) and self._flag.requested:
            self._flag.dropped = True
            os.write(self._written, bytes([_DROPPED]))
        else:
            self._former[1](dropped)

    def _end_process(self, why: str) -> None:
        import psutil

        from .host import kill_process_tree  # loads psutil, which most commands do not need

        show_cursor = "\x1b[?25h\n" if os.isatty(self._terminal) else ""
        with suppress(OSError):
            os.write(self._terminal, f"{show_cursor}primer-search: {self._flag.farewell()}{why}\n".encode())
        for child in psutil.Process().children():
            kill_process_tree(child)
        os._exit(INTERRUPTED)
