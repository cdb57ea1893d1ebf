"""Dispatch trials to Ray workers whose trainer does nothing: trials a second, time of a dispatch, and messages lost.

    python benchmarks/dispatch.py --workers 64 --trials 20000 --json
    python benchmarks/dispatch.py --workers 2 --trials 200          # brief

The executor and its actors are those of a search; only the trainer is replaced. So the result is the largest number of
trials that a controller could handle if proposals and the store took no time. Requests and evaluations have their usual
size: the DNA of the Transformer, and a learning curve of 100 points. A trial is lost if its evaluation never arrives,
and doubled if its evaluation arrives twice. The CPU time is that of this process, which competes for cores with the
workers and with Ray's daemons.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass

import ray

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, log, processor_name
from primer_search.primitives.programs import library
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.system.host import resident_bytes, usable_cores
from primer_search.workers.executors.ray_pool import RayExecutor
from primer_search.workers.protocol import Evaluation, Progress, TrialRequest

START_SECONDS = 900.0
"""Longest wait until all workers are ready; on two cores, the start of 64 workers takes minutes."""


class NoTrainer:
    """Trainer that returns an evaluation of the usual size without training."""

    def run(self, request: TrialRequest, progress: Callable[[Progress], None]) -> Evaluation:
        """Return an evaluation that names its trial."""
        curve = tuple((0.3 * point, 10 * point, 5.0 - 0.01 * point) for point in range(1, 101))
        return Evaluation("ok", loss_nats=4.0, curve=curve, steps=request.trial_id, wall_seconds=1e-3)


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Result of the benchmark.

    Attributes:
        workers: number of workers.
        trials: number of trials.
        start_seconds: wall clock until all workers were ready.
        per_second: trials a second of wall clock, of all workers together.
        cpu_ms: CPU time of this process for each trial, in milliseconds.
        latency_ms: median wall clock from the submission of a trial to its result, in milliseconds.
        lost, doubled, mixed_up: trials without an evaluation, with several, and with that of another trial.
        memory_bytes: resident memory of this process.
        device, cores, ray: processor, cores of this machine, and version of Ray.
    """

    workers: int
    trials: int
    start_seconds: float
    per_second: float
    cpu_ms: float
    latency_ms: float
    lost: int
    doubled: int
    mixed_up: int
    memory_bytes: int
    device: str
    cores: int
    ray: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its result."""
    parser: argparse.ArgumentParser = benchmark_parser(__doc__)
    parser.add_argument("--workers", type=int, default=64, help="number of workers (default 64)")
    parser.add_argument("--trials", type=int, default=20_000, help="number of trials (default 20000)")
    add_json(parser)
    options = parser.parse_args(arguments)
    with redirect_stdout(sys.stderr):  # Ray prints messages about ended workers
        result = dispatch(options.workers, options.trials)
    if options.json:
        print(json.dumps(asdict(result)))
        return
    for name, value in asdict(result).items():
        print(f"{name:<14} {value:,.2f}" if isinstance(value, float) else f"{name:<14} {value}")


def dispatch(workers: int, trials: int) -> Dispatch:
    """Send trials to the workers as fast as they answer."""
    dna = dna_to_json(library.get("TRANSFORMER", 8))
    began = time.perf_counter()
    with RayExecutor(NoTrainer, slots=workers, wall_limit_seconds=600.0, start_seconds=START_SECONDS) as executor:
        while executor.free < workers:
            executor.wait(1.0)
            if time.perf_counter() - began > START_SECONDS:
                raise SystemExit(f"only {executor.free} of {workers} workers were ready after {START_SECONDS:g} s")
        start_seconds = time.perf_counter() - began
        log(f"{workers} workers are ready after {start_seconds:.0f} s")
        answers: Counter[int] = Counter()
        mixed_up, submitted = 0, 0
        sent: dict[int, float] = {}
        latencies: list[float] = []
        start, cpu = time.perf_counter(), time.process_time()
        while sum(answers.values()) < trials:
            while executor.free and submitted < trials:
                sent[submitted] = time.perf_counter()
                executor.submit(TrialRequest(submitted, submitted, dna, submitted))
                submitted += 1
            finished = executor.wait(0.25)
            now = time.perf_counter()
            for request, evaluation in finished:
                answers[request.trial_id] += 1
                mixed_up += evaluation.steps != request.trial_id
                latencies.append(now - sent.pop(request.trial_id, now))
            if not finished and not sent:
                break
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return Dispatch(
        workers,
        trials,
        start_seconds,
        per_second=sum(answers.values()) / seconds,
        cpu_ms=1000.0 * cpu_seconds / trials,
        latency_ms=1000.0 * sorted(latencies)[len(latencies) // 2],
        lost=trials - len(answers),
        doubled=sum(count > 1 for count in answers.values()),
        mixed_up=mixed_up,
        memory_bytes=resident_bytes(),
        device=processor_name(),
        cores=len(usable_cores()),
        ray=ray.__version__,
    )


if __name__ == "__main__":
    main()
