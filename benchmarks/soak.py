"""Cost of a candidate and memory of the process in a long search, with the real controller, strategy and store.

    python benchmarks/soak.py --candidates 50000
    python benchmarks/soak.py --candidates 2000 --proposals copies     # quick

A formula replaces the trainings. Every result waits for the disk, as in a real search. At the end, the run is opened
again, which replays it. Times are CPU times of this process. `--proposals copies` leaves out mutations and checks.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from primer_search.benchmarks.options_and_hardware import benchmark_parser, hardware, log
from primer_search.configs.load import load
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.config import RunConfig
from primer_search.search.guided.make_strategy import make_strategy
from primer_search.search.runs.controller import Controller
from primer_search.search.runs.progress_snapshot import ProgressSnapshot
from primer_search.search.runs.store import Store
from primer_search.search.simulation.copied_children import CopyingEvolution
from primer_search.system.host import resident_bytes
from primer_search.workers.executors.inline import InlineExecutor
from primer_search.workers.protocol import Evaluation, Progress, TrialRequest

__all__ = ["FormulaTrainer", "main", "soak"]

CURVE_POINTS = 40


class FormulaTrainer:
    """Trainer whose losses are random numbers, drawn with the seed of the request; it does not train."""

    def run(self, request: TrialRequest, progress: Callable[[Progress], None]) -> Evaluation:
        """Return the evaluation of a trial; it stops at the first hurdle whose threshold it exceeds."""
        final = 3.0 + 0.5 * float(np.random.default_rng(request.seed).random())
        losses: list[float] = []
        for hurdle in request.hurdles:
            losses.append(final + 1.0 / (1.0 + hurdle.at))
            if hurdle.loss_nats is not None and losses[-1] > hurdle.loss_nats:
                return self._evaluation("stopped_at_hurdle", losses[-1], losses)
        return self._evaluation("ok", final, losses)

    def _evaluation(self, outcome: str, loss: float, losses: list[float]) -> Evaluation:
        curve = tuple((float(point), point, loss + 1.0 / (1 + point)) for point in range(CURVE_POINTS))
        return Evaluation(
            outcome,
            loss_nats=loss,
            bits_per_byte=loss / 2,
            hurdle_losses=tuple(losses),
            curve=curve,
            steps=CURVE_POINTS,
        )


@dataclass(frozen=True, slots=True)
class Window:
    """Costs of the candidates since the previous window.

    Attributes:
        candidates: number of candidates at the end of the window.
        cpu_ms: CPU time of one candidate, in milliseconds.
        memory_mib: resident memory of the process.
        store_mib: size of the store with its write-ahead log.
    """

    candidates: int
    cpu_ms: float
    memory_mib: float
    store_mib: float


class Meter:
    """Meter that measures a run 20 times, at equal numbers of candidates, and stops it after the last candidate."""

    def __init__(self, store: Store, candidates: int):
        self.windows: list[Window] = []
        self._store = store
        self._candidates = candidates
        self._cpu, self._from = time.process_time(), 0

    def observe(self, state: ProgressSnapshot) -> None:
        """Measure if a window has ended; called after each turn of the controller."""
        if (new := state.candidates - self._from) >= max(1, self._candidates // 20):
            now = time.process_time()
            size = sum(file.stat().st_size for file in self._store.run.path.glob("run.sqlite*"))
            cost = 1e3 * (now - self._cpu) / new
            self.windows.append(Window(state.candidates, cost, resident_bytes() / 2**20, size / 2**20))
            self._cpu, self._from = now, state.candidates
            log(f"{self.windows[-1]}")
        if state.candidates >= self._candidates:
            self._store.run.request_stop()


def soak(path: Path, config: RunConfig, candidates: int, limit_seconds: float, proposals: str) -> dict[str, Any]:
    """Search until there are `candidates` of them or the time is over, then open the run again.

    Args:
        path: existing empty directory.
        config: run configuration.
        candidates: number of candidates to stop at.
        limit_seconds: wall clock after which the search stops.
        proposals: `real`, or `copies` (see `copied_children`).
    """
    baseline = config.model.library_program(config.search.baseline)
    make: Any = CopyingEvolution if proposals == "copies" else make_strategy
    manifest = {"config": config.to_dict(), "seed": 0, "baseline_dna": dna_to_json(baseline), "workers": 1}
    with Store.create(path, manifest) as store, InlineExecutor(FormulaTrainer) as executor:
        meter, strategy = Meter(store, candidates), make(config, 0, baseline)
        search = Controller(config, 0, baseline, store, executor, observe=meter.observe, strategy=strategy)
        search.run(limit_seconds)
        phases = {name: 1e3 * seconds / strategy.next_id for name, seconds in search.phases.cpu_seconds.items()}
    opened_at = time.process_time()
    with Store.open(path) as store:
        strategy = make(config, 0, baseline)
        Controller(config, 0, baseline, store, InlineExecutor(FormulaTrainer), strategy=strategy)
        resume_seconds = time.process_time() - opened_at
    return {
        "proposals": proposals,
        "candidates": strategy.next_id,
        "cpu_ms_by_phase": phases,
        "resume_cpu_seconds": resume_seconds,
        "windows": [asdict(window) for window in meter.windows],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its result as JSON."""
    parser: argparse.ArgumentParser = benchmark_parser(__doc__)
    parser.add_argument("--candidates", type=int, default=50_000, help="candidates (default 50000)")
    parser.add_argument("--minutes", type=float, default=30.0, help="longest time (default 30)")
    parser.add_argument("--proposals", choices=("real", "copies"), default="real", help="default: real")
    given = parser.parse_args(arguments)
    config = load("laptop", ["search.strategy=evolution"])
    with tempfile.TemporaryDirectory() as folder:
        result = soak(Path(folder), config, given.candidates, 60.0 * given.minutes, given.proposals)
    print(json.dumps({**hardware("soak.py", arguments), **result}))


if __name__ == "__main__":
    main()
