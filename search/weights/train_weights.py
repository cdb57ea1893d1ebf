"""Train the weights of a candidate, with the run's settings or at another scale, or train saved weights further.

A search trains hundreds of candidates and saves no weights, so a candidate is trained once more. The training runs in
this process with every check of a trial. It saves its state every few minutes, and finally writes the weights that the
evaluation used. The same command, or `--resume`, continues an interrupted training.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...primitives import PrimerSearchError, UsageError, WorkFailedError, build_graph
from ...primitives.programs.program_json import dna_to_json
from ...system.signals import Interrupted, interrupt_on_termination
from ...workers.data.dataset import Dataset
from ...workers.protocol import Evaluation, Progress
from ...workers.training.training_settings import CURVE, TrainingSettings, UnusableState
from ..runs.calibration import Calibration
from ..runs.run_settings import prepare_same_dataset, tell_limits
from .held_out_text import find_text
from .training_folder import begin_again, open_training_folder, read_recorded_job
from .training_job import TrainingJob
from .training_objective import check_capable, make_objective, reads_prefix

if TYPE_CHECKING:  # loads JAX
    from ...models.analysis.linearity_penalty import LinearityPenalty
    from ...models.checkpoint import Weights
    from ...workers.training.resumable_training import ModelTraining
    from ...workers.training.trial import CandidateTrainer

__all__ = ["SAVE_SECONDS", "train_weights"]

SAVE_SECONDS = 300.0
"""Default wall-clock time between two saved states, in seconds: a killed training loses at most this time."""

RECORDED = (
    "steps", "tokens", "epochs", "loss_nats", "bits_per_byte", "moved_logits", "quarantine", "parameters",
    "wall_seconds", "train_seconds", "device",
)  # fmt: skip
"""Fields of the evaluation that are saved with the weights."""

ReportProgress = Callable[[Progress], None]
Tell = Callable[[str], None]


def train_weights(
    job: TrainingJob,
    *,
    overwrite: bool = False,
    save_seconds: float = SAVE_SECONDS,
    progress: ReportProgress = lambda progress: None,
    tell: Tell = lambda line: None,
) -> Weights:
    """Train in this process, or continue the same interrupted training, and save the weights that were evaluated.

    Args:
        job: the training.
        overwrite: replace existing weights, and discard an interrupted training that has other settings or cannot be
            continued.
        save_seconds: wall-clock time between two saved states.
        progress: called with the state of the training several times a second.
        tell: called with messages.

    Raises:
        UsageError: the folder already has weights, the text has changed, or the folder cannot be written.
        WorkFailedError: the training failed and left no weights.
        Interrupted: Ctrl-C or SIGTERM; the state is saved if training had begun.
    """
    if job.folder.exists() and not overwrite:
        raise UsageError(f"{job.folder} holds weights already: replace them with --force")
    estimate = "" if job.expected_seconds is None else f", about {job.expected_seconds:.0f} s"
    with open_training_folder(job.folder, job.to_dict(), overwrite) as folder:
        recorded = TrainingJob.from_dict(job.folder, read_recorded_job(job.folder))  # the interrupted job, if any
        tell(f"training {job.name}{estimate}")
        try:
            with interrupt_on_termination() as interruption:
                progress = interruption.check_before(progress)
                try:
                    weights, training = _train(recorded, folder, save_seconds, progress, tell)
                except UnusableState as error:
                    if not overwrite:
                        raise UnusableState(f"{error}: train again with --force") from error
                    tell(f"note: {error}, so the training begins again")
                    begin_again(folder, job.to_dict())
                    weights, training = _train(job, folder, save_seconds, progress, tell)
                _save(job, weights, training, overwrite)
        except KeyboardInterrupt:
            raise Interrupted(_interruption_message(job, folder)) from None
        except UnusableState:
            raise
        except PrimerSearchError as error:
            if _is_fault_of_program(error):
                shutil.rmtree(folder, ignore_errors=True)  # a continued training would fail in the same way
                raise
            if _delete_if_empty(folder):
                raise
            raise type(error)(f"{error}; then continue with `{_resume_command(job)}`") from error
        shutil.rmtree(folder, ignore_errors=True)
    return weights


def _is_fault_of_program(error: Exception) -> bool:
    """Return whether the program, not the machine, caused the failure of a training."""
    from ...workers.training.trial import PROGRAM_FAULTS

    return isinstance(error.__cause__, PROGRAM_FAULTS)


def _train(
    job: TrainingJob, folder: Path, save_seconds: float, progress: ReportProgress, tell: Tell
) -> tuple[Weights, ModelTraining]:
    """Return the trained weights, and the finished training."""
    from ...models.checkpoint import Weights, grow_vocabulary
    from ...models.language_model import language_model
    from ...workers.training.resumable_training import ModelTraining
    from ...workers.training.training_state import TrainingStates
    from ...workers.training.trial import CANDIDATE_FAULTS, CandidateTrainer, fault_outcome

    config, initial = job.config, _initial_weights(job)
    check_capable(job, build_graph(job.dna, length_dependent=config.model.length_dependent), initial)
    dataset = _dataset(job, initial, tell)
    reference = None if job.baseline is None else dna_to_json(job.baseline)
    trainer = CandidateTrainer(config.model, config.trial, config.optimizer, str(dataset.path), reference)
    model = trainer.model if job.unit is None else replace(trainer.model, unit=job.unit, parameter_range=())
    objective = make_objective(job, dataset, initial)
    for note in objective.notes:
        tell(f"note: {note}")
    if initial is None:
        model = replace(model, vocabulary=max(model.vocabulary, objective.vocabulary))
    else:
        _check_vocabulary(job, dataset, initial)
        initial = grow_vocabulary(initial, objective.vocabulary, job.seed)
        model = replace(initial.model, length=config.model.length)
    settings = TrainingSettings(
        job.seed,
        job.final_rate,
        save_seconds,
        allowance_seconds=_allowance_seconds(job, trainer, progress),
        suspicious_nats=job.suspicious_nats,
    )
    training: ModelTraining | None = None
    try:
        graph = build_graph(job.dna, length_dependent=model.length_dependent)
        training = ModelTraining(
            trainer,
            language_model(graph, model),
            objective,
            config.optimizer,
            settings,
            TrainingStates(folder),
            progress,
            tell,
            _penalty(job),
            None if initial is None else initial.parameters,
        )
        parameters, evaluation = training.run()
    except CANDIDATE_FAULTS as fault:
        outcome, why = fault_outcome(fault, training is not None and training.compiled)
        raise WorkFailedError(f"the training of {job.name} left no weights; it ended with {outcome}: {why}") from fault
    record = _training_record(job, evaluation, dataset, training, initial)
    tokenizer = dataset.tokenizer().to_json() if initial is None else initial.tokenizer
    return Weights(job.dna, model, parameters, tokenizer, record), training


def _initial_weights(job: TrainingJob) -> Weights | None:
    """Return the weights that the training starts from; None: random parameters."""
    from ...models.checkpoint import load_weights
    from ...system.files import file_sha256

    if job.initial is None:
        return None
    weights = load_weights(job.initial)
    if file_sha256(job.initial / "model.json") != job.initial_hash:
        raise UnusableState(f"the weights in {job.initial} have changed since this training began")
    return weights


def _check_vocabulary(job: TrainingJob, dataset: Dataset, initial: Weights) -> None:
    """Check that the weights embed every token id of the text.

    Raises:
        UsageError: the text has more token ids.
    """
    if dataset.vocabulary > initial.model.vocabulary:
        raise UsageError(
            f"the text has {dataset.vocabulary} token ids, but the weights in {job.initial} embed "
            f"{initial.model.vocabulary}: give text with --data, which their own tokenizer encodes"
        )


def _dataset(job: TrainingJob, initial: Weights | None, tell: Tell) -> Dataset:
    """Return the text of the run, the text of the weights, or another text."""
    if initial is None or job.initial is None:
        return prepare_same_dataset(job.config, {"dataset": job.dataset, "dataset_hash": job.dataset_hash}, tell)
    other = job.config.data.source if job.dataset_hash is None else None
    dataset = find_text(initial, job.initial, other, tell)
    tell_limits(dataset, job.config, tell)
    return dataset


def _penalty(job: TrainingJob) -> LinearityPenalty | None:
    from ...models.analysis.linearity_penalty import LinearityPenalty

    if job.strength is None or job.regularizer == "none":
        return None
    return LinearityPenalty("cosine" if job.regularizer == "cosine" else "mse", job.strength)


def _allowance_seconds(job: TrainingJob, trainer: CandidateTrainer, progress: ReportProgress) -> float | None:
    """Return the baseline's step time, measured by the search or now; None if the budget does not need it."""
    if job.baseline is None:
        return None
    calibration = Calibration(job.config, job.baseline, job.allowance_seconds)
    while calibration.needed:
        calibration.record(trainer.run(calibration.request(), progress))
    return calibration.allowance_seconds


