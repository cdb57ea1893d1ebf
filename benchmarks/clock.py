"""Which clock should a trial's budget count? The one by which repeated trials rank most alike on a shared machine.

    python benchmarks/clock.py [--quick] [--json]

Trains the seed and other library programs several times, half of the repetitions while a busy process competes for
the same core. Each repetition reads all four clocks at once: it is evaluated when its *wall* seconds, its own *cpu*
seconds, its *reference* seconds (steps charged by their time relative to the Transformer's, timed in turns: see
workers/training/budget_meter.py) and its *steps* reach the budget, so the clocks are compared on the same training.
The repetitions of a program share one seed (unless `--seeds-differ`), so the spread is due to the clock; by steps
there is none. The mean of a program by one clock is the truth its single trials are compared with.

Printed for each clock: steps reached (with and without load, coefficient of variation over all), the spread of
losses within a program beside the spread between programs, and how well the ranking by one trial a program, drawn at
random from loaded and unloaded ones, agrees with the ranking by means (Kendall's and Spearman's rank correlation).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import combinations
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from primer_search.workers.training.budget_meter import Meter, ReferenceStep

CLOCKS = ("wall_seconds", "cpu_seconds", "reference_seconds", "steps")
PROGRAMS = ("TRANSFORMER", "TRANSFORMER_GELU", "TRANSFORMER_PP", "TRANSFORMER_SQUARED_RELU", "PRIMER_EZ")
DRAWS = 5000


@dataclass(frozen=True)
class Reading:
    """What one repetition had reached when one clock said that the budget was spent."""

    program: str
    loaded: bool
    clock: str
    steps: int
    loss_nats: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=6.0, help="seconds, by wall and by cpu (default 6)")
    parser.add_argument("--repetitions", type=int, default=6, help="of each program, half of them loaded (default 6)")
    parser.add_argument("--seeds-differ", action="store_true", help="give every repetition a seed of its own")
    parser.add_argument("--quick", action="store_true", help="see that it works: 3 programs, 2 repetitions of 1 s")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.budget, arguments.repetitions = 1.0, 2
    core = pin_to_one_core()  # before JAX starts its threads
    readings = measure(arguments, PROGRAMS[:3] if arguments.quick else PROGRAMS, core)
    report = {
        "hardware": hardware(core),
        "budget_seconds": arguments.budget,
        "repetitions": arguments.repetitions,
        "seeds_differ": arguments.seeds_differ,
        "clocks": {clock: summary([one for one in readings if one.clock == clock]) for clock in CLOCKS},
    }
    if arguments.json:
        print(json.dumps({**report, "readings": [asdict(reading) for reading in readings]}))
    else:
        print_report(report)


# --- measuring --------------------------------------------------------------------------------------------------


def measure(arguments: argparse.Namespace, programs: tuple[str, ...], core: int | None) -> list[Reading]:
    """All repetitions, programs and load taking turns, so that a slow minute of the machine meets them all."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    from primer_search.workers.training.budget_meter import ReferenceMeter

    trainings = {name: Training(name) for name in programs}
    seed = trainings["TRANSFORMER"]
    budget_steps = seed.steps_within(arguments.budget)
    reference = seed.reference()
    allowance = reference.median_step_seconds(2.0)
    readings: list[Reading] = []
    for repetition in range(arguments.repetitions):
        for name, training in trainings.items():
            loaded = bool(repetition % 2)
            number = repetition if arguments.seeds_differ else 0
            with competitor(core) if loaded else unhindered():
                meter = ReferenceMeter(reference, allowance)
                readings += training.run(number, arguments.budget, budget_steps, loaded, meter)
            print(f"repetition {repetition + 1}, {name}{', loaded' if loaded else ''}", file=sys.stderr)
    return readings


