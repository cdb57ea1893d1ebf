"""Ctrl-C and the signals that end a process: one exception for all of them, heard even where Python loses it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from ..primitives.errors import PrimerSearchError

__all__ = ["InterruptFlag", "Interrupted", "interrupt_on_termination"]

Heard = TypeVar("Heard")


class Interrupted(PrimerSearchError):
    """The user ended the command; the message says how to go on."""

    exit_code = 130


@dataclass(slots=True)
class InterruptFlag:
    """Whether the user interrupted.

    An exception that a signal's handler raises is lost where Python happens to be in a destructor or in a callback of
    XLA's: it is printed or dropped, and the work goes on. So the work asks again now and then.
    """

    asked: bool = False

    def raise_if_interrupted(self) -> None:
        """Interrupt, if an earlier interruption was lost."""
        if self.asked:
            raise KeyboardInterrupt

    def check_before(self, listener: Callable[[Heard], None]) -> Callable[[Heard], None]:
        """What is called now and then with news of the work, so that it insists first."""

        def listen(news: Heard) -> None:
            self.raise_if_interrupted()
            listener(news)

        return listen


@contextmanager
def interrupt_on_termination() -> Iterator[InterruptFlag]:
    """Let SIGTERM, and SIGHUP unless it is ignored, do what Ctrl-C does.

    SIGINT is set too, as shells start background processes with it ignored.
    """
    interruption = InterruptFlag()

    def interrupt(*_: object) -> NoReturn:
        interruption.asked = True
        raise KeyboardInterrupt

    before = {}
    try:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and not (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                before[number] = signal.signal(number, interrupt)
    except ValueError:  # not the main thread, which alone may set handlers
        before.clear()
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
