"""A trainer that computes what it reports by a formula: studies of hundreds of trainings in an instant.

The loss falls with a power of the budget spent; which program, learning rate and seed it is shifts it. Trainings are
exact, so that studies that were broken off can be compared with those that were not.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from primer_search.primitives import DNA, build_graph
from primer_search.primitives.program_json import dna_from_json
from primer_search.search.studies import study
from primer_search.workers.protocol import Evaluation, Progress, Trainer, TrialRequest

SCALE = 0.5
"""Bits per byte of a nat, on both splits."""


@dataclass
class FormulaTrainer:
    """What it answers; programs go by their structure hash.

    Attributes:
        gains: nats a program is better by.
        failures: how often a program's worker fails before it trains.
        best_factors: of a program's learning rate; 1 where not given.
        outcomes: of programs that do not finish.
        noise: standard deviation, in nats, of what a seed shares and of what is each training's own.
        epochs, budget: at the end of every training.
        seen: the requests so far.
    """

    gains: dict[str, float] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    best_factors: dict[str, float] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    noise: float = 0.01
    epochs: float = 1.0
    budget: float = 20.0
    seen: list[TrialRequest] = field(default_factory=list)

    def run(self, request: TrialRequest, progress: Callable[[Progress], None]) -> Evaluation:
        self.seen.append(request)
        if request.calibrate:
            return Evaluation("ok", step_ms=20.0)
        program = structure_of(request.dna)
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
            bits_per_byte=SCALE * losses[-1],
            test_loss_nats=test,
            test_bits_per_byte=None if test is None else SCALE * test,
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


def structure_of(dna: str | DNA) -> str:
    """What the trainer's dictionaries go by."""
    program = dna_from_json(dna) if isinstance(dna, str) else dna
    return build_graph(program, length_dependent=True).structure_hash


def train_by(trainer: FormulaTrainer, patch: pytest.MonkeyPatch) -> FormulaTrainer:
    """Let studies train with it."""

    def make(*_: Any, **__: Any) -> Callable[[], Trainer]:
        return lambda: trainer

    patch.setattr(study, "MakeCandidateTrainer", make)
    return trainer


def _normal(*words: object) -> float:
    """A number that looks drawn from a normal distribution, the same for the same words."""
    crumbs = [zlib.crc32(f"{words} {place}".encode()) / 2**32 for place in range(12)]
    return sum(crumbs) - 6.0
