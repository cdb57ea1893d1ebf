"""Share of the time of training that goes into waiting for batches, by preset and program.

    python benchmarks/input_wait.py                       # laptop: the baseline and Primer EZ, 20 s each
    python benchmarks/input_wait.py --config gpu --set trial.batch=128 --data text:/some/text

A training waits where the next batch is not there when it is wanted: on a CPU for as long as the host works on it, on
an accelerator if the device has finished the step before the batch has been sent, then at most since it was asked for.
Evaluations measure the same in every trial (`input_wait_share`). A share under 2% is the goal.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from primer_search.configs.load import load
from primer_search.primitives import library
from primer_search.primitives.program_json import dna_to_json
from primer_search.search.config import RunConfig


@dataclass(frozen=True)
class Reading:
    """One program's training.

    Attributes:
        program: its name.
        input_wait_share: of the time of training.
        step_ms: median, in the trial's clock.
        batch_ms: what one step waited for its batch, on average.
        steps: trained.
        device: it ran on.
    """

    program: str
    input_wait_share: float
    step_ms: float
    batch_ms: float
    steps: int
    device: str


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", default="laptop", metavar="PRESET|FILE", help="default: laptop")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a setting")
    parser.add_argument("--data", metavar="SOURCE", help="the preset's, if not given")
    parser.add_argument("--seconds", type=float, default=20.0, help="of training for each program (default 20)")
    parser.add_argument("--programs", nargs="+", default=["TRANSFORMER", "PRIMER_EZ"], choices=library.names())
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    arguments = parser.parse_args()
    config = load(arguments.config, arguments.set)
    if arguments.data is not None:
        config = replace(config, data=replace(config.data, source=arguments.data))
    # By a clock that needs no seed to compare with, and without stops on the way.
    unit = "cpu_seconds" if config.trial.unit in ("cpu_seconds", "reference_seconds") else "wall_seconds"
    config = replace(config, trial=replace(config.trial, unit=unit, budget_seconds=arguments.seconds))
    readings = measure(config, arguments.programs)
    if arguments.json:
        print(json.dumps({"config": arguments.config, "readings": [asdict(reading) for reading in readings]}))
        return
    print_readings(readings, config)


def measure(config: RunConfig, programs: list[str]) -> list[Reading]:
    """Train each program once by the worker's own trainer."""
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
