"""Ctrl-C in every phase of a command, and where its exception is lost: exit code 130, and nothing is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from primer_search.tests.support.command import text_source

COMPILING = "/jax/core/compile/jaxpr_to_mlir_module_duration"
"""Event of JAX directly before XLA compiles."""

INTERRUPTED_WHILE_COMPILING = """
import os, signal, sys, threading, time
from jax import monitoring

class Dropped:
    def __del__(self):  # Python drops the exception of a signal that arrives here
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

def listener(event, seconds, **_):
    global compilations
    if event == {event!r}:
        compilations += 1
        if compilations == 2:
            {action}

compilations = 0
monitoring.register_event_duration_secs_listener(listener)
from primer_search.cli.app import main
sys.exit(main())
"""

ACTIONS = {
    "while XLA compiles": "threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()",
    "where Python drops it": "Dropped()",
}


def interrupted(folder: Path, action: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command that is interrupted at its second compilation."""
    code = INTERRUPTED_WHILE_COMPILING.format(event=COMPILING, action=ACTIONS[action])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("action", ACTIONS)
def test_an_interrupted_export_writes_nothing_and_exits_with_130(action: str, tmp_path: Path) -> None:
    result = interrupted(tmp_path, action, "export", "PRIMER_EZ", "-o", "block.py")
    assert (result.returncode, result.stdout) == (130, ""), result.stderr
    assert result.stderr.splitlines()[-1].startswith("primer-search: interrupted")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("action", ACTIONS)
def test_an_interrupted_doctor_prints_no_findings(action: str, tmp_path: Path) -> None:
    result = interrupted(tmp_path, action, "doctor")
    assert (result.returncode, result.stdout) == (130, ""), result.stderr
    assert result.stderr.splitlines()[-1].startswith("primer-search: interrupted")


@pytest.mark.slow
def test_an_interrupted_stress_test_exits_with_130(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(f'[data]\nsource = "{text_source(tmp_path / "text")}"\n')
    arguments = ["stress", "PRIMER_EZ", "--layers", "2", "--length-factor", "1", "--config", "small.toml"]
    result = interrupted(tmp_path, "while XLA compiles", *arguments)
    assert (result.returncode, result.stdout) == (130, ""), result.stderr
    assert result.stderr.splitlines()[-1].startswith("primer-search: interrupted")


@pytest.mark.slow
@pytest.mark.parametrize("signals", [("SIGINT",), ("SIGTERM",), ("SIGTERM", "SIGTERM"), ("SIGKILL",)], ids=" ".join)
def test_a_search_with_ray_leaves_no_process_and_no_shared_memory(signals: tuple[str, ...], tmp_path: Path) -> None:
    shared, run = set(os.listdir("/dev/shm")), tmp_path / "run"
    words = ["--config", "smoke", "--executor", "ray", "--workers", "1", "--data", text_source(tmp_path / "text")]
    command = [sys.executable, "-m", "primer_search", *words, "--run-dir", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 120
    while not any("Worker" in child.name() for child in psutil.Process(process.pid).children(recursive=True)):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.1)
    started = psutil.Process(process.pid).children(recursive=True)
    for number in signals:
        process.send_signal(signal.Signals[number])
        time.sleep(0.7)
    process.communicate(timeout=60)
    assert process.returncode == (130 if "SIGKILL" not in signals else -signal.SIGKILL)
    # Ray's agents notice within a minute that a search was killed.
    assert psutil.wait_procs(started, timeout=90 if "SIGKILL" in signals else 10)[1] == []
    assert set(os.listdir("/dev/shm")) <= shared


# --- the way out of a process that does not end by itself ---

STUCK = """
import ctypes, subprocess, sys, time
from primer_search.system.signals import interrupt_on_termination

with interrupt_on_termination(grace_seconds={grace}):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    until, told = time.monotonic() + 60, False
    while time.monotonic() < until:
        try:
            if not told:  # here, as a signal may follow at once
                print(child.pid, flush=True)
                told = True
            {work}
        except KeyboardInterrupt:
            print("ignored", flush=True)
"""

IN_PYTHON = "time.sleep(60)"
IN_C = "ctypes.CDLL(None).sleep(60)"


def stuck(work: str, grace: float) -> tuple[subprocess.Popen[str], int]:
    """Start a process that ignores KeyboardInterrupt, with a child; return both."""
    code = STUCK.format(work=work, grace=grace)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def is_gone(pid: int) -> bool:
    """Return whether a process ends within five seconds."""
    until = time.monotonic() + 5.0
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("work", [IN_PYTHON, IN_C], ids=["in Python", "in C"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_the_second_signal_ends_a_process_and_its_children_at_once(number: signal.Signals, work: str) -> None:
    process, child = stuck(work, grace=100.0)
    process.send_signal(number)
    time.sleep(0.7)
    assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "primer-search: interrupted\n")
    assert is_gone(child)


def test_a_process_that_does_not_end_in_time_is_ended() -> None:
    process, child = stuck(IN_C, grace=1.0)
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGINT)  # the same interruption, from the terminal
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "primer-search: interrupted (the command did not end within 1 s)\n")
    assert is_gone(child)
