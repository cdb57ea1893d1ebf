"""Redirection of output into the log."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from primer_search.primitives.errors import UsageError
from primer_search.system.output_capture import KEPT_LOG, LARGEST_LOG, log_traceback, redirect_output


def test_logging_and_warnings_go_to_the_runs_log_and_back(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    before = logging.getLogger().handlers[:]
    with redirect_output(log), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.getLogger("somebody").info("said something")
        warnings.warn("beware", UserWarning, stacklevel=1)
    assert "said something" in log.read_text()
    assert "beware" in log.read_text()
    assert logging.getLogger().handlers == before


def test_a_large_log_keeps_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("".join(f"line {number:010d}\n" for number in range(LARGEST_LOG // 16 + 1)))
    with redirect_output(log):
        logging.getLogger("somebody").warning("the last line")
    lines = log.read_text().splitlines()
    assert log.stat().st_size < KEPT_LOG + 1000
    assert lines[0] == "(earlier lines were cut)" and lines[1].startswith("line ")
    assert lines[-2] == f"line {LARGEST_LOG // 16:010d}" and lines[-1].endswith("the last line")


def test_what_native_code_writes_goes_to_the_log_too(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from primer_search.system.output_capture import redirect_output\n"
        "with redirect_output(Path(sys.argv[1])) as terminal:\n"
        "    os.write(1, b'from C, out'); os.write(2, b'from C, err'); print('to people', file=terminal)\n"
        "print('the result')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "log")], capture_output=True, text=True, timeout=60
    )
    assert (result.stdout, result.stderr) == ("the result\n", "to people\n")
    assert (tmp_path / "log").read_text() == "from C, outfrom C, err"


def test_what_people_read_keeps_to_the_encoding_of_stderr(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from primer_search.system.output_capture import redirect_output\n"
        "with redirect_output(Path(sys.argv[1])) as terminal: print('1 \\u00b1 2', file=terminal)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "log")],
        capture_output=True, timeout=60, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert result.stderr == b"1 ? 2\n"


def test_a_traceback_is_logged_or_said_not_to_be(tmp_path: Path) -> None:
    assert log_traceback(tmp_path / "run.log", ValueError("odd"))
    assert "ValueError: odd" in (tmp_path / "run.log").read_text()
    assert not log_traceback(tmp_path / "no" / "run.log", ValueError("odd"))


def test_a_log_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="No such file or directory"),
        redirect_output(tmp_path / "a/run.log"),
    ):
        pass
