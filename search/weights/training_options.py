"""Options of a training, and the check that they can be combined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ...primitives import UsageError
from ...system.files import file_sha256
from ...system.user_folders import user_path

__all__ = ["TrainingOptions", "hash_of_examples"]


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """Options of a training that a user gives.

    Attributes:
        budget: wall-clock time of training such as `1h`, or `5000steps`; None: the budget of the run or the weights.
        seed: random seed of the parameters and of the order of the text.
        scale: sizes and rates to change, such as `layers=8,unit=32`; empty: no changes.
        objective: `causal`, `ul2r` or `instruct`.
        examples: files of JSON lines, for `instruct`.
        mixture: weights of the denoisers or of the tasks, such as `R=0.25,X=0.25,S=0.5`; empty: the papers' weights.
        cap: largest number of examples of a task in an epoch, for `instruct`; None: the cap of Flan.
        regularizer: `none`, or the distance of neighbouring layers that is added to the loss: `cosine` or `mse`.
        strength: factor of the regularizer.
        final_rate: learning rate at the end as a share of the peak; None: the default of the objective.
        output: folder of the weights; None: a folder named after the candidate, or after the initial weights.
    """

    budget: str | None = None
    seed: int = 0
    scale: str = ""
    objective: str = "causal"
    examples: tuple[str, ...] = ()
    mixture: str = ""
    cap: int | None = None
    regularizer: str = "none"
    strength: float | None = None
    final_rate: float | None = None
    output: str | None = None

    @property
    def suffix(self) -> str:
        """End of the default folder's name; empty if objective, regularizer and scale are the defaults."""
        objective = "" if self.objective == "causal" else self.objective
        regularizer = "" if self.regularizer == "none" else self.regularizer
        return "".join(f"-{part}" for part in (objective, regularizer, "".join(self.scale.split())) if part)

    def check(self) -> None:
        """Check that the options can be combined.

        Raises:
            UsageError: an option needs, or excludes, another one.
        """
        if bool(self.examples) != (self.objective == "instruct"):
            raise UsageError("--examples FILE.jsonl and --objective instruct need each other: give both or neither")
        if self.cap is not None and self.objective != "instruct":
            raise UsageError("--cap is only for --objective instruct")
        if self.mixture and self.objective == "causal":
            raise UsageError("--mixture is only for --objective ul2r (weights of denoisers) or instruct (of tasks)")
        if (self.regularizer == "none") != (self.strength is None):
            raise UsageError("--regularizer cosine|mse and --strength NUMBER need each other: give both or neither")

    def job_fields(self) -> dict[str, Any]:
        """Return the fields of a `TrainingJob` that are equal to options, after a check of the options."""
        self.check()
        return {
            "seed": self.seed,
            "objective": self.objective,
            "examples": {path: hash_of_examples(path) for path in self.examples},
            "mixture": _parse_mixture(self.mixture) if self.mixture else None,
            "cap": self.cap,
            "regularizer": self.regularizer,
            "strength": self.strength,
        }


def hash_of_examples(path: str) -> str:
    """Return the SHA-256 of a file of examples.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        return file_sha256(user_path(path))
    except OSError as error:
        raise UsageError(f"--examples {path} cannot be read ({error.strerror or error})") from error


def _parse_mixture(text: str) -> dict[str, float]:
    """Return the weights by name from a text such as `R=0.25,X=0.25,S=0.5`."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.rpartition("="))
        try:
            weight = float(value)
        except ValueError:
            weight = math.nan
        if not (equals and name and 0 <= weight < math.inf) or name in weights:
            raise UsageError(f"--mixture {text[:60]} must read NAME=WEIGHT,..., each name once, such as R=0.25,S=0.75")
        weights[name] = weight
    return weights
