"""The process pool: results in order, deaths of processes, and no process left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from primer_search.primitives.errors import WorkFailedError
from primer_search.system.process_pool import ProcessPool


@dataclass(frozen=True)
class Square:
    number: int

    def __call__(self) -> int:
        return self.number**2


def len_of(text: str):
    """A job that any interpreter can load."""
    return partial(len, text)


def exit_of(code: int):
    return partial(os._exit, code)


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_results_come_in_order_and_jobs_are_taken_as_needed():
    # Jobs must be importable by their name in another process; these are.
    jobs = [len_of("x" * n) for n in range(40)]
    taken: list[int] = []
    with ProcessPool(2) as pool:
        results = pool.map(job for n, job in enumerate(jobs) if taken.append(n) is None)
        assert next(results) == 0
        assert len(taken) <= 4
        assert [0, *results] == list(range(40))


def test_without_processes_jobs_run_here():
    with ProcessPool(0) as pool:
        assert list(pool.map(map(Square, range(4)))) == [0, 1, 4, 9]


def test_a_process_that_dies_is_work_that_failed():
    with ProcessPool(1) as pool, pytest.raises(WorkFailedError, match="a worker process died"):
        list(pool.map([exit_of(3)]))


def test_a_process_that_dies_leaves_no_job_waiting():
    with ProcessPool(2) as pool, pytest.raises(WorkFailedError):
        list(pool.map([exit_of(3), exit_of(3), *(len_of("x") for _ in range(20))]))
    deadline = time.monotonic() + 30
    while any(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "Python would wait for them for ever when it ends"
        time.sleep(0.01)


def test_processes_end_with_the_one_that_started_them(tmp_path: Path):
    program = (
        "import os, sys, time\n"
        "from primer_search.system.process_pool import ProcessPool\n"
        "with ProcessPool(2) as pool:\n"
        "    print(*(process.pid for process in pool._processes), flush=True)\n"
        "    time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    children = [int(pid) for pid in parent.stdout.readline().split()]
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 60
    while any(runs(pid) for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
