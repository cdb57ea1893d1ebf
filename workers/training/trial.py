"""One trial: train a candidate for a fixed budget of training time, and say what it reached.

    build -> compile -> probe -> (train to a hurdle -> evaluate)* -> train to the end -> evaluate -> recheck

Compilation, probes and evaluation have clocks of their own and are not charged to the budget (Primer, section 2:
"a fixed training budget"). Whatever goes wrong for a reason of the candidate's comes back as an outcome.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from optax import GradientTransformation

from ...models.config import ModelConfig
from ...models.language_model import LanguageModel, language_model
from ...primitives import InvalidProgramError, build_graph
from ...primitives.cost import block_cost, model_parameters
from ...primitives.program_json import dna_from_json
from ..config import OptimizerConfig, TrialConfig
from ..data.batches import TrainBatches, validation_batches
from ..data.dataset import Dataset
from ..protocol import Evaluation, Progress, TrialRequest
from .budget_meter import ClockMeter, Meter, ReferenceMeter, ReferenceStep, StepMeter
from .data_parallel import data_mesh
from .device_stats import device_name, peak_memory_bytes, reset_peak_memory
from .leak_probes import ProbeFault, probe_causality, probe_finite, probe_trained_model
from .optimizer import initial_state, make_optimizer
from .phase_clock import PhaseClock, clock_function
from .train_step import Average, StepFunctions, TrainState
from .training_loop import NonFiniteLoss, TrainingLoop

__all__ = ["CandidateTrainer"]

Report = Callable[[Progress], None]
Keep = Callable[[Any], None]

CALIBRATION_SECONDS = 3.0
"""For how long the seed's steps are timed, once a run, before anything trains."""

SUSPICIOUS_BATCHES = 8
"""Batches of unseen text on which a suspiciously good model is rechecked."""


class CandidateTrainer:
    """Trains candidates one after the other on one worker; keeps the data open, and the seed warm, between trials.

    Args:
        model, trial, optimizer: the configuration.
        dataset_path: of a prepared dataset.
        reference: DNA of the seed, whose steps are timed where budgets are in reference seconds.

    Raises:
        UsageError: `trial.devices` are not there, or the batch does not divide among them.
    """

    def __init__(
        self,
        model: ModelConfig,
        trial: TrialConfig,
        optimizer: OptimizerConfig,
        dataset_path: str,
        reference: str | None = None,
    ):
        self.mesh = data_mesh(trial.devices, trial.batch)
        self.dataset = Dataset.open(dataset_path, verify=False)
        self.model = replace(model, vocabulary=self.dataset.vocabulary)
        self.trial = trial
        self.optimizer = optimizer
        self.clock = clock_function(trial.unit, jax.default_backend())
        self._reference_dna = reference
        self._reference: ReferenceStep | None = None
        self.validation = self.batches_of("validation")

    @property
    def device(self) -> str:
        """What its trials run on."""
        return device_name(self.trial.devices)

    def batches_of(self, split: str) -> np.ndarray:
        """The windows of a split that are scored."""
        tokens = getattr(self.dataset, split)
        return validation_batches(tokens, self.trial.batch, self.model.length, self.trial.evaluation_batches)

    def meter(self, allowance_seconds: float | None) -> Meter:
        """What a trial is charged by."""
        if self.trial.unit == "steps":
            return StepMeter()
        if self.trial.unit != "reference_seconds" or allowance_seconds is None:
            return ClockMeter()
        return ReferenceMeter(self.reference, allowance_seconds)

    @property
    def reference(self) -> ReferenceStep:
        """The seed's step, compiled when it is first asked for."""
        if self._reference is None:
            self._reference = self._compile_reference()
        return self._reference

    def _compile_reference(self) -> ReferenceStep:
        if self._reference_dna is None:
            raise ValueError("reference seconds need the seed's DNA to time")
        model = language_model(build_graph(dna_from_json(self._reference_dna)), self.model)
        optimizer = make_optimizer(self.optimizer)
        parameters = model.init(np.random.default_rng(0))
        state = first_state(parameters, optimizer, self.optimizer.averaging)
        functions = StepFunctions(model, optimizer, self.trial.batch, self.optimizer.averaging, mesh=self.mesh)
        functions.compile_step(state)
        tokens = TrainBatches(self.dataset.train, self.trial.batch, self.model.length, 0).batch_at(0)
        return ReferenceStep(functions, state, tokens, self.clock)

    def run(self, request: TrialRequest, progress: Report, keep: Keep | None = None) -> Evaluation:
        """Train one candidate; never raises for a fault of the candidate's.

        Args:
            request: what to train.
            progress: told now and then how far it is.
            keep: given the parameters that evaluation saw, on the host, if the trial ends `ok`.
        """
        start = time.perf_counter()
        if request.calibrate:
            progress(Progress("calibrate"))
            step_ms = 1000 * self.reference.median_step_seconds(CALIBRATION_SECONDS)
            return Evaluation("ok", step_ms=step_ms, wall_seconds=time.perf_counter() - start, device=self.device)
        reset_peak_memory()
        trial = _Trial(self, request, progress)
        try:
            trial.run()
        except InvalidProgramError as error:
            trial.end(f"rejected:{error.reason}", str(error))
        except ProbeFault as fault:
            trial.end(f"rejected:{fault.why}", str(fault))
        except NonFiniteLoss as fault:
            trial.end("non_finite", str(fault))
        except jax.errors.JaxRuntimeError as error:
            exhausted = "RESOURCE_EXHAUSTED" in str(error)
            if trial.compiled and not exhausted:
                raise  # the device failed, not the candidate: the executor replaces the worker
            trial.end("out_of_memory" if exhausted else "rejected:compilation", f"XLA: {error}"[:300])
        wall_seconds = time.perf_counter() - start
        evaluation = replace(trial.evaluation(), wall_seconds=wall_seconds)
        if keep is not None and trial.loop is not None and evaluation.outcome == "ok":
            keep(jax.device_get(trial.loop.state.evaluated))
        return evaluation


