"""The job of one training: a candidate of a run at any scale, or the weights of an earlier training."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...models.checkpoint import read_model
from ...models.parameter_range import dna_at_unit
from ...primitives import DNA, UsageError
from ...primitives.programs.program_json import dna_from_json, dna_to_json
from ...system.files import file_sha256
from ...system.user_folders import user_path
from ...workers.config import OptimizerConfig, TrialConfig
from ...workers.protocol import Evaluation
from ..config import RunConfig
from ..evolution.candidate import BASELINE_ID, candidate_name
from ..results.program_reference import find_candidate_id
from ..runs.loss_floor import loss_floor_nats
from ..runs.run_settings import load_allowance_seconds, load_config
from ..runs.store import Store
from ..studies.confirm_at_scale import Contender, baseline_contender, explain_unfit
from ..studies.study_queue import Arm
from .held_out_text import text_settings
from .training_budget import apply_budget, without_reference
from .training_options import TrainingOptions

__all__ = ["TrainingJob", "plan_further_training", "plan_training"]

FURTHER_RATES = {"causal": (0.3, 0.01), "ul2r": (0.3, 0.01), "instruct": (0.1, 1.0)}
"""Learning rate of a training that continues from weights, by objective: the peak as a share of the rate of the first
training of these weights, and the end as a share of the peak. The ends are from papers: UL2R decays along a cosine to a
hundredth (Tay et al. 2022, arXiv 2210.11399), Flan keeps a constant rate (Chung et al. 2022, arXiv 2210.11416). The
peaks are our choice."""

Change = Callable[[RunConfig], RunConfig]


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One training.

    Attributes:
        folder: folder that the weights are written to.
        name: description of what is trained, for messages.
        dna: program, with the query scale for its unit.
        config: settings; the vocabulary in them is the number of token ids of the text.
        seed: random seed of the parameters and of the order of the text.
        run: folder of the run; None if the training continues from saved weights.
        candidate: id of the candidate, if known.
        baseline: baseline program, whose step time is the unit of reference seconds; None: not needed.
        dataset: folder of the dataset of the run.
        dataset_hash: hash of the dataset; None if the user named another text, `config.data.source`.
        allowance_seconds: step time of the baseline that the search measured; None if it did not measure it.
        suspicious_nats: loss below which the trained model is probed on more text.
        expected_seconds: expected wall-clock time, from the run's trials; None: unknown.
        unit: unit of width that the search resized the candidate to; None: the configured unit.
        initial: folder of the weights that the training starts from; None: random parameters.
        initial_hash: hash of the file `model.json` of these weights.
        first_rate: learning rate of the first training of these weights; None if this training is the first.
        objective: name of the objective.
        examples: hashes of the files of examples, by absolute path.
        mixture, cap, regularizer, strength: as in `TrainingOptions`.
        final_rate: learning rate at the end as a share of the peak.
    """

    folder: Path
    name: str
    dna: DNA
    config: RunConfig
    seed: int = 0
    run: Path | None = None
    candidate: int | None = None
    baseline: DNA | None = None
    dataset: str | None = None
    dataset_hash: str | None = None
    allowance_seconds: float | None = None
    suspicious_nats: float | None = None
    expected_seconds: float | None = None
    unit: int | None = None
    initial: Path | None = None
    initial_hash: str | None = None
    first_rate: float | None = None
    objective: str = "causal"
    examples: Mapping[str, str] = field(default_factory=dict)
    mixture: Mapping[str, float] | None = None
    cap: int | None = None
    regularizer: str = "none"
    strength: float | None = None
    final_rate: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the job as JSON values, without its folder, because that may be moved."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "folder"}
        for name in ("dna", "baseline"):
            values[name] = None if values[name] is None else json.loads(dna_to_json(values[name]))
        for name in ("run", "initial"):
            values[name] = None if values[name] is None else str(values[name])
        return json.loads(json.dumps({**values, "config": self.config.to_dict()}))

    @staticmethod
    def from_dict(folder: Path, values: Mapping[str, Any]) -> TrainingJob:
        """Invert `to_dict`.

        Raises:
            UsageError: values are missing, or another version of this package wrote them.
        """
        try:
            read = dict(values)
            for name in ("dna", "baseline"):
                read[name] = None if read[name] is None else dna_from_json(json.dumps(read[name]))
            for name in ("run", "initial"):
                read[name] = None if read[name] is None else Path(read[name])
            read["config"] = RunConfig.from_dict(read["config"])
            return TrainingJob(folder=folder, **read)
        except (LookupError, TypeError, ValueError) as error:
            raise UsageError(f"the interrupted training of {folder} is of another version: train again") from error


