"""One trial: train a candidate for a fixed budget, and return the evaluation.

    build -> compile -> probe -> (train to a hurdle -> evaluate)* -> train to the end -> evaluate -> probe again

Compilation, probes and evaluation have their own clocks and are not charged to the budget (Primer, section 2: "a fixed
training budget"). A fault of the candidate becomes an outcome.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import numpy as np

from ...models.config import ModelConfig
from ...models.language_model import language_model
from ...primitives import InvalidProgramError, build_graph
from ...primitives.graphs.cost import block_cost, model_parameters
from ...primitives.programs.program_json import dna_from_json
from ...system.allocator import return_freed_memory
from ..config import OptimizerConfig, TrialConfig
from ..data.batches import TrainBatches, validation_batches
from ..data.dataset import Dataset
from ..position_buckets import bucket_means
from ..price_prior import log_price_at_hurdle, step_counts
from ..protocol import Evaluation, HurdleThreshold, Progress, TrialRequest
from .budget_meter import ClockMeter, Meter, ReferenceMeter, StepMeter
from .device_stats import device_name, peak_memory_bytes, reset_peak_memory
from .phase_clock import PhaseClock, clock_function
from .relative_timer import ReferenceStep, RelativeTimer
from .steps.brief import is_brief
from .steps.compiled_function import COUNTS
from .steps.data_parallel import data_mesh
from .steps.flat_model import FlatModel, TrainableModel, training_model
from .steps.optimizer import make_optimizer
from .steps.train_state import TrainState
from .steps.train_step import StepFunctions
from .training_loop import NonFiniteLoss, TrainingLoop
from .trial_probes import (
    SUSPICIOUS_BATCHES,
    ProbeFault,
    probe_causality,
    probe_finite,
    probe_trained_model,
    quarantine_note,
)

__all__ = ["CANDIDATE_FAULTS", "PROGRAM_FAULTS", "CandidateTrainer", "fault_outcome"]

CALIBRATION_SECONDS = 3.0
"""Seconds for which the baseline's steps are timed, once per run, before any training."""

PROGRAM_FAULTS = (InvalidProgramError, ProbeFault, NonFiniteLoss)
"""Exceptions of a training that are faults of the program."""

CANDIDATE_FAULTS = (*PROGRAM_FAULTS, jax.errors.JaxRuntimeError)
"""Exceptions of a training that are faults of the candidate, or of the device."""

ReportProgress = Callable[[Progress], None]


