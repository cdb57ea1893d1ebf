"""Trainers with faults on request: the DNA of a trial names the fault."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from primer_search.primitives.errors import UsageError
from primer_search.workers.protocol import Evaluation, Progress, TrialRequest


def make_one_on_a_machine_that_breaks(first: str) -> FaultyTrainer:
    """Make a trainer for the first caller, which creates the file `first`; fail for later callers."""
    try:
        Path(first).touch(exist_ok=False)
    except FileExistsError:
        raise OSError("the disk is on fire") from None
    return FaultyTrainer()


class FaultyTrainer:
    """Does what `request.dna` says, counts its trials, and keeps the memory that `leak` allocates."""

    def __init__(self) -> None:
        self.trials = 0
        self.leaked: list[bytes] = []

    def run(self, request: TrialRequest, progress: Callable[[Progress], None]) -> Evaluation:
        self.trials += 1
        progress(Progress("train", spent=1.5, budget=30.0, loss_nats=4.25))
        action, _, argument = request.dna.partition(" ")
        getattr(self, f"_{action}")(argument)
        return Evaluation("ok", message=f"{os.getpid()}", loss_nats=float(request.seed), steps=self.trials)

    def _succeed(self, _: str) -> None:
        pass

    def _sleep(self, seconds: str) -> None:
        time.sleep(float(seconds or 1000))

    def _spin(self, _: str) -> None:
        """Run a loop in C that lets no other thread of the interpreter run."""
        sum(itertools.repeat(0))

    def _fill_memory(self, _: str) -> None:
        """Fill 2 GiB in about two seconds, then stop, to protect the machine if the test fails."""
        hoard = []
        for _step in range(128):
            hoard.append(b"x" * 2**24)
            time.sleep(0.01)

    def _leak(self, megabytes: str) -> None:
        self.leaked.append(b"x" * (int(megabytes) * 2**20))

    def _fail(self, text: str) -> None:
        raise ValueError(text)

    def _fork(self, path: str) -> None:
        """Leave a child, and in a session of its own a grandchild whose parent has ended; write their numbers."""
        children = [os.fork()]
        if not children[0]:
            time.sleep(1000)
        if not (parent := os.fork()):
            os.setsid()
            if grandchild := os.fork():
                Path(path).write_text(f"{children[0]} {grandchild}")
                os._exit(0)
            time.sleep(1000)
        os.waitpid(parent, 0)

    def _fork_and_fill_memory(self, _: str) -> None:
        if not os.fork():
            hoard = b"x" * 2**30
            time.sleep(1000 + len(hoard) % 2)
        time.sleep(1000)

    def _exhaust(self, _: str) -> None:
        raise MemoryError("cannot allocate")

    def _die(self, _: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _report_process(self, path: str) -> None:
        """Write the cores, threads and JAX devices of the process."""
        import jax

        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        threads = os.environ["OMP_NUM_THREADS"]
        platforms = [device.platform for device in jax.devices()]
        Path(path).write_text(f"{cores}|{threads}|{platforms}")


class CompilingTrainer:
    """Never returns from compilation, in a loop in C that lets no other thread of the interpreter run."""

    def run(self, request: TrialRequest, progress: Callable[[Progress], None]) -> Evaluation:
        progress(Progress("compile"))
        time.sleep(0.5)
        sum(itertools.repeat(0))
        raise AssertionError("the loop has no end")


class InterruptedTrainer:
    def run(self, request: TrialRequest, progress: Callable[[Progress], None]) -> Evaluation:
        raise KeyboardInterrupt


def fail_to_make() -> FaultyTrainer:
    raise OSError("the disk is on fire\nsecond line")


def miss_the_data() -> FaultyTrainer:
    raise UsageError("data.source = 'text:nowhere' does not exist; give a file or a folder")


def die_while_making() -> FaultyTrainer:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def hang_while_making() -> FaultyTrainer:
    time.sleep(1000)
    raise AssertionError("unreachable")
