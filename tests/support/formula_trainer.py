"""A trainer that computes its evaluations by a formula, so that studies of hundreds of trainings take no time.

The loss falls with a power of the budget spent; program, learning rate and seed shift it. Trainings are exact, so
interrupted studies can be compared with uninterrupted ones.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from primer_search.primitives import DNA, build_graph
from primer_search.primitives.programs.program_json import dna_from_json
from primer_search.search.studies import study
from primer_search.workers.protocol import Evaluation, Progress, Trainer, TrialRequest

SCALE = 0.5
"""Bits per byte per nat, on both splits."""


@dataclass
class FormulaTrainer:
    """Settings and requests of the trainer. Dictionaries are keyed by structure hash.

    Attributes:
        gains: nats by which a program is better.
        failures: number of failures of a program's worker before it trains.
        best_factors: best factor of a program's learning rate; default 1.
        outcomes: outcomes of programs that do not finish.
        noise: standard deviation, in nats, of the noise shared by a seed and of that of each training.
        epochs, budget: epochs and budget at the end of every training.
        has_text: whether losses are in bits per byte as well; ids without text have no bytes.
        seen: requests so far.
    """

    gains: dict[str, float] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    best_factors: dict[str, float] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    noise: float = 0.01
    epochs: float = 1.0
    budget: float = 20.0
    has_text: bool = True
    seen: list[TrialRequest] = field(default_factory=list)

    def run(self, request: TrialRequest, progress: Callable[[Progress], None]) -> Evaluation:
        self.seen.append(request)
        if request.calibrate:
            return Evaluation("ok", step_ms=20.0)
        program = structure_key(request.dna)
        self.failures[program] = self.failures.get(program, 0) - 1
        if self.failures[program] >= 0:
            raise OSError("the device fell off the bus")
        if program in self.outcomes:
            return Evaluation(self.outcomes[program], "said so")
        shift = self.noise * _normal(request.seed, "text") + self.noise * _normal(request.seed, program)
        shift += 0.3 * math.log2(request.learning_rate_factor / self.best_factors.get(program, 1.0)) ** 2
        spent = [*(hurdle.at for hurdle in request.hurdles), self.budget]
        losses = [3.0 * at**-0.1 - self.gains.get(program, 0.0) + shift for at in spent]
        test = losses[-1] + 0.1 if request.test else None
        return Evaluation(
            "ok",
            loss_nats=losses[-1],
            bits_per_byte=SCALE * losses[-1] if self.has_text else None,
            test_loss_nats=test,
            test_bits_per_byte=SCALE * test if test is not None and self.has_text else None,
            hurdle_losses=tuple(losses[:-1]),
            hurdle_steps=tuple(round(10 * at) for at in spent[:-1]),
            curve=tuple((at, round(10 * at), 4.0) for at in spent),
            steps=round(10 * self.budget),
            tokens=round(1000 * self.budget),
            epochs=self.epochs,
            spent=self.budget,
            train_seconds=2 * self.budget,
            step_ms=100.0,
            peak_memory_bytes=2**30,
            device="formula",
        )


def structure_key(dna: str | DNA) -> str:
    """Return the key of a program in the trainer's dictionaries."""
    program = dna_from_json(dna) if isinstance(dna, str) else dna
    return build_graph(program, length_dependent=True).structure_hash


def use_trainer(trainer: FormulaTrainer, patch: pytest.MonkeyPatch) -> FormulaTrainer:
    """Make studies use this trainer."""

    def make(*_: Any, **__: Any) -> Callable[[], Trainer]:
        return lambda: trainer

    patch.setattr(study, "CandidateTrainerFactory", make)
    return trainer


def _normal(*words: object) -> float:
    """Return a number that depends on the words alone and is distributed normally."""
    uniform = [zlib.crc32(f"{words} {place}".encode()) / 2**32 for place in range(12)]
    return sum(uniform) - 6.0
