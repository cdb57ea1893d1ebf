"""Compare the units of a trial's budget: which one gives the most repeatable ranking on a shared machine?

    python benchmarks/budget_units.py [--quick] [--json]

It trains the baseline and other library programs several times. In every other repetition, a busy process competes for
the same core. A repetition is evaluated each time one of four clocks reaches the budget: wall-clock seconds, CPU
seconds, reference seconds (steps charged by their time relative to the Transformer's, see
workers/training/budget_meter.py) and steps. So all clocks are compared on the same training. The repetitions of a
program share one random seed (unless `--seeds-differ`). So only the clock causes a spread of losses, and the clock that
counts steps has no spread.

For each clock it prints the number of steps (with and without load, and its coefficient of variation), the spread of
losses within a program and between programs, and a rank correlation (Kendall's and Spearman's): that between a ranking
by one random trial per program and the ranking by the means of all trials.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from statistics import fmean, pstdev
from typing import Any

import jax
import numpy as np
from scipy.stats import kendalltau, spearmanr

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, hardware, log, pin_to_last_core
from primer_search.configs.load import load
from primer_search.models.language_model import language_model
from primer_search.primitives import build_graph
from primer_search.primitives.programs import library
from primer_search.workers.data.batches import TrainBatches, validation_batches
from primer_search.workers.data.dataset import Dataset, prepare_dataset
from primer_search.workers.training.budget_meter import ClockMeter, Meter, ReferenceMeter
from primer_search.workers.training.relative_timer import ReferenceStep, RelativeTimer
from primer_search.workers.training.steps.optimizer import make_optimizer
from primer_search.workers.training.steps.train_state import TrainState
from primer_search.workers.training.steps.train_step import StepFunctions

CLOCKS = ("wall_seconds", "cpu_seconds", "reference_seconds", "steps")
PROGRAMS = ("TRANSFORMER", "TRANSFORMER_GELU", "TRANSFORMER_PP", "TRANSFORMER_SQUARED_RELU", "PRIMER_EZ")
DRAWS = 5000


@dataclass(frozen=True)
class Reading:
    """Steps and loss of one repetition when one clock reached the budget."""

    program: str
    loaded: bool
    clock: str
    steps: int
    loss_nats: float


def main() -> None:
    """Run the benchmark and print its results."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--budget", type=float, default=6.0, help="budget in seconds (default 6)")
    parser.add_argument("--repetitions", type=int, default=6, help="repetitions of a program (default 6)")
    parser.add_argument("--seeds-differ", action="store_true", help="give every repetition another random seed")
    parser.add_argument("--quick", action="store_true", help="short test run: 3 programs, 2 repetitions of 1 s")
    add_json(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.budget, arguments.repetitions = 1.0, 2
    jax.config.update("jax_platforms", "cpu")
    core = pin_to_last_core()
    if core is None:
        log("this system cannot pin processes to cores, so the load may run on another core")
    readings = measure(arguments, PROGRAMS[:3] if arguments.quick else PROGRAMS, core)
    report = {
        "hardware": {**hardware("budget_units.py"), "cores": os.cpu_count(), "pinned_to_core": core},
        "budget_seconds": arguments.budget,
        "repetitions": arguments.repetitions,
        "seeds_differ": arguments.seeds_differ,
        "clocks": {clock: summary([one for one in readings if one.clock == clock]) for clock in CLOCKS},
    }
    if arguments.json:
        print(json.dumps({**report, "readings": [asdict(reading) for reading in readings]}))
    else:
        print_report(report)


# --- measurement ------------------------------------------------------------------------------------------------


def measure(arguments: argparse.Namespace, programs: tuple[str, ...], core: int | None) -> list[Reading]:
    """Run all repetitions. Programs and load alternate, so that a slow minute of the machine affects all of them."""
    trainings = {name: Training(name) for name in programs}
    baseline = trainings["TRANSFORMER"]
    budget_steps = baseline.steps_within(arguments.budget)
    reference = baseline.reference()
    allowance = reference.median_step_seconds(2.0)
    readings: list[Reading] = []
    for repetition in range(arguments.repetitions):
        for name, training in trainings.items():
            loaded = bool(repetition % 2)
            number = repetition if arguments.seeds_differ else 0
            with busy_process(core) if loaded else nullcontext():
                meter = ReferenceMeter(RelativeTimer(reference), allowance)
                readings += training.run(number, arguments.budget, budget_steps, loaded, meter)
            log(f"repetition {repetition + 1}, {name}{', loaded' if loaded else ''}")
    return readings


class Training:
    """One program, compiled once."""

    def __init__(self, name: str):
        self.name, self.config = name, load("laptop")
        model, trial = self.config.model, self.config.trial
        self.data = Dataset.open(prepare_dataset(self.config.data, model.vocabulary), verify=False)
        self.model = language_model(build_graph(library.get(name, model.unit)), model)
        self.validation = validation_batches(self.data.validation, trial.batch, model.length, trial.evaluation_batches)
        self.functions = self.compiled()
        self.functions.compile_evaluation(self.start(0))

    def compiled(self) -> StepFunctions:
        """Compile the training step."""
        functions = StepFunctions(self.model, make_optimizer(self.config.optimizer), self.config.trial.batch)
        functions.compile_step(functions.initial_state(self.model.init(np.random.default_rng(0))))
        return functions

    def start(self, seed: int) -> TrainState:
        """Return the state before the first step."""
        return self.functions.initial_state(self.model.init(np.random.default_rng(seed)))

    def batches(self, seed: int) -> TrainBatches:
        """Return the training batches."""
        return TrainBatches(self.data.train, self.config.trial.batch, self.config.model.length, seed)

    def steps_within(self, seconds: float) -> int:
        """Return the number of steps in some seconds of CPU time, by a short run."""
        self.run(0, 0.3, 1, False, ClockMeter())  # the first steps are slower
        readings = self.run(0, seconds / 4, 1, False, ClockMeter())
        return max(4 * reading.steps for reading in readings if reading.clock == "cpu_seconds")

    def reference(self) -> ReferenceStep:
        """Return this program's step, as a worker times it in turns with others."""
        return ReferenceStep(self.compiled(), self.start(0), self.batches(0).batch_at(0))

    def run(self, seed: int, budget_seconds: float, budget_steps: int, loaded: bool, meter: Meter) -> list[Reading]:
        """Train until all clocks have spent the budget, and return a reading at the end of each."""
        batches = self.batches(seed)
        state, steps = self.start(seed), 0
        spent = dict.fromkeys(CLOCKS, 0.0)
        budget = {**dict.fromkeys(CLOCKS, budget_seconds), "steps": float(budget_steps)}
        readings: dict[str, Reading] = {}
        while len(readings) < len(CLOCKS):
            wall, cpu = time.perf_counter(), time.process_time()
            state, result = self.functions.step(state, batches.batch_at(steps))
            result.token_losses.block_until_ready()
            steps += 1
            spent["wall_seconds"] += time.perf_counter() - wall
            cpu = time.process_time() - cpu
            spent["cpu_seconds"] += cpu
            meter.charge(1, cpu)
            spent["reference_seconds"] = meter.spent
            spent["steps"] = steps
            due = [clock for clock in CLOCKS if spent[clock] >= budget[clock] and clock not in readings]
            if due:
                loss = self.functions.evaluate(state, self.validation)
                readings |= {clock: Reading(self.name, loaded, clock, steps, loss) for clock in due}
        return list(readings.values())


@contextmanager
def busy_process(core: int | None) -> Iterator[None]:
    """Run a busy process on the same core."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        time.sleep(0.2)
        yield
    finally:
        process.kill()
        process.wait()


# --- summary ----------------------------------------------------------------------------------------------------


def summary(readings: list[Reading]) -> dict[str, Any]:
    """Summarize the readings of one clock."""
    by_program: dict[str, list[Reading]] = {}
    for reading in readings:
        by_program.setdefault(reading.program, []).append(reading)
    means = {name: fmean(one.loss_nats for one in found) for name, found in by_program.items()}
    variations = [
        pstdev(steps) / fmean(steps) for steps in ([one.steps for one in found] for found in by_program.values())
    ]
    return {
        "steps_unloaded": fmean(one.steps for one in readings if not one.loaded),
        "steps_loaded": fmean(one.steps for one in readings if one.loaded),
        "steps_variation": fmean(variations),
        "loss_means": means,
        "loss_spreads": {name: pstdev([one.loss_nats for one in found]) for name, found in by_program.items()},
        "loss_spread_between_programs": pstdev(means.values()),
        **agreement(by_program, means),
    }


def agreement(by_program: dict[str, list[Reading]], means: dict[str, float]) -> dict[str, float]:
    """Return the mean rank correlation between rankings by one trial per program and the ranking by means."""
    rng = np.random.default_rng(0)
    names = list(means)
    consensus = np.array([means[name] for name in names])
    losses = [np.array([one.loss_nats for one in by_program[name]]) for name in names]
    draws = [np.array([rng.choice(found) for found in losses]) for _ in range(DRAWS)]
    correlations: dict[str, Any] = {"kendall": kendalltau, "spearman": spearmanr}
    return {
        **{
            name: fmean(float(correlation(draw, consensus).statistic) for draw in draws)
            for name, correlation in correlations.items()
        },
        "same_best": fmean(float(np.argmin(draw) == np.argmin(consensus)) for draw in draws),
    }


def print_report(report: dict[str, Any]) -> None:
    """Print the results as tables."""
    print(" ".join(f"{key}={value}" for key, value in report["hardware"].items()))
    print(
        f"budget {report['budget_seconds']:g} s, {report['repetitions']} repetitions a program, half of them loaded\n"
    )
    heads = f"{'varies':>8}{'spread':>9}{'between':>9}{'Kendall':>9}{'Spearman':>10}{'best':>7}"
    print(f"{'clock':20}{'steps':>8}{'loaded':>8}{heads}")
    for clock, found in report["clocks"].items():
        spread = fmean(found["loss_spreads"].values())
        print(
            f"{clock:20}{found['steps_unloaded']:8.0f}{found['steps_loaded']:8.0f}{found['steps_variation']:8.1%}"
            f"{spread:9.4f}{found['loss_spread_between_programs']:9.4f}"
            f"{found['kendall']:9.3f}{found['spearman']:10.3f}{found['same_best']:7.0%}"
        )
    print("\nspread of losses in nats, by program:")
    for name in next(iter(report["clocks"].values()))["loss_spreads"]:
        spreads = "  ".join(f"{clock} {found['loss_spreads'][name]:.4f}" for clock, found in report["clocks"].items())
        print(f"  {name:26}{spreads}")


if __name__ == "__main__":
    main()
