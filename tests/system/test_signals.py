"""Termination signals as interruptions."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest

from primer_search.system.signals import interrupt_on_termination


def test_an_interruption_lost_in_a_callback_is_raised_at_the_next_check() -> None:
    with interrupt_on_termination() as flag:
        flag.raise_if_interrupted()
        with contextlib.suppress(KeyboardInterrupt):  # as a destructor would
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        with pytest.raises(KeyboardInterrupt):
            flag.raise_if_interrupted()