def plan_training(
    run: str,
    named: str,
    options: TrainingOptions | None = None,
    change: Change = lambda config: config,
) -> TrainingJob:
    """Plan the training of a candidate from random parameters, without importing JAX.

    Args:
        run: name or path of the run.
        named: the candidate: its number, `best` or `baseline`.
        options: options that differ from the candidate's trials.
        change: applies the scale to the settings of the run.

    Raises:
        UsageError: the run or the candidate does not exist, the budget is malformed, or the program does not fit the
            scale.
    """
    options = options or TrainingOptions()
    with Store.open(run, read_only=True) as store, store.snapshot():
        number = find_candidate_id(store, named)
        manifest, candidate = store.manifest, store.candidate(number)
        own = load_config(store)
        config, arm = own, Arm("", dna_at_unit(candidate.dna, own.model, candidate.unit), unit=candidate.unit)
        recorded = manifest.get("baseline_dna")
        baseline = store.candidate(BASELINE_ID).dna if recorded is None else dna_from_json(recorded)
        if options.scale:
            config = change(own)
            contender = Contender(candidate_name(number), number, candidate.dna, None, candidate.unit)
            library = baseline_contender(own, candidate.dna) if number == BASELINE_ID else contender
            arm = library.arm(config.model, own.model.unit)
            if why := explain_unfit(arm, config):
                raise UsageError(f"{candidate_name(number)} cannot be trained at --scale {options.scale}: {why}")
        plain = not options.suffix
        trial = replace(config.trial, price=False, hurdles=0) if plain else without_reference(config.trial)
        trial = trial if options.budget is None else apply_budget(trial, options.budget)
        finished = [each for each in store.evaluations() if each.evaluation.outcome == "ok"]
        trials = [each.evaluation for each in finished if each.candidate_id in (number, candidate.same_as)]
        baselines = [each.evaluation for each in finished if each.candidate_id == BASELINE_ID]
        comparable = plain and trial.unit == own.trial.unit
        evaluations = [each.evaluation for each in finished]
        path = store.run.path
        return TrainingJob(
            folder=_output(options, store.run.weights(number)),
            name=f"{candidate_name(number)} of run {path}",
            dna=arm.dna,
            config=replace(config, trial=trial),
            run=path,
            candidate=number,
            baseline=baseline if trial.unit == "reference_seconds" else None,
            dataset=manifest.get("dataset"),
            dataset_hash=manifest.get("dataset_hash"),
            allowance_seconds=load_allowance_seconds(store) if comparable else None,
            suspicious_nats=(
                loss_floor_nats(baselines, manifest.get("ngram_nats")) if plain and number != BASELINE_ID else None
            ),
            expected_seconds=(
                _expected_seconds((trials or evaluations)[-1:], trial.budget / own.trial.budget) if comparable else None
            ),
            unit=arm.unit,
            **options.job_fields(),
            final_rate=1.0 if options.final_rate is None else options.final_rate,
        )


def plan_further_training(
    place: str,
    options: TrainingOptions | None = None,
    change: Change = lambda config: config,
    data: str | None = None,
) -> TrainingJob:
    """Plan a training that starts from saved weights, with a new optimizer, without importing JAX.

    Args:
        place: folder of the weights.
        options: options that differ from the training of the weights.
        change: applies the scale to the settings of the weights.
        data: text to train on, encoded by the tokenizer of the weights; None: the text of the weights.

    Raises:
        UsageError: the folder has no weights, the budget is malformed, or the scale changes the shape of the model.
    """
    options = options or TrainingOptions()
    folder = user_path(place)
    dna, model, training = read_model(folder)
    settings = training.get("settings", {})
    text, vocabulary, dataset_hash = text_settings(training, model.vocabulary, folder, data)
    config = RunConfig(
        model=replace(model, vocabulary=vocabulary, parameter_range=()),
        trial=without_reference(TrialConfig(**settings.get("trial", {}))),
        optimizer=OptimizerConfig(**settings.get("optimizer", {})),
        data=text,
    )
    peak, final = FURTHER_RATES[options.objective]
    first = training.get("first_rate", config.optimizer.learning_rate)
    config = change(replace(config, optimizer=replace(config.optimizer, learning_rate=first * peak)))
    if (config.model.layers, config.model.unit) != (model.layers, model.unit):
        raise UsageError(
            f"--scale {options.scale} changes the shape of the weights in {folder}: leave out layers and unit, or "
            "train a candidate of a run from the start"
        )
    trial = config.trial if options.budget is None else apply_budget(config.trial, options.budget)
    ending = "" if options.suffix else "-further"
    return TrainingJob(
        folder=_output(options, folder.with_name(f"{folder.name}{ending}")),
        name=f"the weights in {folder}",
        dna=dna,
        config=replace(config, trial=trial),
        candidate=training.get("candidate"),
        dataset_hash=dataset_hash,
        initial=folder.absolute(),
        initial_hash=file_sha256(folder / "model.json"),
        first_rate=first,
        **options.job_fields(),
        final_rate=final if options.final_rate is None else options.final_rate,
    )


def _output(options: TrainingOptions, default: Path) -> Path:
    if options.output is not None:
        return user_path(options.output)
    return default.with_name(default.name + options.suffix)


def _expected_seconds(trials: list[Evaluation], budget_ratio: float) -> float | None:
    """Return the expected wall-clock time of a training, from a finished trial and the ratio of their budgets."""
    if not trials:
        return None
    return trials[0].wall_seconds + trials[0].train_seconds * (budget_ratio - 1.0)