class CandidateTrainer:
    """Trains candidates one after the other on one worker. The data and the baseline's step stay loaded between trials.

    Args:
        model, trial, optimizer: configuration.
        dataset_path: folder of a prepared dataset.
        reference: DNA of the baseline as JSON text, to time its steps; None if steps of the baseline are not timed.

    Raises:
        UsageError: there are fewer devices than `trial.devices`, or the batch cannot be divided among them.

    Attributes:
        mesh: devices of a trial; None: one device.
        dataset: prepared dataset.
        model, trial, optimizer: configuration; the vocabulary is that of the dataset.
        brief: whether trainings are brief and so compiled layer by layer (see `is_brief`).
        clock: clock of trials.
        validation: validation batches [count, batch, length + 1] for evaluations.
    """

    def __init__(
        self,
        model: ModelConfig,
        trial: TrialConfig,
        optimizer: OptimizerConfig,
        dataset_path: str,
        reference: str | None = None,
    ):
        self.mesh = data_mesh(trial)
        self.dataset = Dataset.open(dataset_path, verify=False)
        self.model = replace(model, vocabulary=self.dataset.vocabulary)
        self.trial = trial
        self.optimizer = optimizer
        self.brief = is_brief(self.model, trial, optimizer, jax.default_backend())
        self.clock = clock_function("reference_seconds" if trial.price else trial.unit, jax.default_backend())
        self._reference_dna = reference
        self.validation = self.scored_batches("validation")

    @cached_property
    def reference_step(self) -> ReferenceStep:
        """The baseline's step, compiled at its first use."""
        if self._reference_dna is None:
            raise ValueError("a budget in reference seconds needs the baseline's DNA: give `reference`")
        graph = build_graph(dna_from_json(self._reference_dna))
        model = training_model(language_model(graph, self.model), self.optimizer, self.brief)
        functions, state = self.compile_step(model, self.optimizer, seed=0)
        return ReferenceStep(functions, state, self.train_batches(model, seed=0).batch_at(0), self.clock)

    def scored_batches(self, split: str) -> np.ndarray:
        """Return the batches of a split that evaluations use."""
        tokens = getattr(self.dataset, split)
        return validation_batches(tokens, self.trial.batch, self.model.length, self.trial.evaluation_batches)

    def train_batches(self, model: TrainableModel, seed: int) -> TrainBatches:
        """Return the training batches in the order of a seed."""
        return TrainBatches(self.dataset.train, self.trial.batch, model.config.length, seed)

    def make_meter(self, allowance_seconds: float | None) -> Meter:
        """Return the budget meter of one trial."""
        if self.trial.unit == "steps":
            return StepMeter(RelativeTimer(self.reference_step) if self.trial.price else None)
        if self.trial.unit != "reference_seconds" or allowance_seconds is None:
            return ClockMeter()
        return ReferenceMeter(RelativeTimer(self.reference_step), allowance_seconds)

    def compile_step(
        self, model: TrainableModel, config: OptimizerConfig, seed: int
    ) -> tuple[StepFunctions, TrainState]:
        """Compile the training step of a model, and return it with the initial state, on the host."""
        optimizer = make_optimizer(config)
        functions = StepFunctions(
            model, optimizer, self.trial.batch, config.averaging, mesh=self.mesh, by_layer=self.brief
        )
        state = functions.initial_state(model.init(np.random.default_rng(seed)))
        functions.compile_step(state)
        return_freed_memory()  # the compiler used more memory than most steps need
        return functions, state

    def run(
        self, request: TrialRequest, progress: ReportProgress, save: Callable[[Any], None] | None = None
    ) -> Evaluation:
        """Train one candidate. Faults of the candidate are returned as outcomes, not raised.

        Args:
            request: trial to run.
            progress: called repeatedly with the progress of the trial.
            save: called with the evaluated parameters, on the host, if the trial ends `ok`.
        """
        start, cpu_start = time.perf_counter(), time.process_time()
        if request.calibrate:
            progress(Progress("calibrate"))
            step_ms = 1000 * self.reference_step.median_step_seconds(CALIBRATION_SECONDS)
            evaluation = Evaluation("ok", step_ms=step_ms, device=device_name(self.trial.devices))
            return replace(evaluation, wall_seconds=time.perf_counter() - start)
        reset_peak_memory()
        trial = _Trial(self, request, progress)
        try:
            trial.run()
        except CANDIDATE_FAULTS as fault:
            trial.end(*fault_outcome(fault, trial.compiled))
        wall = time.perf_counter() - start
        waiting = max(0.0, wall - (time.process_time() - cpu_start)) if self.clock is time.process_time else 0.0
        evaluation = replace(trial.evaluation(), wall_seconds=wall, waiting_seconds=waiting)
        if save is not None and trial.loop is not None and evaluation.outcome == "ok":
            save(trial.evaluated_parameters())
        return evaluation


def fault_outcome(fault: Exception, compiled: bool) -> tuple[str, str]:
    """Return the outcome of a training that raised one of `CANDIDATE_FAULTS`, and its message.

    Args:
        fault: exception that was raised.
        compiled: whether the training step was already compiled.

    Raises:
        JaxRuntimeError: a fault of the device, not of the candidate, after which the executor replaces the worker.
    """
    if isinstance(fault, InvalidProgramError | ProbeFault):
        return f"rejected:{fault.reason}", str(fault)
    if isinstance(fault, NonFiniteLoss):
        return "non_finite", str(fault)
    exhausted = "RESOURCE_EXHAUSTED" in str(fault)
    if compiled and not exhausted:
        raise fault
    return "out_of_memory" if exhausted else "rejected:compilation", f"XLA: {fault}"[:300]


