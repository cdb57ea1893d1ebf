"""Memory of a worker: the peak of each of many trials, one after the other, in one real worker.

    python benchmarks/worker_memory.py [--config laptop] [--programs 30] [--steps 60] [--set SETTING=VALUE] [--json]

The worker trains the TRANSFORMER, PRIMER_EZ and other programs of the library, and then random mutations of them. Each
is trained for a few steps and evaluated at the end. The cache of compiled programs is off, because compilation takes
the most memory. The peak is that of the resident memory during a trial, as in the leaderboard and the memory limit.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, hardware, log
from primer_search.configs.load import load
from primer_search.primitives import DNA, InvalidProgramError
from primer_search.primitives.programs import library
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.config import RunConfig
from primer_search.search.evolution.proposals import CandidateRules
from primer_search.search.guided.live_mutations import mutate_live
from primer_search.search.runs.trainer_factory import CandidateTrainerFactory
from primer_search.workers.data.dataset import prepare_dataset
from primer_search.workers.executors.factory import make_executor
from primer_search.workers.protocol import Evaluation, TrialRequest
from primer_search.workers.training.steps.brief import is_brief

PROGRAMS = ("TRANSFORMER", "PRIMER_EZ", "TRANSFORMER_PP", "PRIMER")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its result."""
    options = _options(arguments)
    config = load(options.config, options.set)
    whole = {} if is_brief(config.model, config.trial, config.optimizer, "cpu") else {"stack": "unroll"}
    trial = replace(config.trial, unit="steps", budget_steps=options.steps, hurdles=0)
    config = replace(config, model=replace(config.model, **whole))  # fewer steps must not change the form of the step
    config = replace(config, trial=trial, workers=replace(config.workers, count=1, compiled_mib=0))
    with redirect_stdout(sys.stderr):
        evaluations = _train(config, options.programs)
    peaks = np.array([each.peak_memory_bytes or 0 for each in evaluations]) / 2**20
    about = hardware("worker_memory.py", arguments)
    result = {
        "trials": len(peaks),
        "ok": sum(each.outcome == "ok" for each in evaluations),
        "first_mib": float(peaks[0]),
        "median_mib": float(np.median(peaks)),
        "last_mib": float(peaks[-1]),
        "largest_mib": float(peaks.max()),
    }
    if options.json:
        print(json.dumps({"about": about, **result, "peaks_mib": [round(float(peak), 1) for peak in peaks]}))
        return
    print(f"$ {about['command']}")
    print(", ".join(f"{key} {value}" for key, value in about.items() if key not in ("command", "clock")))
    print(
        f"{result['trials']} trials in one worker, {result['ok']} ok; peak MiB: first {result['first_mib']:.0f}, "
        f"median {result['median_mib']:.0f}, last {result['last_mib']:.0f}, largest {result['largest_mib']:.0f}"
    )


def _train(config: RunConfig, count: int) -> list[Evaluation]:
    """Return the evaluations of the programs, in order."""
    dataset = str(prepare_dataset(config.data, config.model.vocabulary))
    reference = dna_to_json(config.model.library_program(config.search.baseline))
    factory = CandidateTrainerFactory(config, dataset, reference)
    evaluations: list[Evaluation] = []
    with make_executor(config.workers, factory, wall_limit_seconds=600.0) as executor:
        for number, dna in zip(range(count), _programs(config), strict=False):
            while not executor.free:
                executor.wait(1.0)
            executor.submit(TrialRequest(number, number, dna_to_json(dna), seed=number, test=True))
            while not (finished := executor.wait(1.0)):
                pass
            evaluations += [evaluation for _, evaluation in finished]
            log(f"{number}: {evaluations[-1].outcome}, {(evaluations[-1].peak_memory_bytes or 0) / 2**20:.0f} MiB")
    return evaluations


def _programs(config: RunConfig) -> Iterator[DNA]:
    """Yield programs of the library, then random valid mutations: a chain from each of them in turn."""
    rng = np.random.default_rng(0)
    rules = CandidateRules.for_baseline(config.model.library_program(config.search.baseline), config.model)
    programs = [library.get(name, config.model.unit, config.model.heads) for name in PROGRAMS]
    yield from programs
    while True:
        for place, parent in enumerate(programs):
            child, _ = mutate_live(parent, rng)
            try:
                rules.build_graph(child)
            except InvalidProgramError:
                continue
            programs[place] = child
            yield child


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--config", default="laptop", help="preset or configuration file (default laptop)")
    parser.add_argument("--programs", type=int, default=30, help="number of trials (default 30)")
    parser.add_argument("--steps", type=int, default=60, help="steps of each trial (default 60)")
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE", help="change a setting")
    add_json(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
