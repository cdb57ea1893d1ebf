"""Separate process that builds TensorFlow Datasets, because TensorFlow uses much memory and prints many messages.

`run_builder` starts the process and `serve` runs in it. The request and the answer are one line of JSON each. The
process ends when its stdin closes, so it also ends if its parent is killed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ...primitives.errors import UsageError, WorkFailedError
from ...system.error_text import strip_folders

__all__ = ["delete_at_exit", "run_builder", "serve"]

LOG_SECONDS = 10.0
"""Time between two lines of progress."""

END_SECONDS = 20.0
"""Time that the process has to delete its files and end; then it is killed."""

delete_at_exit: list[Path] = []
"""Folders that the process deletes when it ends."""


def run_builder(request: dict[str, Any], log: Callable[[str], None]) -> dict[str, Any]:
    """Run `build_set` in a separate process.

    Args:
        request: arguments of `build_set`, and `temporary`: a folder for temporary files, which the caller deletes.
        log: callback that receives lines of progress.

    Returns:
        The result of `build_set`.

    Raises:
        UsageError: `build_set` raised it.
        WorkFailedError: the process ended without an answer.
    """
    code = "from primer_search.workers.data.tfds_builder import main; main()"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    # The answer is a file, because a long list of files would fill a pipe.
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as answers:
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=answers, stderr=errors, env=environment
        )
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
            _wait(child, errors, log)
        finally:
            _end_child(child)
        answers.seek(0)
        if not (answer := answers.read()):
            raise WorkFailedError(
                f"the process that builds {request['name']} ended with exit code {child.returncode}"
                f" ({_last_message(errors) or 'no message'}): check memory and disk, and run again"
            )
    parsed = json.loads(answer)
    if "error" in parsed:
        raise UsageError(parsed["error"])
    return parsed["built"]


def _wait(child: subprocess.Popen[bytes], errors: IO[bytes], log: Callable[[str], None]) -> None:
    logged = ""
    while child.poll() is None:
        try:
            child.wait(LOG_SECONDS)
        except subprocess.TimeoutExpired:
            if (line := _last_message(errors)) != logged and line:
                log(f"tensorflow-datasets: {line}")
                logged = line


def _end_child(child: subprocess.Popen[bytes]) -> None:
    """Close the stdin of a process, so that it deletes its files and ends. Kill it if it does not end in time."""
    assert child.stdin is not None
    child.stdin.close()
    try:
        child.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _last_message(errors: IO[bytes]) -> str:
    """Return the last line of stderr that is not a log line of TensorFlow, with folders removed from file names."""
    size = os.fstat(errors.fileno()).st_size
    tail = os.pread(errors.fileno(), 4096, max(0, size - 4096)).decode("utf-8", "replace")
    lines = [line.strip() for line in re.split(r"[\r\n]|\x1b\[A", tail)]
    messages = [line for line in lines if line and not re.match(r"(?:[IWEF]\d{4} |WARNING: All log messages)", line)]
    return strip_folders(messages[-1])[:160] if messages else ""


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Read a request from stdin, write its answer to stdout, and end this process."""
    request = json.loads(sys.stdin.readline())
    answers, sys.stdout = sys.stdout, sys.stderr  # the output of libraries must not mix with the answer
    tempfile.tempdir = request.pop("temporary")  # TFDS does not delete its temporary folders
    threading.Thread(target=_end_with_parent, daemon=True).start()
    code = 1
    try:
        print(json.dumps(answer(request)), file=answers, flush=True)
        code = 0
    finally:
        if code:
            traceback.print_exc()
        _end_process(code)


def _end_with_parent() -> None:
    sys.stdin.read()
    _end_process(1)


def _end_process(code: int) -> None:
    for folder in delete_at_exit:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(code)  # TensorFlow's threads may hang at exit