class Training:
    """One program, compiled once."""

    def __init__(self, name: str):
        from primer_search.configs.load import load
        from primer_search.models.language_model import language_model
        from primer_search.primitives import build_graph, library
        from primer_search.workers.data.batches import validation_batches
        from primer_search.workers.data.dataset import Dataset, prepare
        from primer_search.workers.training.optimizer import make_optimizer
        from primer_search.workers.training.train_step import StepFunctions

        self.name, self.config = name, load("laptop")
        model, trial = self.config.model, self.config.trial
        self.data = Dataset.open(prepare(self.config.data, model.vocabulary), verify=False)
        self.model = language_model(build_graph(library.get(name, model.unit)), model)
        self.validation = validation_batches(self.data.validation, trial.batch, model.length, trial.evaluation_batches)
        self.optimizer = make_optimizer(self.config.optimizer)
        self.functions = StepFunctions(self.model, self.optimizer, trial.batch)
        self.functions.compile_step(self.start(0))
        self.functions.compile_evaluation(self.start(0))

    def start(self, seed: int) -> Any:
        """The state before the first step."""
        from primer_search.workers.training.optimizer import initial_state
        from primer_search.workers.training.train_step import TrainState

        parameters = self.model.init(np.random.default_rng(seed))
        return TrainState(parameters, initial_state(self.optimizer, parameters))

    def steps_within(self, seconds: float) -> int:
        """Steps that some seconds of cpu time are good for, by a short trial run."""
        from primer_search.workers.training.budget_meter import ClockMeter

        self.run(0, 0.3, 1, False, ClockMeter())  # the first steps are slower
        readings = self.run(0, seconds / 4, 1, False, ClockMeter())
        return max(4 * reading.steps for reading in readings if reading.clock == "cpu_seconds")

    def reference(self) -> ReferenceStep:
        """This program's step, as a worker times it in turns with others."""
        from primer_search.workers.data.batches import TrainBatches
        from primer_search.workers.training.budget_meter import ReferenceStep
        from primer_search.workers.training.train_step import StepFunctions

        functions = StepFunctions(self.model, self.optimizer, self.config.trial.batch)
        functions.compile_step(self.start(0))
        tokens = TrainBatches(self.data.train, self.config.trial.batch, self.config.model.length, 0).batch_at(0)
        return ReferenceStep(functions, self.start(0), tokens)

    def run(self, seed: int, budget_seconds: float, budget_steps: int, loaded: bool, meter: Meter) -> list[Reading]:
        """Train until all the clocks have spent the budget; a reading at the end of each."""
        from primer_search.workers.data.batches import TrainBatches

        batches = TrainBatches(self.data.train, self.config.trial.batch, self.config.model.length, seed)
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
def competitor(core: int | None) -> Iterator[None]:
    """A process that is busy on the same core."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        time.sleep(0.2)
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def unhindered() -> Iterator[None]:
    """Nothing that competes, of ours."""
    yield


def pin_to_one_core() -> int | None:
    """Keep this process on the last core it may use, as a worker does; None where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        print("this system cannot pin processes to cores: the load may run elsewhere", file=sys.stderr)
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


# --- summing up -------------------------------------------------------------------------------------------------


def summary(readings: list[Reading]) -> dict[str, Any]:
    """What one clock's readings say."""
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
    """Mean rank correlation of rankings by one trial a program with the ranking by means."""
    rng = np.random.default_rng(0)
    names = list(means)
    consensus = np.array([means[name] for name in names])
    losses = [np.array([one.loss_nats for one in by_program[name]]) for name in names]
    draws = [np.array([rng.choice(found) for found in losses]) for _ in range(DRAWS)]
    return {
        "kendall": fmean(kendall(draw, consensus) for draw in draws),
        "spearman": fmean(spearman(draw, consensus) for draw in draws),
        "same_best": fmean(float(np.argmin(draw) == np.argmin(consensus)) for draw in draws),
    }


def kendall(x: np.ndarray, y: np.ndarray) -> float:
    pairs = list(combinations(range(len(x)), 2))
    return fmean(float(np.sign(x[i] - x[j]) * np.sign(y[i] - y[j])) for i, j in pairs)


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x.argsort().argsort(), y.argsort().argsort())[0, 1])


def hardware(core: int | None) -> dict[str, Any]:
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "pinned_to_core": core,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("jax", "jaxlib", "optax", "numpy")},
    }


def processor_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def print_report(report: dict[str, Any]) -> None:
    print(" ".join(f"{key}={value}" for key, value in report["hardware"].items()))
    print(
        f"budget {report['budget_seconds']:g} s, {report['repetitions']} repetitions a program, half of them loaded\n"
    )
    print(
        f"{'clock':20}{'steps':>8}{'loaded':>8}{'varies':>8}{'spread':>9}{'between':>9}{'Kendall':>9}{'Spearman':>10}{'best':>7}"
    )
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
