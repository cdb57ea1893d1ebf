"""Streams that are closed, full or without Unicode: nothing printed ends a search or spoils a table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from primer_search.system.standard_streams import forgiving_stream
from primer_search.tests.support.command import HandmadeRun, command, text_source

COMMAND = f"{sys.executable} -m primer_search"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    handmade = HandmadeRun(tmp_path / "run")
    for loss in (2.7, 2.8, 2.9):
        handmade.child("PRIMER_EZ", loss)
    return handmade.path


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of bash."""
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("form", ["table", "csv"])
def test_a_reader_that_closes_the_pipe_ends_a_table_quietly(form: str, run: Path) -> None:
    result = shell(f"{COMMAND} leaderboard {run} --format {form} | exec true; echo ${{PIPESTATUS[0]}}")
    assert (result.stdout, result.stderr) in (("141\n", ""), ("0\n", "")), result


def test_a_full_device_is_one_sentence(run: Path) -> None:
    result = shell(f"{COMMAND} leaderboard {run} > /dev/full")
    assert result.returncode == 1
    assert result.stderr == "primer-search: cannot write the output: No space left on device\n"


def test_closed_streams_do_not_matter(run: Path) -> None:
    assert shell(f"{COMMAND} leaderboard {run} >&-").returncode == 0
    assert "rank" in shell(f"{COMMAND} leaderboard {run} 2>&- <&-").stdout
    assert shell(f"{COMMAND} leaderboard no/such/run 2>&-").returncode == 2


def test_a_table_is_printed_in_an_encoding_without_its_characters(run: Path) -> None:
    result = shell(f"{COMMAND} leaderboard {run}", PYTHONIOENCODING="ascii")
    assert result.returncode == 0
    assert "#1" in result.stdout and result.stdout.isascii()


def test_a_forgiving_stream_loses_what_it_cannot_write() -> None:
    reader, writer = os.pipe()
    stream = forgiving_stream(writer, close=True)
    stream.write("one\n")
    os.close(reader)
    for _ in range(3):
        print("two", file=stream, flush=True)
    stream.close()


def test_a_search_whose_output_has_no_reader_reaches_its_end(tmp_path: Path) -> None:
    path = tmp_path / "run"
    source = text_source(tmp_path / "text")
    search = f"{COMMAND} --data {source} --config smoke --executor inline --budget 4s --run-dir {path}"
    result = shell(
        f"({search}; echo $? > {tmp_path}/code) 2>&1 | exec true", PRIMER_SEARCH_CACHE=str(tmp_path / "cache")
    )
    assert (tmp_path / "code").read_text() == "0\n", result
    assert (path / "report.html").exists()
    assert command("leaderboard", path, "--json").json["totals"]["elapsed_seconds"] > 1
