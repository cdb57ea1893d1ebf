"""Processes that run a stream of jobs and return the results in the order of the jobs.

A job is a picklable callable without arguments, defined in an importable module. The processes are plain interpreters
that read jobs from pipes. When this process ends, in any way, their standard input closes, and they end too.

`concurrent.futures.ProcessPoolExecutor` is not used, for three reasons. Its processes import the user's script a second
time. They keep running if this process is killed by SIGKILL, because they hold both ends of their queue (measured). Its
`map` reads all jobs at once before Python 3.14.
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

__all__ = ["ProcessPool", "serve"]

Result = TypeVar("Result")

JOBS_PER_PROCESS = 2
"""Jobs in flight for each process: one running, one waiting."""


class ProcessPool:
    """A pool of `count` processes; with 0, jobs run in this process. A context manager."""

    def __init__(self, count: int):
        self._count = count
        self._processes: list[subprocess.Popen[bytes]] = []
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        self._threads = ThreadPoolExecutor(max(1, count))

    def __enter__(self) -> ProcessPool:
        code = "from primer_search.system.process_pool import serve; serve()"
        # Each process gets one core: the tokenizer's own threads would compete with the other processes.
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
        self._threads.shutdown(cancel_futures=True)  # no thread waits: each has reached the end of its pipe
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # closing flushes bytes that the process never read
                        pipe.close()

    def map(self, jobs: Iterable[Callable[[], Result]]) -> Iterator[Result]:
        """Yield results in the order of the jobs. Jobs are read as needed, so memory holds a few for each process.

        Raises:
            WorkFailedError: a process died. Errors of a job are also raised here.
        """
        if not self._count:
            yield from (job() for job in jobs)
            return
        pending: deque[Future[Result]] = deque()
        try:
            for job in jobs:
                pending.append(self._threads.submit(self._run, job))
                if len(pending) >= JOBS_PER_PROCESS * self._count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def _run(self, job: Callable[[], Result]) -> Result:
        process = self._idle.get()
        assert process.stdin is not None and process.stdout is not None
        try:
            pickle.dump(job, process.stdin, pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            succeeded, result = pickle.load(process.stdout)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            code = process.wait() if process.poll() is not None or isinstance(error, EOFError | OSError) else "?"
            raise WorkFailedError(
                f"a worker process died (exit code {code}): check memory, and run again to continue"
            ) from error
        finally:
            self._idle.put(process)  # even if it has died: otherwise a job could wait for a process forever
        if not succeeded:
            raise result
        return result


def serve() -> None:
    """Run jobs from standard input until it closes; the main function of the processes of a `ProcessPool`."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # text that libraries print must not mix with the results
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
            answer = (False, _picklable(error))
        pickle.dump(answer, results, pickle.HIGHEST_PROTOCOL)
        results.flush()


def _picklable(error: Exception) -> Exception:
    if isinstance(error, PrimerSearchError):
        return error
    return WorkFailedError(f"a worker process failed with {type(error).__name__}: {error}")