class _Trial:
    """The state of one trial. `run` runs the phases; `evaluation` returns the results so far."""

    def __init__(self, trainer: CandidateTrainer, request: TrialRequest, report: ReportProgress):
        self.trainer = trainer
        self.config = trainer.trial
        self.request = request
        self.report = report
        self.model = trainer.model if request.unit is None else replace(trainer.model, unit=request.unit)
        rate = trainer.optimizer.learning_rate * request.learning_rate_factor
        self.optimizer = replace(trainer.optimizer, learning_rate=rate)
        self.clock = PhaseClock(trainer.clock)
        self.outcome = "ok"
        self.message = ""
        self.losses: list[float] = []
        self.loss_steps: list[int] = []
        self.test_loss: float | None = None
        self.test_losses: tuple[float, ...] = ()
        self.moved_logits: float | None = None
        self.quarantine = ""
        self.loop: TrainingLoop | None = None
        self.trained: TrainableModel | None = None
        self.compiled = False
        self.cost: dict[str, Any] = {}

    def run(self) -> None:
        """Run all phases. Faults of the candidate are raised."""
        model, functions, state = self._build()
        batches = self.trainer.train_batches(model, self.request.seed)
        state = self._probe(model, functions, state, batches)
        with self.clock.phase("compile"):  # the first meter of a worker may compile the baseline's step
            meter = self.trainer.make_meter(self.request.allowance_seconds)
        self.loop = TrainingLoop(functions, state, batches, self.config, self.clock, meter, self.report)
        for number, hurdle in enumerate(self.request.hurdles, 1):
            self.loop.train_until(hurdle.at)
            self._evaluate(functions, self.loop)
            if hurdle.loss_nats is not None and (score := self._score_at(hurdle)) >= hurdle.loss_nats:
                predicted = len(hurdle.weights) > 1 or hurdle.offset != 0.0
                what = "predicted final fitness" if predicted else "loss"
                limit = "limit" if predicted else "median"
                message = f"the {what} {score:.4f} at hurdle {number} is not below the {limit} {hurdle.loss_nats:.4f}"
                self.end("stopped_at_hurdle", message)
                return
        self.loop.train_until(self.config.budget)
        loss = self._evaluate(functions, self.loop)
        self._probe_trained(functions, self.loop, loss)
        if self.request.test:
            batches = self.trainer.scored_batches("test")
            self.test_loss, by_position = self._score(functions, self.loop, "test", batches)
            self.test_losses = bucket_means(by_position)

    def evaluated_parameters(self) -> Any:
        """Return the evaluated parameters as arrays on the host."""
        assert self.loop is not None, "`run` comes first"
        parameters = jax.device_get(self.loop.state.evaluated)
        return self.trained.unflatten(parameters) if isinstance(self.trained, FlatModel) else parameters

    def end(self, outcome: str, message: str) -> None:
        """Record how the trial ended."""
        self.outcome, self.message = outcome, message

    def evaluation(self) -> Evaluation:
        """Return the evaluation of the trial, with the figures measured so far."""
        hurdles = min(len(self.losses), len(self.request.hurdles))  # the loss at the end is not that of a hurdle
        return Evaluation(
            self.outcome,
            self.message,
            hurdle_losses=tuple(self.losses[:hurdles]),
            hurdle_steps=tuple(self.loss_steps[:hurdles]),
            peak_memory_bytes=peak_memory_bytes(),
            device=device_name(self.config.devices),
            **{f"{phase}_seconds": seconds for phase, seconds in self.clock.seconds.items()},
            **self.cost,
            **(self._training_figures(self.loop) if self.loop is not None else {}),
            **(self._final_figures() if self.outcome == "ok" else {}),
        )

    def _training_figures(self, loop: TrainingLoop) -> dict[str, Any]:
        return {
            "curve": tuple(loop.curve),
            "steps": loop.steps,
            "tokens": loop.tokens,
            "epochs": loop.batches.epochs_seen(loop.steps),
            "spent": loop.spent,
            "step_ms": loop.step_ms,
            "input_wait_share": loop.input_wait_share,
            "relative_step": loop.meter.timer.relative_step if loop.meter.timer is not None else None,
            "moved_logits": self.moved_logits,
        }

    def _final_figures(self) -> dict[str, Any]:
        figures: dict[str, Any] = {"quarantine": self.quarantine, "test_losses_by_position": self.test_losses}
        dataset = self.trainer.dataset
        for split, prefix, loss in (("validation", "", self.losses[-1]), ("test", "test_", self.test_loss)):
            if loss is not None:
                figures[f"{prefix}loss_nats"] = loss
                figures[f"{prefix}bits_per_byte"] = dataset.nats_per_token_to_bits_per_byte(loss, split)
                figures[f"{prefix}word_perplexity"] = dataset.nats_per_token_to_word_perplexity(loss, split)
        return figures

    def _build(self) -> tuple[TrainableModel, StepFunctions, TrainState]:
        config = self.model
        self.report(Progress("compile", 0.0, self.config.budget))
        with self.clock.phase("compile"):
            graph = build_graph(dna_from_json(self.request.dna), length_dependent=config.length_dependent)
            model = training_model(language_model(graph, config), self.optimizer, self.trainer.brief)
            cost = block_cost(graph, config.unit, config.length)
            self.cost = {
                "parameters": model_parameters(cost.parameters, config.unit, config.layers, config.vocabulary),
                "block_parameters": cost.parameters,
                "flops_per_token": cost.flops_per_token,
            }
            functions, state = self.trainer.compile_step(model, self.optimizer, self.request.seed)
            self.cost |= functions.static_cost
        self.compiled, self.trained = True, model
        return model, functions, state

    def _probe(
        self, model: TrainableModel, functions: StepFunctions, state: TrainState, batches: TrainBatches
    ) -> TrainState:
        """Probe copies of the state, and return the unchanged state on the device."""
        self.report(Progress("probe", 0.0, self.config.budget))
        rng = np.random.default_rng((self.request.seed, 1))
        with self.clock.phase("probe"):
            tokens = batches.batch_at(0)
            probe_finite(functions, jax.tree.map(np.array, state), tokens)
            probe_causality(functions, model, state.optimizer, tokens, rng)
            return functions.place(state)

    def _evaluate(self, functions: StepFunctions, loop: TrainingLoop) -> float:
        self.report(Progress("evaluate", loop.spent, self.config.budget, loop.loss))
        with self.clock.phase("compile"):
            functions.compile_evaluation(loop.state)
        loss, _ = self._score(functions, loop, "validation", self.trainer.validation)
        self.losses.append(loss)
        self.loss_steps.append(loop.steps)
        return loss

    def _score_at(self, hurdle: HurdleThreshold) -> float:
        timer = self.loop.meter.timer if self.loop is not None else None
        relative_step = None if timer is None else timer.relative_step
        counts = step_counts(*map(self.cost.get, COUNTS))
        share = hurdle.at / self.config.budget
        return hurdle.score(self.losses, log_price_at_hurdle(self.request.price_prior, counts, relative_step, share))

    def _score(
        self, functions: StepFunctions, loop: TrainingLoop, split: str, batches: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Return the mean loss of a split, and the mean loss at each position."""
        with self.clock.phase("evaluate"):
            loss, by_position = functions.evaluate_by_position(loop.state, batches)
        if not math.isfinite(loss):
            raise NonFiniteLoss(f"the {split} loss after {loop.steps} steps is not finite")
        return loss, by_position

    def _probe_trained(self, functions: StepFunctions, loop: TrainingLoop, loss: float) -> None:
        """Probe the trained model on a batch of unseen text, or on several if its loss is suspiciously low."""
        bound = self.request.suspicious_nats
        suspicious = bound is not None and loss < bound
        rng = np.random.default_rng((self.request.seed, 2))
        self.report(Progress("recheck", loop.spent, self.config.budget, loop.loss))
        with self.clock.phase("probe"):
            unseen = range(loop.steps, loop.steps + (SUSPICIOUS_BATCHES if suspicious else 1))
            self.moved_logits = max(
                probe_trained_model(functions, self.model, loop.state, loop.batches.batch_at(step), rng)
                for step in unseen
            )
        if suspicious:
            assert bound is not None and self.moved_logits is not None
            self.quarantine = quarantine_note(loss, bound, self.moved_logits)
