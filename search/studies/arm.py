"""What a study compares: programs under the settings they are trained with, and their trainings."""

from __future__ import annotations

from dataclasses import dataclass

from ...primitives import DNA
from ...workers.evaluation import Evaluation
from .record import identity_of

__all__ = ["Arm", "Training"]


@dataclass(frozen=True, slots=True)
class Arm:
    """A program under the settings it is trained with.

    Attributes:
        name: what tables call it; outside its identity, so that renaming it trains nothing anew.
        dna: the program.
        learning_rate_factor: times the configured learning rate.
        unit: of relative width instead of the configured one; None keeps that.
    """

    name: str
    dna: DNA
    learning_rate_factor: float = 1.0
    unit: int | None = None

    @property
    def key(self) -> str:
        """Identity: a hash of everything but the name."""
        return identity_of(
            {"dna": self.dna.to_json(), "learning_rate_factor": self.learning_rate_factor, "unit": self.unit}
        )


@dataclass(frozen=True, slots=True)
class Training:
    """One finished training of an arm.

    Attributes:
        arm: what was trained.
        seed: of its parameters and of the order of its text.
        evaluation: what came of it; `hurdle_losses` are the validation losses at the study's points.
    """

    arm: Arm
    seed: int
    evaluation: Evaluation
