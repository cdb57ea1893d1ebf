"""Time from the command to the first training step of a search.

    python benchmarks/start_time.py [--rounds 5] [--config laptop] [--set SETTING=VALUE] [--json]

Each round runs `primer-search` in a fresh process on prepared text, and ends it when its first trial is done. The time
has three parts: until the run's store is written (Python, imports, settings, check of the text); until the first trial
starts (Ray, workers, imports of the workers); until its first training step (building, compiling and probing the
program). The first round fills the cache of compiled programs and is printed separately.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, hardware, log
from primer_search.configs.load import load
from primer_search.search.runs.store import Store
from primer_search.workers.data.dataset import prepare_dataset

LONGEST_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds of each part of one start.

    Attributes:
        store: time from the command to the store of the run.
        workers: time from the store to the start of the first trial.
        program: time from the start of the first trial to its first training step.
    """

    store: float
    workers: float
    program: float

    @property
    def total(self) -> float:
        """Seconds from the command to the first training step."""
        return self.store + self.workers + self.program


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its result."""
    options = _options(arguments)
    config = load(options.config, options.set)
    prepare_dataset(config.data, config.model.vocabulary)
    command = [sys.executable, "-m", "primer_search", "--config", options.config, "--budget", "10m"]
    for setting in options.set:
        command += ["--set", setting]
    starts = []
    for _ in range(1 + options.rounds):
        starts.append(measure(command))
        log(f"{starts[-1]}: {starts[-1].total:.1f} s")
    about = hardware("start_time.py", arguments)
    if options.json:
        print(json.dumps({"about": about, "first": asdict(starts[0]), "rounds": [asdict(each) for each in starts[1:]]}))
        return
    print(f"$ {about['command']}")
    print(", ".join(f"{key} {value}" for key, value in about.items() if key not in ("command", "clock")))
    print(f"{'seconds until':<22} {'first':>6} {'median':>7} {'range':>14}")
    for name, label in (("store", "store is written"), ("workers", "trial starts"), ("program", "first step")):
        _print_line(label, [getattr(each, name) for each in starts])
    _print_line("in all", [each.total for each in starts])


def measure(command: Sequence[str]) -> Start:
    """Run the command until its first trial is done, and return the parts of its start."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        began = time.time()
        process = subprocess.Popen([*command, "--run-dir", str(run)], stdout=subprocess.DEVNULL)
        try:
            while (found := _read(run, began)) is None:
                if process.poll() is not None or time.time() - began > LONGEST_SECONDS:
                    raise SystemExit(f"no trial of `{' '.join(command)}` was done in {LONGEST_SECONDS:g} s")
                time.sleep(0.5)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    return found


def _read(run: Path, began: float) -> Start | None:
    """Return the parts of the start, or None before the first trial is done."""
    if not (run / "run.sqlite").exists():
        return None
    with Store.open(run, read_only=True) as store:
        evaluations = store.evaluations()
        events = store.events()
    if not evaluations:
        return None
    at = {event.kind: event.wall_time for event in reversed(events)}  # the first of each kind
    first = evaluations[0]
    done = first.evaluation
    later = [done.train_seconds, done.evaluate_seconds, done.timing_seconds]
    before_first_step = first.wall_time - at["started"] - sum(seconds or 0.0 for seconds in later)
    return Start(at["run_started"] - began, at["started"] - at["run_started"], before_first_step)


def _print_line(label: str, seconds: Sequence[float]) -> None:
    later = seconds[1:]
    spread = f"{min(later):.1f} to {max(later):.1f}"
    print(f"{label:<22} {seconds[0]:6.1f} {float(np.median(later)):7.1f} {spread:>14}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--config", default="laptop", help="preset or configuration file (default laptop)")
    parser.add_argument("--rounds", type=int, default=5, help="searches to start (default 5)")
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE", help="change a setting")
    add_json(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
