"""A search under real faults: it is resumed after each fault until it is complete, and then audited.

    python benchmarks/chaos.py --executor inline --kills 50 --candidates 25     # the same candidates as undisturbed
    python benchmarks/chaos.py --executor ray --kills 20 --candidates 40
    python benchmarks/chaos.py --executor ray --kills 4 --candidates 10         # brief

At random times after the start of its process, the controller is killed (SIGKILL). With Ray, a worker or the raylet may
be killed instead, or a worker frozen (SIGSTOP). With --small-disk, a mount point of a few MiB for the run, the disk may
also be filled. If a fault ends the search, the search is resumed, until it has the number of candidates. Then these are
checked:

- the audit of the store finds no error; the store has every result that another process read during the search, and
  every loss that was printed;
- no candidate was evaluated twice with the same random seed, and two replays of the run propose the same next
  candidate;
- the recorded time of the sessions is at most that of their processes;
- with `inline`, where trainings repeat exactly, the candidates and losses equal those of a search without faults.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from primer_search.benchmarks.options_and_hardware import benchmark_parser, hardware, log
from primer_search.primitives.errors import PrimerSearchError
from primer_search.primitives.programs.program_json import dna_from_json
from primer_search.search.config import RunConfig
from primer_search.search.guided.make_strategy import make_strategy
from primer_search.search.recovery.repair import check_run
from primer_search.search.runs.controller import Controller
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.search.runs.store import Store
from primer_search.search.runs.time_accounting import find_sessions
from primer_search.tests.support.tiny_runs import write_text
from primer_search.workers.executors.inline import InlineExecutor

__all__ = ["Chaos", "main"]

SETTINGS = {
    "model.layers": 1,
    "model.unit": 1,
    "model.length": 8,
    "model.vocabulary": 300,
    "trial.budget_steps": 5,
    "trial.hurdles": 1,
    "trial.batch": 4,
    "trial.evaluation_batches": 2,
}
"""A model that trains in seconds."""

RAY_FAULTS = {"controller": 0.5, "worker": 0.2, "freeze": 0.15, "raylet": 0.15}
"""Share of each fault with Ray."""

BALLAST = "ballast"
"""File that fills a small disk."""

PRINTED = re.compile(r"#(\d+) (\d+\.\d{4}) nats")
POLL_SECONDS = 0.5
MOST_FAILED_STARTS = 5
LONGEST_FAULT_SECONDS = 60.0
"""Longest wait for a fault to end the search, before the controller is killed."""


@dataclass
class Chaos:
    """One search under faults.

    Attributes:
        run: directory of the run.
        arguments: options of the search.
        candidates: number of candidates to reach.
        rng: random generator of the faults.
        faults: share of each fault.
        small_disk: whether the run is on a disk that may be filled.
        done: number of faults by kind.
        seen: results that were read during the search, by trial.
        process_seconds: time of all processes.
        failed_starts: sessions in a row that failed by themselves; Ray may not start on an overloaded machine.
    """

    run: RunDirectory
    arguments: list[str]
    candidates: int
    rng: random.Random
    faults: dict[str, float]
    small_disk: bool = False
    done: Counter[str] = field(default_factory=Counter)
    seen: dict[int, Any] = field(default_factory=dict)
    process_seconds: float = 0.0
    failed_starts: int = 0

    def search(self, kills: int, start_seconds: float) -> None:
        """Search with faults, then to the end.

        Args:
            kills: number of faults.
            start_seconds: time from the command to the first trial, around which faults are spread.
        """
        while self._count() < self.candidates or sum(self.done.values()) < kills:
            moment = self.rng.uniform(0.0, 3.0 * start_seconds) if sum(self.done.values()) < kills else math.inf
            self.session(moment)

    def session(self, moment: float) -> None:
        """Start or resume the search, and cause a fault after `moment` seconds; infinity: no fault."""
        began = time.monotonic()
        command = ["resume", str(self.run.path)] if self.run.store.exists() else self.arguments
        with self.run.path.with_name("printed.txt").open("a", encoding="utf-8") as printed:
            process = subprocess.Popen(
                [sys.executable, "-m", "primer_search", *command, "--budget", "20h"],
                stdout=printed,
                stderr=printed,
                start_new_session=True,
            )
            fault = None
            while process.poll() is None:
                now = time.monotonic() - began
                if now >= moment and fault is None:
                    fault = self._make_fault(process)
                if fault is not None and now >= moment + LONGEST_FAULT_SECONDS:
                    os.kill(process.pid, signal.SIGKILL)
                if self._count() >= self.candidates and moment == math.inf and not self.run.stop_requested():
                    self.run.request_stop()
                time.sleep(POLL_SECONDS)
        (self.run.path / BALLAST).unlink(missing_ok=True)
        self.process_seconds += time.monotonic() - began
        log(f"{fault or 'no fault'} after {moment:.1f} s: exit code {process.returncode}, {self._count()} candidates")
        self.failed_starts = self.failed_starts + 1 if fault is None and process.returncode != 0 else 0
        if self.failed_starts == MOST_FAILED_STARTS:
            raise RuntimeError(f"{MOST_FAILED_STARTS} searches without a fault failed: see {printed.name}")

    def _make_fault(self, process: subprocess.Popen[bytes]) -> str:
        """Cause a random fault and return its name; if it has no target, the controller is killed."""
        names = [*self.faults, *(["disk"] if self.small_disk else [])]
        fault = self.rng.choices(names, [*self.faults.values(), *([0.15] if self.small_disk else [])])[0]
        victims: list[psutil.Process] = []
        with suppress(psutil.Error):
            tree = psutil.Process(process.pid).children(recursive=True)
            wanted = {"worker": "ray::", "freeze": "ray::", "raylet": "raylet/raylet"}.get(fault, "nothing")
            victims = [each for each in tree if wanted in " ".join(each.cmdline())]
        if fault == "disk" and self.run.store.exists():
            with suppress(OSError), (self.run.path / BALLAST).open("wb") as file:
                while True:
                    file.write(bytes(65536))
                    file.flush()
        elif victims:
            with suppress(psutil.Error):
                victim = self.rng.choice(victims)
                victim.suspend() if fault == "freeze" else victim.kill()
        else:
            fault = "controller"
            os.kill(process.pid, signal.SIGKILL)
        self.done[fault] += 1
        return fault

    def _count(self) -> int:
        """Return the number of candidates, and remember all results that can be read now."""
        if not self.run.store.exists():
            return 0
        try:
            with Store.open(self.run.path, read_only=True) as store:
                self.seen.update((each.trial_id, each.evaluation) for each in store.evaluations())
                return len(store.ancestry())
        except PrimerSearchError:
            return 0

    def findings(self) -> list[str]:
        """Return the errors of the finished run, in sentences."""
        found = check_run(self.run.path)
        with Store.open(self.run.path, read_only=True) as store:
            results = store.evaluations()
            kept = {each.trial_id: each.evaluation for each in results}
            losses = {(each.candidate_id, f"{each.evaluation.loss_nats or math.nan:.4f}") for each in results}
            spent = sum(session.seconds for session in find_sessions(store.events()))
        found += [f"the result of trial {each} was read and is gone" for each in self.seen if each not in kept]
        found += [
            f"the result of trial {each} has changed" for each in kept if self.seen.get(each, kept[each]) != kept[each]
        ]
        lines = [
            line
            for line in self.run.path.with_name("printed.txt").read_text(encoding="utf-8").splitlines()
            if "best" in line and "nats" in line
        ]
        printed = {(int(number), loss) for line in lines for number, loss in PRINTED.findall(line)[:1]}
        found += [f"candidate {number} was printed with {loss} nats, and is gone" for number, loss in printed - losses]
        if replay(self.run) != replay(self.run):
            found.append("two replays differ")
        if spent > self.process_seconds:
            found.append(f"the sessions took {spent:.0f} s, and their processes {self.process_seconds:.0f} s")
        return found


def replay(run: RunDirectory) -> Any:
    """Return counts and best result of a controller that replays the run, and the candidate it would propose next."""
    with Store.open(run.path) as store:
        manifest = store.manifest
        config, baseline = RunConfig.from_dict(manifest["config"]), dna_from_json(manifest["baseline_dna"])
        strategy = make_strategy(config, manifest["seed"], baseline)
        state = Controller(
            config, manifest["seed"], baseline, store, InlineExecutor(_no_trainer), strategy=strategy
        ).state()
        return state.candidates, state.outcomes, state.best, strategy.ask()[0] if strategy.ready else None


def story(run: RunDirectory, candidates: int) -> list[Any]:
    """Return the first candidates, each with its first result, without the last, which may have no result yet."""
    with Store.open(run.path, read_only=True) as store:
        first: dict[int, Any] = {}
        for each in store.evaluations():
            first.setdefault(each.candidate_id, (each.evaluation.outcome, each.evaluation.loss_nats))
        return [(each, first.get(each.id)) for each in store.candidates()[: candidates - 1]]


def _no_trainer() -> Any:
    raise AssertionError("a replay must not train")


def search_arguments(executor: str, text: Path, run: Path) -> list[str]:
    """Return the options of the search."""
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    fixed = ["--config", "laptop", "--accel", "cpu", "--strategy", "evolution", "--data", f"text:{text}"]
    return [
        *fixed,
        *settings,
        "--executor",
        executor,
        "--workers",
        "2" if executor == "ray" else "1",
        "--run-dir",
        str(run),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, print its result as JSON, and exit with 1 if anything is wrong."""
    parser: argparse.ArgumentParser = benchmark_parser(__doc__)
    parser.add_argument("--executor", choices=("inline", "ray"), default="ray", help="default: ray")
    parser.add_argument("--kills", type=int, default=20, help="number of faults (default 20)")
    parser.add_argument("--candidates", type=int, default=40, help="candidates at the end (default 40)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the faults (default 0)")
    parser.add_argument("--start-seconds", type=float, default=20.0, help="time until the first trial (default 20)")
    parser.add_argument("--small-disk", type=Path, help="folder on a disk of a few MiB, for the run")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        text = write_text(Path(folder) / "text")
        os.environ["PRIMER_SEARCH_CACHE"] = str(Path(folder) / "cache")
        place = given.small_disk or Path(folder)
        run = RunDirectory(place / "run")
        options = search_arguments(given.executor, text, run.path)
        faults = RAY_FAULTS if given.executor == "ray" else {"controller": 1.0}
        chaos = Chaos(run, options, given.candidates, random.Random(given.seed), faults, given.small_disk is not None)
        chaos.search(given.kills, given.start_seconds)
        found = chaos.findings()
        if given.executor == "inline":
            quiet = RunDirectory(Path(folder) / "undisturbed" / "run")
            quiet.path.parent.mkdir()
            other = Chaos(quiet, search_arguments("inline", text, quiet.path), given.candidates, random.Random(0), {})
            other.session(math.inf)
            if story(run, given.candidates) != story(quiet, given.candidates):
                found.append("the candidates or losses differ from those of a search without faults")
    print(
        json.dumps(
            {
                **hardware("chaos.py", arguments),
                "faults": dict(chaos.done),
                "candidates": given.candidates,
                "results_read": len(chaos.seen),
                "findings": found,
            }
        )
    )
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
