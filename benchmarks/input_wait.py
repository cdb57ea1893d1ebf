"""Share of training time spent waiting for batches, by preset and program.

    python benchmarks/input_wait.py                       # laptop: the baseline and Primer EZ, 20 s each
    python benchmarks/input_wait.py --config gpu --set trial.batch=128 --data text:/some/text

Training waits if the next batch is not ready when it is needed. On a CPU, the wait is the time in which the host
prepares the batch. On an accelerator, there is a wait if the device finishes the step before the batch arrives; it is
at most the time since the batch was requested. Every trial measures the same share (`input_wait_share`). The goal is a
share below 2%.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser
from primer_search.configs.load import load
from primer_search.primitives.programs import library
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.config import RunConfig


@dataclass(frozen=True)
class Reading:
    """Training of one program.

    Attributes:
        program: name of the program.
        input_wait_share: share of training time spent waiting for batches.
        step_ms: median time of a step, by the trial's clock.
        batch_ms: mean time that a step waits for its batch.
        steps: number of steps.
        device: name of the device.
    """

    program: str
    input_wait_share: float
    step_ms: float
    batch_ms: float
    steps: int
    device: str


def main() -> None:
    """Run the benchmark and print a table."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--config", default="laptop", metavar="PRESET|FILE", help="default: laptop")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a setting")
    parser.add_argument("--data", metavar="SOURCE", help="source of text (default: the preset's)")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of training for each program (default 20)")
    parser.add_argument("--programs", nargs="+", default=["TRANSFORMER", "PRIMER_EZ"], choices=library.names())
    add_json(parser)
    arguments = parser.parse_args()
    config = load(arguments.config, arguments.set)
    if arguments.data is not None:
        config = replace(config, data=replace(config.data, source=arguments.data))
    # Use a clock that does not need the baseline's step time.
    unit = "cpu_seconds" if config.trial.unit in ("cpu_seconds", "reference_seconds") else "wall_seconds"
    config = replace(config, trial=replace(config.trial, unit=unit, budget_seconds=arguments.seconds))
    readings = measure(config, arguments.programs)
    if arguments.json:
        print(json.dumps({"config": arguments.config, "readings": [asdict(reading) for reading in readings]}))
        return
    print_readings(readings, config)


def measure(config: RunConfig, programs: list[str]) -> list[Reading]:
    """Train each program once, as a worker does."""
    from primer_search.workers.data.dataset import prepare_dataset
    from primer_search.workers.protocol import TrialRequest
    from primer_search.workers.training.trial import CandidateTrainer

    dataset = prepare_dataset(config.data, config.model.vocabulary)
    trainer = CandidateTrainer(config.model, config.trial, config.optimizer, str(dataset))
    readings = []
    for number, name in enumerate(programs):
        dna = dna_to_json(library.get(name, config.model.unit))
        found: Any = trainer.run(TrialRequest(number, number, dna, 0), lambda progress: None)
        if found.outcome != "ok":
            raise SystemExit(f"{name}: {found.outcome}: {found.message}")
        batch_ms = 1000 * found.input_wait_share * found.train_seconds / found.steps
        readings.append(Reading(name, found.input_wait_share, found.step_ms, batch_ms, found.steps, found.device))
    return readings


def print_readings(readings: list[Reading], config: RunConfig) -> None:
    """Print a table of the readings."""
    model, trial = config.model, config.trial
    print(
        f"{readings[0].device}, {model.layers} layers of width {model.width}, "
        f"{trial.batch} sequences of {model.length} tokens, {trial.unit}\n"
    )
    print(f"{'program':<18} {'waiting':>8} {'step ms':>9} {'batch ms':>9} {'steps':>7}")
    for one in readings:
        share, numbers = f"{one.input_wait_share:.2%}", f"{one.step_ms:>9.2f} {one.batch_ms:>9.3f} {one.steps:>7,}"
        print(f"{one.program:<18} {share:>8} {numbers}")


if __name__ == "__main__":
    main()
