"""Losses of tokens that could be copied from the text before them, and of all other tokens.

    python benchmarks/copying.py [PROGRAM ...] [--rates 5e-3 1e-2] [--trainings 2] [--json]

A token is *repeated* if the token and the one before it occur as a pair earlier in the sequence, so it could be copied.
Each program (a name of the library or a DNA file) is trained at the `laptop` preset with each learning rate. The table
has the mean validation losses of repeated tokens and of all other tokens, in nats a token, of each training.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, hardware, log
from primer_search.configs.load import load
from primer_search.models.language_model import language_model
from primer_search.primitives import DNA, build_graph
from primer_search.primitives.programs.program_json import dna_from_json, dna_to_json
from primer_search.search.config import RunConfig
from primer_search.system.allocator import keep_freed_memory
from primer_search.workers.data.dataset import prepare_dataset
from primer_search.workers.protocol import TrialRequest
from primer_search.workers.training.trial import CandidateTrainer


@dataclass(frozen=True, slots=True)
class Losses:
    """Validation losses of one training, in nats a token."""

    program: str
    learning_rate: float
    seed: int
    repeated: float
    others: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print a table."""
    options = _options(arguments)
    jax.config.update("jax_platforms", "cpu")
    keep_freed_memory()
    config = load("laptop")
    config = replace(config, trial=replace(config.trial, price=False, hurdles=0))
    dataset = str(prepare_dataset(config.data, config.model.vocabulary))
    programs = {name: _program(name, config) for name in options.programs}
    trainers = {
        rate: CandidateTrainer(config.model, config.trial, replace(config.optimizer, learning_rate=rate), dataset)
        for rate in options.rates
    }
    rows = []
    for seed in range(options.trainings):
        for rate, trainer in trainers.items():
            for name, dna in programs.items():
                rows.append(Losses(name, rate, seed, *_losses(trainer, dna, seed)))
                log(str(rows[-1]))
    about = hardware("copying.py", arguments)
    if options.json:
        print(json.dumps({"about": about, "rows": [asdict(row) for row in rows]}))
        return
    print(f"$ {about['command']}")
    print(", ".join(f"{key} {value}" for key, value in about.items() if key != "command"))
    repeated = is_repeated(next(iter(trainers.values())).validation)
    print(f"{np.mean(repeated):.1%} of the validation tokens are repeated")
    print(f"{'program':16} {'rate':>7} {'seed':>4} {'repeated':>9} {'others':>9}")
    for row in sorted(rows, key=lambda row: (row.program, row.learning_rate)):
        print(f"{row.program:16} {row.learning_rate:7g} {row.seed:4} {row.repeated:9.3f} {row.others:9.3f}")


def _program(name: str, config: RunConfig) -> DNA:
    return dna_from_json(Path(name).read_text()) if name.endswith(".json") else config.model.library_program(name)


def _losses(trainer: CandidateTrainer, dna: DNA, seed: int) -> tuple[float, float]:
    """Train a program; return the mean loss of repeated tokens, and that of all other tokens."""
    saved: list[Any] = []
    evaluation = trainer.run(TrialRequest(0, 0, dna_to_json(dna), seed), lambda progress: None, saved.append)
    assert evaluation.outcome == "ok", evaluation.message
    token_losses = jax.jit(language_model(build_graph(dna), trainer.model).token_losses)
    losses = np.array([token_losses(saved[0], tokens) for tokens in trainer.validation])
    repeated = is_repeated(trainer.validation)
    return float(losses[repeated].mean()), float(losses[~repeated].mean())


def is_repeated(batches: np.ndarray) -> np.ndarray:
    """Return which targets are repeated: tokens `[count, batch, length + 1]` to flags `[count, batch, length]`."""
    same = batches[..., :, None] == batches[..., None, :]
    pairs = same[..., 1:, 1:] & same[..., :-1, :-1]
    return np.any(np.tril(pairs, -1), axis=-1)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("programs", nargs="*", default=["TRANSFORMER", "PRIMER_EZ"], help="programs")
    parser.add_argument("--rates", nargs="+", type=float, default=[5e-3, 1e-2], help="learning rates")
    parser.add_argument("--trainings", type=int, default=2, help="trainings of a program at each rate (default 2)")
    add_json(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
