"""A candidate's weights: trained when somebody wants them, under the settings of its run.

A search keeps no weights, since it trains hundreds of candidates; one training more gives them. It runs in this
process, goes through every check of a trial, and what it leaves is what evaluation saw: `RUN/weights/12/`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..primitives import DNA, UsageError, WorkFailedError
from ..primitives.program_json import dna_from_json, dna_to_json
from ..system.signals import Interrupted, interrupt_on_termination
from ..workers.data.dataset import Dataset, prepare
from ..workers.protocol import Evaluation, Progress, TrialRequest
from .config import RunConfig
from .evolution.candidate import SEED_ID, candidate_name
from .results.leaderboard import leaderboard
from .results.program_reference import candidate_id_of
from .runs.loss_floor import plausible_nats
from .runs.run_directory import RunDirectory, find_run
from .runs.run_settings import allowance_of
from .runs.store import Store

if TYPE_CHECKING:  # loads JAX
    from ..models.checkpoint import Weights
    from ..workers.training.trial import CandidateTrainer

__all__ = ["TrainingJob", "load_saved_weights", "load_weights_folder", "plan_training", "train_weights"]

WEIGHTS = "weights"
"""Folder in a run's directory; each candidate's lie in one of their own, under its number."""


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One training to be done for its weights.

    Attributes:
        run: of the candidate.
        candidate: its number; `dna`: its program.
        config: of the run, but for the training budget.
        reference: the seed program, whose step is the measure of reference seconds.
        seed: of the parameters and of the order of the text.
        dataset, dataset_hash: where the run found its text, and what that was.
        allowance_seconds: what a step of the seed was charged in the search, if it was timed.
        suspicious_nats: a loss below it is rechecked on more text.
        expected_seconds: wall clock it will take, judged by the run's trials; None where none ended.
    """

    run: RunDirectory
    candidate: int
    dna: DNA
    config: RunConfig
    reference: DNA
    seed: int
    dataset: str | None
    dataset_hash: str | None
    allowance_seconds: float | None
    suspicious_nats: float | None
    expected_seconds: float | None

    @property
    def name(self) -> str:
        """In a sentence."""
        return f"{candidate_name(self.candidate)} of run {self.run.path}"

    @property
    def folder(self) -> Path:
        """Where the weights go."""
        return self.run.path / WEIGHTS / str(self.candidate)


def plan_training(run: str, named: str, *, trial_seconds: float | None = None, seed: int = 0) -> TrainingJob:
    """What it takes to train a candidate again; imports no JAX.

    Args:
        run, named: what the user calls them; the candidate by its number, `best` or `seed`.
        trial_seconds: another training budget than the run's.
        seed: of the training.

    Raises:
        UsageError: there is no such run or candidate, or its budget counts steps.
    """
    with Store.open(run, read_only=True) as store, store.snapshot():
        number = candidate_id_of(named, leaderboard(store))
        manifest, candidate = store.manifest, store.candidate(number)
        config = RunConfig.from_dict(manifest["config"])
        former = config.trial.budget
        if trial_seconds is not None:
            if config.trial.unit == "steps":
                raise UsageError(f"run {store.run.path} counts its trial budgets in steps: leave out --trial-budget.")
            config = replace(config, trial=replace(config.trial, budget_seconds=trial_seconds))
        full = [trial for trial in store.evaluations() if trial.evaluation.outcome == "ok"]
        seed_dna = manifest.get("seed_dna")
        own = [trial.evaluation for trial in full if trial.candidate_id in (number, candidate.same_as)]
        others = [trial.evaluation for trial in full]
        seeds = [trial.evaluation for trial in full if trial.candidate_id == SEED_ID]
        return TrainingJob(
            store.run,
            number,
            candidate.dna,
            config,
            store.candidate(SEED_ID).dna if seed_dna is None else dna_from_json(seed_dna),
            seed,
            manifest.get("dataset"),
            manifest.get("dataset_hash"),
            allowance_of(store) or config.trial.allowance_ms / 1000 or None,
            plausible_nats(seeds, manifest.get("ngram_nats")) if number != SEED_ID else None,
            _expected_seconds((own or others)[-1:], config.trial.budget / former),
        )


def load_saved_weights(job: TrainingJob) -> Weights | None:
    """The candidate's weights, None if nobody has trained them.

    Raises:
        UsageError: what lies there is damaged, or of another program.
    """
    from ..models.checkpoint import load_weights

    return load_weights(job.folder, dna=job.dna) if job.folder.exists() else None


def load_weights_folder(place: str) -> Weights:
    """The weights in a folder that a user names.

    Raises:
        UsageError: there are none, they are damaged, or it is a run, of which a candidate must be named.
    """
    from ..models.checkpoint import load_weights

    if not (Path(place) / "model.json").is_file():
        run = find_run(place)
        raise UsageError(f"{run.path} is a run: name a candidate of it, such as `best`.")
    return load_weights(place)