def _training_record(
    job: TrainingJob, evaluation: Evaluation, dataset: Dataset, training: ModelTraining, initial: Weights | None
) -> dict[str, Any]:
    """Return the record of the training as JSON values: the origin of the weights, the settings and the result."""
    config, trial = job.config, job.config.trial
    origin, vocabulary = None, dataset.vocabulary
    if initial is not None:
        former = {name: value for name, value in initial.training.items() if name != "settings"}
        vocabulary = initial.training.get("vocabulary", vocabulary)
        origin = {"folder": str(job.initial), "sha256": job.initial_hash, "training": former}
    return {
        "run": None if job.run is None else job.run.resolve().name,
        "candidate": job.candidate,
        "from": origin,
        "objective": job.objective,
        "prefix": reads_prefix(job, initial),
        "examples": dict(job.examples),
        "mixture": job.mixture,
        "regularizer": job.regularizer,
        "strength": job.strength,
        "data": config.data.source,
        "dataset_hash": dataset.dataset_hash,
        "vocabulary": vocabulary,
        "seed": job.seed,
        "budget": trial.budget,
        "budget_unit": trial.unit,
        "averaging": config.optimizer.averaging,
        "learning_rate": config.optimizer.learning_rate,
        "first_rate": job.first_rate or config.optimizer.learning_rate,
        "final_rate": job.final_rate,
        "first_loss_nats": None if initial is None else training.validation[0][2],
        "first_text_nats": training.first_text_nats,
        "text_nats": training.text_nats,
        **{field: getattr(evaluation, field) for field in RECORDED},
        "settings": {name: asdict(getattr(config, name)) for name in ("trial", "optimizer", "data")},
    }


def _save(job: TrainingJob, weights: Weights, training: ModelTraining, overwrite: bool) -> None:
    from ...models.checkpoint import save_weights

    save_weights(job.folder, weights, overwrite, {CURVE: training.curve_text()})


def _interruption_message(job: TrainingJob, folder: Path) -> str:
    """Return the message of an interruption; a folder without a saved state is deleted."""
    if _delete_if_empty(folder):
        return "interrupted before the training began: no weights were saved"
    steps = max(path.name.removeprefix("state-") for path in folder.glob("state-*")).lstrip("0")
    return f"interrupted after {int(steps or 0):,} steps: continue with `{_resume_command(job)}`"


def _resume_command(job: TrainingJob) -> str:
    """Return the command that continues a training; it has `--force` if weights exist already."""
    return f"primer-search train --resume {job.folder}{' --force' if job.folder.exists() else ''}"


def _delete_if_empty(folder: Path) -> bool:
    """Delete the folder of a training that has saved no state; return whether it had none."""
    if any(folder.glob("state-*")):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return True
