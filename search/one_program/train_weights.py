"""Train a candidate's weights on demand, under the settings of its run.

A search trains hundreds of candidates and saves no weights, so the candidate is trained once more. The training runs in
this process with every check of a trial, and saves the weights that evaluation saw to `RUN/weights/12/`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...models.parameter_range import dna_at_unit
from ...primitives import DNA, UsageError, WorkFailedError
from ...primitives.program_json import dna_from_json, dna_to_json
from ...system.signals import Interrupted, interrupt_on_termination
from ...system.user_folders import user_path
from ...workers.data.dataset import Dataset
from ...workers.protocol import Evaluation, Progress, TrialRequest
from ..config import RunConfig
from ..evolution.candidate import BASELINE_ID, candidate_name
from ..results.program_reference import find_candidate_id
from ..runs.calibration import Calibration
from ..runs.loss_floor import loss_floor_nats
from ..runs.run_directory import RunDirectory, find_run
from ..runs.run_settings import load_allowance_seconds, load_config, prepare_same_dataset
from ..runs.store import Store

if TYPE_CHECKING:  # loads JAX
    from ...models.checkpoint import Weights
    from ...workers.training.trial import CandidateTrainer

__all__ = ["TrainingJob", "load_saved_weights", "load_weights_folder", "plan_training", "train_weights"]

RECORDED = (
    "steps", "tokens", "epochs", "loss_nats", "bits_per_byte", "moved_logits", "quarantine", "parameters",
    "wall_seconds", "device",
)  # fmt: skip
"""Fields of the evaluation that are saved with the weights."""


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """The training of a candidate for its weights.

    Attributes:
        run: run of the candidate.
        candidate: id of the candidate.
        dna: program of the candidate, with its query scales for its unit.
        config: configuration of the run, possibly with another training budget.
        baseline: baseline program, whose step time is the unit of reference seconds.
        seed: random seed of the parameters and of the order of the text.
        dataset: folder of the run's dataset.
        dataset_hash: hash of the run's dataset.
        allowance_seconds: step time of the baseline that the search measured; None if it measured none.
        suspicious_nats: loss below which the trial is rechecked on more text.
        expected_seconds: expected wall clock, from the run's trials; None if no trial ended.
        unit: unit of width that the search resized the candidate to; None: that of the run.
    """

    run: RunDirectory
    candidate: int
    dna: DNA
    config: RunConfig
    baseline: DNA
    seed: int
    dataset: str | None
    dataset_hash: str | None
    allowance_seconds: float | None
    suspicious_nats: float | None
    expected_seconds: float | None
    unit: int | None = None

    @property
    def name(self) -> str:
        """The candidate and its run, for messages."""
        return f"{candidate_name(self.candidate)} of run {self.run.path}"

    @property
    def folder(self) -> Path:
        """Folder of the weights."""
        return self.run.weights(self.candidate)


def plan_training(run: str, named: str, *, trial_budget: str | None = None, seed: int = 0) -> TrainingJob:
    """Plan the training of a candidate, without importing JAX.

    Args:
        run: name or path of the run.
        named: the candidate: its number, `best` or `baseline`.
        trial_budget: training budget, `5m` or `5000steps`; None is the run's.
        seed: random seed of the training.

    Raises:
        UsageError: the run or the candidate does not exist, or the budget is of the other kind than the run's.
    """
    with Store.open(run, read_only=True) as store, store.snapshot():
        number = find_candidate_id(store, named)
        manifest, candidate = store.manifest, store.candidate(number)
        config = load_config(store, trial_budget)
        budget_ratio = config.trial.budget / load_config(store).trial.budget
        finished = [trial for trial in store.evaluations() if trial.evaluation.outcome == "ok"]
        baseline_dna = manifest.get("baseline_dna")
        own = [trial.evaluation for trial in finished if trial.candidate_id in (number, candidate.same_as)]
        others = [trial.evaluation for trial in finished]
        baselines = [trial.evaluation for trial in finished if trial.candidate_id == BASELINE_ID]
        return TrainingJob(
            store.run,
            number,
            dna_at_unit(candidate.dna, config.model, candidate.unit),
            config,
            store.candidate(BASELINE_ID).dna if baseline_dna is None else dna_from_json(baseline_dna),
            seed,
            manifest.get("dataset"),
            manifest.get("dataset_hash"),
            load_allowance_seconds(store),
            loss_floor_nats(baselines, manifest.get("ngram_nats")) if number != BASELINE_ID else None,
            _expected_seconds((own or others)[-1:], budget_ratio),
            candidate.unit,
        )


def load_saved_weights(job: TrainingJob) -> Weights | None:
    """Return the candidate's saved weights, or None if there are none.

    Raises:
        UsageError: the weights are damaged, or of another program.
    """
    from ...models.checkpoint import load_weights

    return load_weights(job.folder, dna=job.dna) if job.folder.exists() else None


def load_weights_folder(place: str) -> Weights:
    """Return the weights in a folder that a user names.

    Raises:
        UsageError: the folder holds no weights, damaged ones, or a run, which needs a candidate as well.
    """
    from ...models.checkpoint import load_weights

    folder = user_path(place)
    if not (folder / "model.json").is_file():
        raise UsageError(f"{find_run(place).path} is a run: name a candidate as well, such as `best`")
    return load_weights(folder)


def train_weights(
    job: TrainingJob,
    *,
    overwrite: bool = False,
    progress: Callable[[Progress], None] = lambda progress: None,
    tell: Callable[[str], None] = lambda line: None,
) -> Weights:
    """Train the candidate in this process and save the weights that evaluation saw.

    Args:
        job: the training.
        overwrite: replace existing weights.
        progress: called with the state of the training several times a second.
        tell: called with messages.

    Raises:
        UsageError: there are weights already, the text has changed, or the folder cannot be written.
        WorkFailedError: the training failed and left no weights.
        Interrupted: Ctrl-C or SIGTERM; nothing is saved.
    """
    from ...models.checkpoint import Weights, save_weights
    from ...workers.training.trial import CandidateTrainer

    if job.folder.exists() and not overwrite:
        raise UsageError(f"{job.folder} holds weights already: replace them with --force")
    if not os.access(job.run.path, os.W_OK):
        raise UsageError(f"run {job.run.path} is not writable: copy it to a folder that is")
    config = job.config
    estimate = "" if job.expected_seconds is None else f", about {job.expected_seconds:.0f} s"
    tell(f"training {job.name} for its weights{estimate}")
    parameters: list[Any] = []
    try:
        with interrupt_on_termination() as interruption:
            progress = interruption.check_before(progress)
            dataset = prepare_same_dataset(config, {"dataset": job.dataset, "dataset_hash": job.dataset_hash}, tell)
            trainer = CandidateTrainer(
                config.model, config.trial, config.optimizer, str(dataset.path), dna_to_json(job.baseline)
            )
            evaluation = trainer.run(_request(job, trainer, progress), progress, parameters.append)
    except KeyboardInterrupt:
        raise Interrupted("interrupted: no weights were saved") from None
    if not parameters:
        raise WorkFailedError(
            f"the training of {job.name} left no weights; it ended with {evaluation.outcome}: {evaluation.message}"
        )
    record = _training_record(job, evaluation, dataset)
    model = trainer.model if job.unit is None else replace(trainer.model, unit=job.unit, parameter_range=())
    weights = Weights(job.dna, model, parameters[0], dataset.tokenizer().to_json(), record)
    save_weights(job.folder, weights, overwrite)
    return weights


def _request(job: TrainingJob, trainer: CandidateTrainer, progress: Callable[[Progress], None]) -> TrialRequest:
    """Return the trial; if its budget needs the step time of the baseline and the search has none, measure it now."""
    calibration = Calibration(job.config, job.baseline, job.allowance_seconds)
    while calibration.needed:
        calibration.record(trainer.run(calibration.request(), progress))
    return TrialRequest(
        1,
        job.candidate,
        dna_to_json(job.dna),
        job.seed,
        allowance_seconds=calibration.allowance_seconds,
        suspicious_nats=job.suspicious_nats,
        unit=job.unit,
    )


def _training_record(job: TrainingJob, evaluation: Evaluation, dataset: Dataset) -> dict[str, Any]:
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
        **{field: getattr(evaluation, field) for field in RECORDED},
    }


def _expected_seconds(trials: list[Evaluation], budget_ratio: float) -> float | None:
    """Return the expected wall clock of a training, from a finished one and the ratio of their budgets."""
    if not trials:
        return None
    return trials[0].wall_seconds + trials[0].train_seconds * (budget_ratio - 1.0)