def train_weights(
    job: TrainingJob,
    *,
    overwrite: bool = False,
    progress: Callable[[Progress], None] = lambda progress: None,
    tell: Callable[[str], None] = lambda line: None,
) -> Weights:
    """Train the candidate in this process, and save what evaluation saw to its folder.

    Args:
        assignment: what to train.
        overwrite: replace weights that are there.
        progress: told where the training stands, several times a second.
        tell: called with lines on what happens.

    Raises:
        UsageError: there are weights already, the text is not what it was, or the folder cannot be written.
        WorkFailedError: the training did not end well, and left no weights.
        Interrupted: Ctrl-C or SIGTERM; nothing is kept.
    """
    from ..models.checkpoint import Weights, save_weights
    from ..workers.training.trial import CandidateTrainer

    if job.folder.exists() and not overwrite:
        raise UsageError(f"{job.folder} holds weights already: replace them with --force.")
    if not os.access(job.run.path, os.W_OK):
        raise UsageError(f"you may not write in run {job.run.path}: copy it to a place of yours first.")
    config = job.config
    takes = "" if job.expected_seconds is None else f", about {job.expected_seconds:.0f} s"
    tell(f"training {job.name} for its weights{takes}")
    kept: list[Any] = []
    try:
        with interrupt_on_termination() as interruption:
            progress = interruption.check_before(progress)
            dataset = _text(job, tell)
            trainer = CandidateTrainer(
                config.model, config.trial, config.optimizer, str(dataset.path), dna_to_json(job.reference)
            )
            evaluation = trainer.run(_request(job, trainer, progress), progress, kept.append)
    except KeyboardInterrupt:
        raise Interrupted("interrupted: nothing of the training was kept") from None
    if not kept:
        raise WorkFailedError(
            f"{job.name} left no weights, as its training ended with {evaluation.outcome}: {evaluation.message}"
        )
    facts = _facts(job, evaluation, dataset)
    weights = Weights(job.dna, trainer.model, kept[0], dataset.tokenizer().to_json(), facts)
    save_weights(job.folder, weights, overwrite)
    return weights


def _request(job: TrainingJob, trainer: CandidateTrainer, progress: Callable[[Progress], None]) -> TrialRequest:
    """The trial; where budgets count reference seconds and no search has timed the seed, it is timed now."""
    number, allowance = job.candidate, job.allowance_seconds
    if job.config.trial.unit == "reference_seconds" and allowance is None:
        timed = trainer.run(TrialRequest(0, SEED_ID, dna_to_json(job.reference), 0, calibrate=True), progress)
        allowance = (timed.step_ms or 0.0) / 1000 or None
    return TrialRequest(
        1,
        number,
        dna_to_json(job.dna),
        job.seed,
        allowance_seconds=allowance,
        suspicious_nats=job.suspicious_nats,
    )


def _text(job: TrainingJob, tell: Callable[[str], None]) -> Dataset:
    """The text the run was trained on: where it found it, or prepared again."""
    wanted = job.dataset_hash
    if job.dataset is not None:
        try:
            dataset = Dataset.open(job.dataset)
        except UsageError:
            dataset = None  # the run came from another machine, or its cache was emptied
        if dataset is not None and dataset.dataset_hash == wanted:
            return dataset
    data = job.config.data
    dataset = Dataset.open(prepare(data, job.config.model.vocabulary, progress=tell), verify=False)
    if wanted is not None and dataset.dataset_hash != wanted:
        raise UsageError(
            f"the text of {data.source} changed since run {job.run.path} began "
            f"(hash {dataset.dataset_hash[:12]}, was {wanted[:12]}): restore it, or start a new run."
        )
    return dataset


def _facts(job: TrainingJob, evaluation: Evaluation, dataset: Dataset) -> dict[str, Any]:
    trial = job.config.trial
    return {
        "run": job.run.path.resolve().name,
        "candidate": job.candidate,
        "data": job.config.data.source,
        "dataset_hash": dataset.dataset_hash,
        "seed": job.seed,
        "budget": trial.budget,
        "budget_unit": trial.unit,
        "averaging": job.config.optimizer.averaging,
        "steps": evaluation.steps,
        "tokens": evaluation.tokens,
        "epochs": evaluation.epochs,
        "loss_nats": evaluation.loss_nats,
        "bits_per_byte": evaluation.bits_per_byte,
        "moved_logits": evaluation.moved_logits,
        "quarantine": evaluation.quarantine,
        "parameters": evaluation.parameters,
        "wall_seconds": evaluation.wall_seconds,
        "device": evaluation.device,
    }


def _expected_seconds(trials: list[Evaluation], budgets: float) -> float | None:
    """Wall clock of a training, from one that ended and the ratio of their budgets."""
    if not trials:
        return None
    return trials[0].wall_seconds + trials[0].train_seconds * (budgets - 1.0)
