"""Runs that several machines write, or that are copied while one does: separate processes, on shifted clocks."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from primer_search.primitives.errors import PrimerSearchError, UsageError
from primer_search.search.recovery.audit import audit
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.search.runs.store import Store
from primer_search.search.runs.time_accounting import find_sessions
from primer_search.tests.search.recovery.test_recovery import contents, search

HOUR = 3600.0
ON_ANOTHER_CLOCK = """
import sys, time
from pathlib import Path

real, ahead = time.time, float(sys.argv[2])
time.time = lambda: real() + ahead  # before anything of the package is imported

from primer_search.search.runs.run_directory import RunDirectory
from primer_search.tests.search.recovery.test_recovery import search

print("searching", flush=True)
search(RunDirectory(Path(sys.argv[1])), int(sys.argv[3]), workers=1)
"""


def machine(run: Path, seconds_ahead: float, candidates: int) -> subprocess.Popen[str]:
    """A process that searches until there are enough candidates, on a clock of its own."""
    words = [sys.executable, "-c", ON_ANOTHER_CLOCK, str(run), str(seconds_ahead), str(candidates)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None and process.stdout.readline() == "searching\n"
    return process


def assert_done(process: subprocess.Popen[str]) -> None:
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed


def test_machines_whose_clocks_are_hours_apart_continue_one_run(tmp_path: Path) -> None:
    run, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    for seconds_ahead, candidates in ((HOUR, 10), (-HOUR, 20), (HOUR, 30)):
        assert_done(machine(run, seconds_ahead, candidates))
    search(RunDirectory(undisturbed), 30, workers=1)
    found, wanted = (contents(path)[0] for path in (run, undisturbed))
    assert [found[number].dna for number in range(30)] == [wanted[number].dna for number in range(30)]
    with Store.open(run, read_only=True) as store:
        events = store.events()
        assert audit(store) == []
    times = [event.wall_time for event in events]
    assert min(after - before for before, after in pairwise(times)) < -HOUR
    assert all(0 <= session.end - session.start < HOUR / 2 for session in find_sessions(events))


def test_a_run_that_is_copied_while_it_is_written_is_right_or_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process, copies, refused = machine(run, 0.0, 1000), list[Path](), list[str]()
    while process.poll() is None:
        if (run / "run.sqlite").exists():
            with suppress(shutil.Error):  # a file was deleted while it was copied
                copies.append(Path(shutil.copytree(run, tmp_path / f"copy-{len(copies)}", dirs_exist_ok=True)))
            try:
                Store.open(run).close()  # unless the process has just ended
            except UsageError as error:
                refused.append(str(error))
        time.sleep(0.05)
    assert_done(process)
    assert refused and all("is being written by" in message for message in refused)
    whole, results = contents(run)
    assert copies and len(whole) >= 1000
    read = 0
    for copy in copies:
        try:
            with Store.open(copy) as store:
                assert audit(store) == []
        except PrimerSearchError as error:
            assert "missing" in str(error) or "damaged" in str(error)
            continue
        read += 1
        candidates, evaluations = contents(copy)
        assert candidates.items() <= whole.items() and evaluations.items() <= results.items()
    assert read, "no copy could be opened"
