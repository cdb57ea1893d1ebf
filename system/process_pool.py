"""Processes that do a stream of jobs, with results in the order of the jobs.

A job is a picklable callable without arguments, defined in an importable module. The processes are plain interpreters
fed through pipes: unlike those of `multiprocessing` they never run the user's script a second time, inherit no threads
and no memory, and end when this process does, even by SIGKILL, because their standard input closes.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import TypeVar

from ..primitives.errors import PrimerSearchError, WorkFailedError

__all__ = ["ProcessPool", "cores", "serve"]

Result = TypeVar("Result")

AHEAD = 2
"""Jobs in flight for each process: one at work, one waiting."""


class ProcessPool:
    """`count` processes; with none, jobs run in this one. A context manager."""

    def __init__(self, count: int):
        self._count = count
        self._processes: list[subprocess.Popen[bytes]] = []
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        self._threads = ThreadPoolExecutor(max(1, count))

    def __enter__(self) -> ProcessPool:
        code = "from primer_search.system.process_pool import serve; serve()"
        # Each process is one core's worth: the tokenizer's own threads would compete with the other processes.
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "JAX_PLATFORMS": "cpu"}
        for _ in range(self._count):
            process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
            self._processes.append(process)
            self._idle.put(process)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._threads.shutdown(cancel_futures=True)  # they have read their pipes' end
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # what a process never read is flushed
                        pipe.close()

    def map(self, jobs: Iterable[Callable[[], Result]]) -> Iterator[Result]:
        """Results in the order of jobs, which are taken as they are needed: memory holds a few for each process.

        Raises:
            WorkFailedError: a process died. What a job raises is raised here.
        """
        if not self._count:
            yield from (job() for job in jobs)
            return
        waiting: deque[Future[Result]] = deque()
        try:
            for job in jobs:
                waiting.append(self._threads.submit(self._send, job))
                if len(waiting) >= AHEAD * self._count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _send(self, job: Callable[[], Result]) -> Result:
        process = self._idle.get()
        assert process.stdin is not None and process.stdout is not None
        try:
            pickle.dump(job, process.stdin, pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            done, result = pickle.load(process.stdout)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            code = process.wait() if process.poll() is not None or isinstance(error, EOFError | OSError) else "?"
            raise WorkFailedError(
                f"a process that tokenizes text died (exit code {code}): check memory, and run again to go on."
            ) from error
        finally:
            self._idle.put(process)  # a dead one, too: a job that waited for it forever would keep this process alive
        if not done:
            raise result
        return result


def cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def serve() -> None:
    """Do jobs from standard input until it closes; for the processes of a `ProcessPool`."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    while True:
        try:
            job = pickle.load(sys.stdin.buffer)
        except (EOFError, KeyboardInterrupt):
            os._exit(0)
        try:
            answer = (True, job())
        except KeyboardInterrupt:
            os._exit(130)
        except (PrimerSearchError, OSError, ValueError, ImportError) as error:
            answer = (False, _plain(error))
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()


def _plain(error: Exception) -> Exception:
    return error if isinstance(error, PrimerSearchError) else WorkFailedError(f"text could not be tokenized: {error}")
