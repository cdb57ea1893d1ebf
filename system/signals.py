"""Ctrl-C and termination signals raise KeyboardInterrupt, also where Python drops the first exception."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from ..primitives.errors import PrimerSearchError

__all__ = ["InterruptFlag", "Interrupted", "interrupt_on_termination"]

Event = TypeVar("Event")


class Interrupted(PrimerSearchError):
    """The user ended the command; the message says how to continue."""

    exit_code = 130


@dataclass(slots=True)
class InterruptFlag:
    """Whether a signal has asked this process to stop.

    If a signal arrives while a destructor or one of XLA's callbacks runs, Python prints or drops the exception of the
    signal handler and the work continues. Long work therefore checks this flag regularly.
    """

    requested: bool = False

    def raise_if_interrupted(self) -> None:
        """Raise KeyboardInterrupt if a signal has arrived."""
        if self.requested:
            raise KeyboardInterrupt

    def check_before(self, callback: Callable[[Event], None]) -> Callable[[Event], None]:
        """Return a callback that calls `raise_if_interrupted` first."""

        def checked(event: Event) -> None:
            self.raise_if_interrupted()
            callback(event)

        return checked


@contextmanager
def interrupt_on_termination() -> Iterator[InterruptFlag]:
    """Make SIGTERM, and SIGHUP unless it is ignored, act like Ctrl-C.

    SIGINT is set as well, because shells start background processes with SIGINT ignored.
    """
    flag = InterruptFlag()

    def interrupt(*_: object) -> NoReturn:
        flag.requested = True
        raise KeyboardInterrupt

    former = {}
    try:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and not (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                former[number] = signal.signal(number, interrupt)
    except ValueError:  # only the main thread may set handlers
        former.clear()
    try:
        yield flag
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
