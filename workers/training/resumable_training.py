"""Long training of one model, with regular evaluations and saved states. After an interruption it continues exactly.

    build -> compile -> (restore a state | probe) -> (train -> evaluate | save)* -> evaluate -> probe again

Step, loop, meters and probes are those of a trial. With a budget in steps, the weights equal those of a trial of the
same length, bit for bit, whether or not the training was interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from ...models.language_model import LanguageModel
from ...primitives.errors import UsageError
from ...primitives.graphs.cost import block_cost, model_parameters
from ...system.allocator import return_freed_memory
from ...system.files import write_atomically
from ...system.signals import deferred_interruption
from ..config import OptimizerConfig
from ..objectives.objective import Objective
from ..protocol import Evaluation, Progress
from .device_stats import device_name, peak_memory_bytes
from .objective_steps import ObjectiveSteps
from .phase_clock import PhaseClock
from .steps.batch_model import Penalty
from .steps.flat_model import FlatModel, TrainableModel, training_model
from .steps.optimizer import make_optimizer
from .steps.train_state import TrainState
from .steps.train_step import StepFunctions
from .training_loop import LoopOptions, NonFiniteLoss, TrainingLoop
from .training_settings import CURVE, CurvePoint, TrainingSettings, UnusableState, cosine_decay, curve_text
from .training_state import TrainingStates
from .trial import CandidateTrainer
from .trial_probes import SUSPICIOUS_BATCHES, quarantine_note

__all__ = ["ModelTraining"]

EVALUATION_SHARE = 0.1
"""Largest share of the training time that evaluations take; the evaluation at the end is always made."""

STEP_PER_EVALUATED_BATCH = 3.0
"""Time of a step, forward and backward, relative to the time of evaluating a batch, which is only a forward pass."""

LONGEST_CHUNK = 50
"""Largest number of steps between two reports."""


@dataclass(slots=True)
class ModelTraining:
    """One training. `run` trains the model to the end of the budget; the attributes hold its progress.

    Attributes:
        trainer: data, budget, clock and devices of the training.
        model: language model to train.
        objective: objective of the training, which makes its batches.
        optimizer: settings of the optimizer.
        settings: further settings.
        states: saved states; the training continues from the newest.
        report, tell: callbacks that receive the progress several times a second, and messages.
        penalty: regularizer of the residual stream; None: none.
        initial: parameters to start from, as arrays like those of `LanguageModel.init`; None: drawn with the seed.
        curve, validation: training losses, and held-out losses of the objective, over the course of the training.
        first_text_nats: loss on the validation text before the first step; None unless `initial` is given.
        text_nats: loss on the validation text after the last step.
        resumed_steps: number of steps of the saved state that the training continued from; None: it began at step 0.
        compiled: whether the training step is compiled.
    """

    trainer: CandidateTrainer
    model: LanguageModel
    objective: Objective
    optimizer: OptimizerConfig
    settings: TrainingSettings
    states: TrainingStates
    report: Callable[[Progress], None]
    tell: Callable[[str], None]
    penalty: Penalty | None = None
    initial: Any = None
    curve: list[CurvePoint] = field(default_factory=list)
    validation: list[CurvePoint] = field(default_factory=list)
    first_text_nats: float | None = None
    text_nats: float | None = None
    resumed_steps: int | None = None
    compiled: bool = False
    _clock: PhaseClock = field(init=False)
    _start: float = field(init=False)
    _saved: float = field(init=False)

    def __post_init__(self) -> None:
        self._clock = PhaseClock(self.trainer.clock)
        self._start = time.perf_counter()

    def run(self) -> tuple[Any, Evaluation]:
        """Train to the end of the budget.

        Returns:
            The evaluated parameters, as arrays on the host, and the evaluation.

        Raises:
            CANDIDATE_FAULTS: the model is rejected by a check, or its loss is not finite (see `trial`).
            KeyboardInterrupt: a signal arrived; the state is saved if training had begun.
            UsageError: the saved state is damaged, or cannot be written at an interruption.
        """
        mesh, brief = self.trainer.mesh, self.trainer.brief
        inner, optimizer = training_model(self.model, self.optimizer, brief), make_optimizer(self.optimizer)
        steps = ObjectiveSteps(inner, self.objective, optimizer, self.optimizer.averaging, mesh, brief, self.penalty)
        self.report(Progress("compile", 0.0, self.trainer.trial.budget))
        with self._clock.phase("compile"):
            state = self._compile(inner, steps.functions)
        self.compiled = True
        found = self.states.load(state)
        with self._clock.phase("probe"):
            if found is None:
                self.report(Progress("probe", 0.0, self.trainer.trial.budget))
                steps.probe(state, np.random.default_rng((self.settings.seed, 1)))
            state = steps.functions.place(state if found is None else found[0])
        with deferred_interruption() as interrupted:
            loop = self._loop(steps, state, interrupted)
            if found is not None:
                self._resume(loop, found[1])
            self._saved = time.perf_counter()
            self._train(steps, loop, interrupted)
            self._save(loop, interrupted=False)  # a failure after this does not lose the training
        loss = self.validation[-1][2]
        self.text_nats = self._text_loss(steps, loop)
        moved, quarantine = self._probe_trained(steps, loop, loss)
        parameters = jax.device_get(loop.state.evaluated)
        arrays = inner.unflatten(parameters) if isinstance(inner, FlatModel) else parameters
        return arrays, self._evaluation(loop, loss, moved, quarantine)

    def _compile(self, inner: TrainableModel, functions: StepFunctions) -> TrainState:
        """Compile step and evaluation; return the first state, on the host."""
        if self.initial is None:
            parameters = inner.init(np.random.default_rng(self.settings.seed))
        else:
            parameters = inner.flatten(self.initial) if isinstance(inner, FlatModel) else self.initial
        state = functions.initial_state(parameters)
        if self.settings.final_rate != 1.0:
            state = TrainState(state.parameters, state.optimizer, state.average, np.asarray(1.0, np.float32))
        functions.compile_step(state)
        functions.compile_evaluation(state)
        return_freed_memory()  # the compiler used more memory than most steps need
        return state

    def _loop(self, steps: ObjectiveSteps, state: TrainState, interrupted: Callable[[], bool]) -> TrainingLoop:
        final = self.settings.final_rate
        rate = None if final == 1.0 else lambda share: cosine_decay(share, final)
        options = LoopOptions(rate, LONGEST_CHUNK, interrupted)
        meter = self.trainer.make_meter(self.settings.allowance_seconds)

        def after_chunk(progress: Progress) -> None:
            latest = self.validation[-1][2] if self.validation else None
            self.report(Progress("train", progress.spent, progress.budget, progress.loss_nats, latest))
            if interrupted() or time.perf_counter() - self._saved >= self.settings.save_seconds:
                self._save(loop, interrupted())

        loop = TrainingLoop(
            steps.functions, state, steps.batches, self.trainer.trial, self._clock, meter, after_chunk, options
        )
        loop.curve = self.curve
        return loop

    def _resume(self, loop: TrainingLoop, saved: dict[str, Any]) -> None:
        """Continue where a state was saved."""
        if saved["dataset_hash"] != self.trainer.dataset.dataset_hash or "tokens" not in saved:
            raise UnusableState(f"the text or primer-search has changed since {self.states.folder} was written")
        self.tell(f"continuing after {saved['steps']:,} steps")
        loop.steps = self.resumed_steps = saved["steps"]
        loop.tokens, loop.loss = saved["tokens"], saved["loss"]
        loop.meter.resume(saved["spent"])
        self.curve += [tuple(point) for point in saved["curve"]]
        self.validation += [tuple(point) for point in saved["validation"]]
        self.first_text_nats = saved["first_text_nats"]
        self._clock.seconds.update(saved["seconds"])
        self._start -= saved["wall_seconds"]

    def _train(self, steps: ObjectiveSteps, loop: TrainingLoop, interrupted: Callable[[], bool]) -> None:
        """Train to the end of the budget, with evaluations in between and at the end."""
        budget, count = self.trainer.trial.budget, self._evaluations()
        if self.initial is not None and not self.validation:
            self._evaluate(steps, loop)
            self.first_text_nats = self._text_loss(steps, loop)
        for number in range(1, count + 1):
            point = budget if number == count else budget * number / count
            loop.train_until(point)
            if (not self.validation or self.validation[-1][0] < point) and (number == count or self._affordable()):
                self._evaluate(steps, loop)
                if interrupted():
                    self._save(loop, interrupted=True)

    def _evaluations(self) -> int:
        """Return the number of evaluations. For a budget in steps, they take at most about a tenth of the time."""
        trial = self.trainer.trial
        if trial.unit != "steps":
            return self.settings.evaluations
        affordable = EVALUATION_SHARE * trial.budget * STEP_PER_EVALUATED_BATCH / trial.evaluation_batches
        return max(1, min(self.settings.evaluations, int(affordable)))

    def _affordable(self) -> bool:
        """Return whether evaluations took at most their share of the time so far; always true for a budget in steps."""
        seconds = self._clock.seconds
        return self.trainer.trial.unit == "steps" or (
            seconds.get("evaluate", 0.0) <= EVALUATION_SHARE * seconds.get("train", 0.0)
        )

    def _evaluate(self, steps: ObjectiveSteps, loop: TrainingLoop) -> None:
        self.report(Progress("evaluate", loop.spent, self.trainer.trial.budget, loop.loss))
        with self._clock.phase("evaluate"):
            loss = steps.held_out_loss(loop.state)
        if not math.isfinite(loss):
            raise NonFiniteLoss(f"the validation loss after {loop.steps} steps is not finite")
        self.validation.append((loop.spent, loop.steps, loss))
        self._write_curve()

    def _text_loss(self, steps: ObjectiveSteps, loop: TrainingLoop) -> float:
        """Return the loss on the validation text, each token predicted from the tokens before it."""
        if steps.reads_text:
            return self.validation[-1][2]
        with self._clock.phase("evaluate"):
            return steps.text_loss(loop.state, self.trainer.validation)

    def _save(self, loop: TrainingLoop, interrupted: bool) -> None:
        """Save the state. If the training is interrupted, raise KeyboardInterrupt afterwards."""
        progress = {
            "dataset_hash": self.trainer.dataset.dataset_hash,
            "steps": loop.steps,
            "tokens": loop.tokens,
            "spent": loop.spent,
            "loss": loop.loss,
            "curve": self.curve,
            "validation": self.validation,
            "first_text_nats": self.first_text_nats,
            "seconds": self._clock.seconds,
            "wall_seconds": time.perf_counter() - self._start,
        }
        try:
            self.states.save(loop.state, progress)
            self._write_curve()
        except UsageError as error:
            if interrupted:
                raise
            self.tell(f"warning: {error}; the training continues, and saves again later")
        self._saved = time.perf_counter()
        if interrupted:
            raise KeyboardInterrupt

    def _write_curve(self) -> None:
        try:
            write_atomically(self.states.folder / CURVE, self.curve_text())
        except OSError as error:
            self.tell(f"warning: cannot write {self.states.folder / CURVE} ({error.strerror or error})")

    def curve_text(self) -> str:
        """Return the learning curve as JSON text."""
        return curve_text(self.trainer.trial.unit, self.trainer.trial.budget, self.curve, self.validation)

    def _probe_trained(self, steps: ObjectiveSteps, loop: TrainingLoop, loss: float) -> tuple[float, str]:
        """Probe the trained model on unseen text, and on more text if its loss is suspiciously low."""
        self.report(Progress("recheck", loop.spent, self.trainer.trial.budget, loop.loss))
        bound = self.settings.suspicious_nats
        suspicious = bound is not None and loss < bound
        unseen = range(loop.steps, loop.steps + (SUSPICIOUS_BATCHES if suspicious else 1))
        with self._clock.phase("probe"):
            moved = steps.probe_trained(loop.state, unseen, np.random.default_rng((self.settings.seed, 2)))
        return moved, quarantine_note(loss, bound, moved) if suspicious and bound is not None else ""

    def _evaluation(self, loop: TrainingLoop, loss: float, moved: float, quarantine: str) -> Evaluation:
        trial, dataset, config = self.trainer.trial, self.trainer.dataset, self.model.config
        text = loss if self.text_nats is None else self.text_nats
        seconds: dict[str, Any] = {f"{phase}_seconds": taken for phase, taken in self._clock.seconds.items()}
        cost = block_cost(self.model.block.graph, config.unit, config.length)
        return Evaluation(
            "ok",
            loss_nats=loss,
            bits_per_byte=dataset.nats_per_token_to_bits_per_byte(text, "validation"),
            word_perplexity=dataset.nats_per_token_to_word_perplexity(text, "validation"),
            curve=tuple(self.curve),
            steps=loop.steps,
            tokens=loop.tokens,
            epochs=loop.batches.epochs_seen(loop.steps),
            spent=loop.spent,
            step_ms=loop.step_ms,
            input_wait_share=loop.input_wait_share,
            moved_logits=moved,
            quarantine=quarantine,
            parameters=model_parameters(cost.parameters, config.unit, config.layers, config.vocabulary),
            block_parameters=cost.parameters,
            flops_per_token=cost.flops_per_token,
            peak_memory_bytes=peak_memory_bytes(),
            device=device_name(trial.devices),
            wall_seconds=time.perf_counter() - self._start,
            **seconds,
        )