def first_state(parameters: Any, optimizer: GradientTransformation, averaging: float) -> TrainState:
    """The state before the first step, on the host."""
    return TrainState(parameters, initial_state(optimizer, parameters), Average.of(parameters) if averaging else None)


@dataclass(frozen=True, slots=True)
class _End:
    outcome: str
    message: str = ""


class _Trial:
    """The state of one trial; `run` goes through its phases, `evaluation` sums up how far it came."""

    def __init__(self, trainer: CandidateTrainer, request: TrialRequest, report: Report):
        self.trainer = trainer
        self.config = trainer.trial
        self.request = request
        self.report = report
        self.model = trainer.model if request.unit is None else replace(trainer.model, unit=request.unit)
        optimizer = trainer.optimizer
        rate = optimizer.learning_rate * request.learning_rate_factor
        self.optimizer = make_optimizer(replace(optimizer, learning_rate=rate))
        self.clock = PhaseClock(trainer.clock)
        self.outcome = _End("ok")
        self.losses: list[float] = []
        self.evaluated_at: list[int] = []
        self.test_loss: float | None = None
        self.moved: float | None = None
        self.quarantine = ""
        self.loop: TrainingLoop | None = None
        self.meter: Meter | None = None
        self.compiled = False
        self.sizes: dict[str, float] = {}

    def run(self) -> None:
        model, functions, state = self._build()
        batches = TrainBatches(self.trainer.dataset.train, self.config.batch, model.config.length, self.request.seed)
        state = self._probe(model, functions, state, batches)
        self.meter = self.trainer.meter(self.request.allowance_seconds)
        self.loop = TrainingLoop(functions, state, batches, self.config, self.clock, self.meter, self.report)
        for hurdle in self.request.hurdles:
            self.loop.train_until(hurdle.at)
            loss = self._evaluate(functions)
            if hurdle.loss_nats is not None and loss >= hurdle.loss_nats:
                at = len(self.losses)
                message = f"its loss {loss:.4f} at hurdle {at} is not below the median {hurdle.loss_nats:.4f}"
                self.end("stopped_at_hurdle", message)
                return
        self.loop.train_until(self.config.budget)
        loss = self._evaluate(functions)
        self._recheck(functions, self.loop, loss)
        if self.request.test:
            with self.clock.phase("evaluate"):
                self.test_loss = functions.evaluate(self.loop.state, self.trainer.batches_of("test"))
            if not math.isfinite(self.test_loss):
                raise NonFiniteLoss("its loss on the test split is not finite")

    def end(self, outcome: str, message: str) -> None:
        """Record how the trial ended."""
        self.outcome = _End(outcome, message)

    def evaluation(self) -> Evaluation:
        """What the trial reached."""
        seconds, loop = self.clock.seconds, self.loop
        reached_end = self.outcome.outcome == "ok"
        loss = self.losses[-1] if reached_end else None
        batches = None if loop is None else loop.batches
        return Evaluation(
            outcome=self.outcome.outcome,
            message=self.outcome.message,
            loss_nats=loss,
            bits_per_byte=self._bits_per_byte(loss, "validation"),
            word_perplexity=self._word_perplexity(loss, "validation"),
            test_loss_nats=self.test_loss if reached_end else None,
            test_bits_per_byte=self._bits_per_byte(self.test_loss, "test") if reached_end else None,
            test_word_perplexity=self._word_perplexity(self.test_loss, "test") if reached_end else None,
            hurdle_losses=tuple(self.losses[: self._hurdles_met]),
            hurdle_steps=tuple(self.evaluated_at[: self._hurdles_met]),
            curve=() if loop is None else tuple(loop.curve),
            steps=0 if loop is None else loop.steps,
            tokens=0 if loop is None else loop.steps * self.config.batch * self.model.length,
            epochs=0.0 if batches is None or loop is None else batches.epochs_seen(loop.steps),
            train_seconds=seconds.get("train", 0.0),
            compile_seconds=seconds.get("compile", 0.0),
            evaluate_seconds=seconds.get("evaluate", 0.0),
            probe_seconds=seconds.get("probe", 0.0),
            spent=0.0 if loop is None else loop.spent,
            step_ms=None if loop is None else loop.step_ms,
            input_wait_share=None if loop is None else loop.input_wait_share,
            relative_step=self.meter.relative_step if isinstance(self.meter, ReferenceMeter) else None,
            moved_logits=self.moved,
            quarantine=self.quarantine if reached_end else "",
            parameters=_whole(self.sizes.get("parameters")),
            block_parameters=_whole(self.sizes.get("block_parameters")),
            flops_per_token=self.sizes.get("flops_per_token"),
            peak_memory_bytes=peak_memory_bytes(),
            device=self.trainer.device,
        )

    def _build(self) -> tuple[LanguageModel, StepFunctions, TrainState]:
        config = self.model
        self.report(Progress("compile", 0.0, self.config.budget))
        with self.clock.phase("compile"):
            graph = build_graph(dna_from_json(self.request.dna), length_dependent=config.length_dependent)
            model = language_model(graph, config)
            cost = block_cost(graph, config.unit, config.length)
            total = model_parameters(cost.parameters, config.unit, config.layers, config.vocabulary)
            self.sizes = {
                "parameters": total,
                "block_parameters": cost.parameters,
                "flops_per_token": cost.flops_per_token,
            }
            parameters = model.init(np.random.default_rng(self.request.seed))
            averaging = self.trainer.optimizer.averaging
            state = first_state(parameters, self.optimizer, averaging)
            functions = StepFunctions(model, self.optimizer, self.config.batch, averaging, mesh=self.trainer.mesh)
            functions.compile_step(state)
        self.compiled = True
        return model, functions, state

    def _probe(
        self, model: LanguageModel, functions: StepFunctions, state: TrainState, batches: TrainBatches
    ) -> TrainState:
        """Probe on copies, so that training starts from the untouched state."""
        self.report(Progress("probe", 0.0, self.config.budget))
        rng = np.random.default_rng((self.request.seed, 1))
        with self.clock.phase("probe"):
            tokens = batches.batch_at(0)
            probe_finite(functions, jax.tree.map(np.array, state), tokens)
            probe_causality(functions, model, state.optimizer, tokens, rng)
            return functions.place(state)

    def _evaluate(self, functions: StepFunctions) -> float:
        assert self.loop is not None
        self.report(Progress("evaluate", self.loop.spent, self.config.budget, self.loop.loss))
        with self.clock.phase("compile"):
            functions.compile_evaluation(self.loop.state)
        with self.clock.phase("evaluate"):
            loss = functions.evaluate(self.loop.state, self.trainer.validation)
        if not math.isfinite(loss):
            raise NonFiniteLoss(f"its validation loss after {self.loop.steps} steps is not finite")
        self.losses.append(loss)
        self.evaluated_at.append(self.loop.steps)
        return loss

    def _recheck(self, functions: StepFunctions, loop: TrainingLoop, loss: float) -> None:
        """Probe the trained model; one that is too good to be true on much text that it has not seen."""
        bound = self.request.suspicious_nats
        suspected = bound is not None and loss < bound
        rng = np.random.default_rng((self.request.seed, 2))
        self.report(Progress("recheck", loop.spent, self.config.budget, loop.loss))
        with self.clock.phase("probe"):
            unseen = range(loop.steps, loop.steps + (SUSPICIOUS_BATCHES if suspected else 1))
            self.moved = max(
                probe_trained_model(functions, self.model, loop.state, loop.batches.batch_at(step), rng)
                for step in unseen
            )
        if suspected:
            self.quarantine = (
                f"its loss {loss:.4f} is below the plausible {bound:.4f}; cleared: on {SUSPICIOUS_BATCHES} batches of "
                f"unseen text, no future token and no other example moved a logit by more than {self.moved:.1g}"
            )

    @property
    def _hurdles_met(self) -> int:
        """Evaluations at hurdles; one more is that at the end."""
        return min(len(self.losses), len(self.request.hurdles))

    def _bits_per_byte(self, loss_nats: float | None, split: str) -> float | None:
        return None if loss_nats is None else self.trainer.dataset.nats_per_token_to_bits_per_byte(loss_nats, split)

    def _word_perplexity(self, loss_nats: float | None, split: str) -> float | None:
        return None if loss_nats is None else self.trainer.dataset.nats_per_token_to_word_perplexity(loss_nats, split)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
