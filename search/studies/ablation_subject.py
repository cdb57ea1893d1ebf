"""What an ablation is of: a candidate of a run against the run's seed, or a named program against the Transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from ...primitives import DNA, UsageError
from ..config import RunConfig
from ..description import candidate_id_of
from ..evolution.candidate import SEED_ID
from ..leaderboard import leaderboard
from ..store import Store
from .record import identity_of
from .subjects import subjects_of

__all__ = ["BASELINE", "Pair", "folder_of", "pair_of_names", "pair_of_run"]

BASELINE = "TRANSFORMER"
"""What a named program is compared with."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two programs with what people call them.

    Attributes:
        seed, candidate: names and programs.
        folder: where results go unless the user says otherwise.
    """

    seed: tuple[str, DNA]
    candidate: tuple[str, DNA]
    folder: Path


def pair_of_run(
    run: str,
    named: str,
    *,
    trial_seconds: float | None = None,
    workers: int | None = None,
    workers_per_device: int | None = None,
    executor: Literal["ray", "inline"] | None = None,
) -> tuple[Pair, RunConfig]:
    """A candidate of a run, its seed, and the settings both were trained with.

    Args:
        run, named: what the user calls them; the candidate by its number or `best`.
        trial_seconds: another training budget.
        workers, workers_per_device, executor: others to train with.

    Raises:
        UsageError: there is no such run or candidate, it is the seed, or its budget counts steps.
    """
    with Store.open(run, read_only=True) as store, store.snapshot():
        number = candidate_id_of(named, leaderboard(store))
        if number == SEED_ID:
            raise UsageError(f"candidate {named} is the seed itself: name another, or `best`.")
        seed, candidate = store.candidate(SEED_ID).dna, store.candidate(number).dna
        config, path = RunConfig.from_dict(store.manifest["config"]), store.run.path
    if trial_seconds is not None and config.trial.unit == "steps":
        raise UsageError(f"run {path} counts its trial budgets in steps: leave out --trial-budget.")
    if trial_seconds is not None:
        config = replace(config, trial=replace(config.trial, budget_seconds=trial_seconds))
    if executor == "inline":  # which has no workers to count
        config = replace(config, workers=replace(config.workers, executor="inline", count=1, per_device=1))
    elif executor is not None:
        config = replace(config, workers=replace(config.workers, executor=executor))
    if workers is not None:
        config = replace(config, workers=replace(config.workers, count=workers))
    if workers_per_device is not None:
        config = replace(config, workers=replace(config.workers, per_device=workers_per_device))
    pair = Pair(("the seed", seed), (f"candidate {number} of {path.name}", candidate), path / f"ablation-{number}")
    return pair, config


def pair_of_names(named: str, config: RunConfig) -> Pair:
    """A library program, or a file of DNA, against the Transformer of the same unit.

    Raises:
        UsageError: there is no such program.
    """
    baseline, other = subjects_of([named], BASELINE, config.model.unit)
    unit = config.model.unit
    folder = Path("ablations") / folder_of(other.name, config, (baseline.at(unit), other.at(unit)))
    return Pair((baseline.name, baseline.at(unit)), (other.name, other.at(unit)), folder)


def folder_of(name: str, config: RunConfig, programs: Sequence[DNA]) -> str:
    """A folder's name for programs under settings, so that the same command goes on where it stopped."""
    settings = [asdict(section) for section in (config.model, config.trial, config.optimizer, config.data)]
    known = identity_of({"settings": settings, "dna": [dna.to_json() for dna in programs]})
    safe = "".join(sign if sign.isalnum() else "_" for sign in name)
    return f"{safe[:80]}-{known[:6]}"
