"""Records that trackers log: a run's settings, its trials with learning curves, its progress, and its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ...workers.protocol import Evaluation
from ..evolution.candidate import candidate_name

__all__ = ["Scalar", "TrackedEnd", "TrackedProgress", "TrackedRun", "TrackedTrial", "flatten_settings"]

Scalar = str | int | float | bool | None

SETTINGS = ("command", "seed", "budget_seconds", "dataset_hash", "machine", "workers", "versions", "config")
"""Entries of a run's manifest that are logged as settings."""

_NOT_METRICS = frozenset({"hurdle_losses", "hurdle_steps", "curve"})


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run at the start of tracking.

    Attributes:
        name: name of the run's folder.
        folder: folder for files of trackers, `RUN/tracking`.
        settings: settings by name, such as `config.model.layers`.
        started_at: start of the run, in seconds since the epoch.
    """

    name: str
    folder: Path
    settings: Mapping[str, Scalar]
    started_at: float


@dataclass(frozen=True, slots=True)
class TrackedTrial:
    """A finished trial.

    Attributes:
        trial_id, candidate_id: numbers of the trial and its candidate.
        parent: number of the candidate's parent; None without one.
        mutations: descriptions of the edits of the parent.
        seed: random seed of the trial.
        started_at, ended_at: times in seconds since the epoch.
        evaluation: result of the trial.
    """

    trial_id: int
    candidate_id: int
    parent: int | None
    mutations: tuple[str, ...]
    seed: int
    started_at: float
    ended_at: float
    evaluation: Evaluation

    @property
    def name(self) -> str:
        """Name of the trial in a tracker: the candidate and the number of the trial."""
        return f"{candidate_name(self.candidate_id)}, trial {self.trial_id}"

    @property
    def facts(self) -> dict[str, Scalar]:
        """Facts about the trial by name: candidate, trial, parent, edits, random seed, outcome, message and device."""
        return {
            "candidate": self.candidate_id,
            "trial": self.trial_id,
            "parent": self.parent,
            "mutations": "; ".join(self.mutations),
            "random_seed": self.seed,
            "outcome": self.evaluation.outcome,
            "message": self.evaluation.message,
            "device": self.evaluation.device,
        }

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers of the result that are known, by the names of `Evaluation`."""
        values = {
            field.name: getattr(self.evaluation, field.name)
            for field in fields(Evaluation)
            if field.name not in _NOT_METRICS
        }
        return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}

    @property
    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """Learning curves by name, in nats per token: points `(steps, loss)`."""
        result = self.evaluation
        validation = dict(zip(result.hurdle_steps, result.hurdle_losses, strict=False))
        if result.loss_nats is not None:
            validation[result.steps] = result.loss_nats
        training = {steps: loss for _, steps, loss in result.curve}
        return {"training_loss_nats": sorted(training.items()), "validation_loss_nats": sorted(validation.items())}


@dataclass(frozen=True, slots=True)
class TrackedProgress:
    """State of the search after a trial.

    Attributes:
        trials: number of finished trials.
        at: time at which the trial finished, in seconds since the epoch.
        candidates: number of proposed candidates.
        baseline_loss_nats: mean loss of the baseline's full trainings; None before the first.
        best: candidate with the lowest mean loss of its full trainings; None before the first.
        best_loss_nats: mean loss of the full trainings of `best`.
    """

    trials: int
    at: float
    candidates: int
    baseline_loss_nats: float | None
    best: int | None
    best_loss_nats: float | None

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers that are known, by name."""
        values: dict[str, float | None] = {
            "candidates": self.candidates,
            "baseline_loss_nats": self.baseline_loss_nats,
            "best_candidate": self.best,
            "best_loss_nats": self.best_loss_nats,
        }
        if self.best_loss_nats is not None and self.baseline_loss_nats is not None:
            values["best_minus_baseline_nats"] = self.best_loss_nats - self.baseline_loss_nats
        return {name: float(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class TrackedEnd:
    """The end of a run, or its state when tracking ends.

    Attributes:
        headline: result of the run in a few sentences.
        leaderboard: the best candidates as a table in Markdown.
        files: report (`report.html`), leaderboard (`leaderboard.json`) and the best program (`best_dna.json`).
    """

    headline: str
    leaderboard: str
    files: Sequence[Path]


def flatten_settings(manifest: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return the settings in a run's manifest as scalars by dotted names.

    >>> flatten_settings({"seed": 3, "config": {"model": {"layers": 2}}})
    {'seed': 3, 'config.model.layers': 2}
    """
    settings: dict[str, Scalar] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                add(f"{name}.{key}", inner)
        else:
            settings[name] = value if isinstance(value, Scalar) else str(value)

    for name in SETTINGS:
        if name in manifest:
            add(name, manifest[name])
    return settings
