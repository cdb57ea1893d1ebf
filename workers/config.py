"""Settings of trials (data, optimizer, budget, limits) and of the workers that run them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from ..models.config import STRICT

__all__ = ["DataConfig", "OptimizerConfig", "TrialConfig", "WorkersConfig"]


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Text to train on.

    Attributes:
        source: `python-stdlib`; `text:PATH[?field=NAME]` for a file or folder of text, JSON lines or Parquet;
            `tokens:PATH` for a NumPy array of token ids; `lm1b` or `tfds:NAME[/CONFIG][:feature]` for a published
            set, after `primer-search data prepare`.
        tokenizer_bytes: largest amount of text that the tokenizer is trained on.
        word_perplexity: whether to report losses also as perplexity per word, for text with spaces between words;
            always reported for `lm1b`, where it is the usual unit.
        tokenizer: `hf-tokenizer:PATH`, a `tokenizer.json` of the `tokenizers` library; if empty, one is trained.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    source: str = "python-stdlib"
    tokenizer_bytes: Annotated[int, Ge(10_000)] = 20_000_000
    word_perplexity: bool = False
    tokenizer: str = ""


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """Optimizer of all candidates.

    Attributes:
        name: `adamw` or `adafactor` (the paper's).
        learning_rate: peak learning rate.
        warmup_steps: steps of linear warm-up to the peak.
        schedule: schedule after the warm-up, `constant` or `rsqrt` (proportional to 1/sqrt(step), the paper's).
        weight_decay: decoupled decay (adamw only).
        gradient_clip: largest global norm of the gradient; 0 turns clipping off.
        averaging: exponent of the parameter average used in evaluations. Step t has a weight of about t ** averaging
            (Shamir & Zhang 2013, arXiv 1212.1824), which acts like lowering the learning rate before every evaluation.
            0 evaluates the parameters of the last step.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Literal["adamw", "adafactor"] = "adamw"
    learning_rate: Annotated[float, Gt(0.0), Le(10.0)] = 3e-3
    warmup_steps: Annotated[int, Ge(1)] = 30
    schedule: Literal["constant", "rsqrt"] = "constant"
    weight_decay: Annotated[float, Ge(0.0), Le(10.0)] = 0.0
    gradient_clip: Annotated[float, Ge(0.0)] = 1.0
    averaging: Annotated[float, Ge(0.0), Le(1000.0)] = 0.0


@dataclass(frozen=True, slots=True)
class TrialConfig:
    """One training of one candidate under a fixed budget (Primer, section 2: "a fixed training budget").

    Attributes:
        unit: unit of the budget: reference seconds (see `budget_meter`), CPU seconds of the worker, wall-clock seconds,
            or optimizer steps.
        budget_seconds: training time of a full trial, when `unit` is a clock.
        allowance_ms: milliseconds charged for a step of the baseline in reference seconds, so that the baseline trains
            for `1000 * budget_seconds / allowance_ms` steps on any machine; 0: its step is timed when the run begins.
        budget_steps: optimizer steps of a full trial, when `unit` is `steps`.
        price: whether trials with a budget in steps also time the candidate's step in turns with the baseline's.
        hurdles: number of halving hurdles before the end (appendix A.2); 0 turns them off.
        batch: sequences in a training batch.
        devices: number of devices that one trial uses, each for an equal part of the batch.
        evaluation_batches: validation batches (of `batch` sequences) scored at hurdles and at the end.
        overhead_seconds: wall clock allowed for compilation, probes and evaluation, in addition to training.
        slack: factor of the wall-clock limits: a trial is killed after `slack * budget + overhead_seconds`, or if it is
            still compiling or probing after `slack * overhead_seconds`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    unit: Literal["reference_seconds", "cpu_seconds", "wall_seconds", "steps"] = "cpu_seconds"
    budget_seconds: Annotated[float, Gt(0.0)] = 30.0
    allowance_ms: Annotated[float, Ge(0.0)] = 0.0
    budget_steps: Annotated[int, Ge(1)] = 500
    price: bool = False
    hurdles: Annotated[int, Ge(0), Le(10)] = 3
    batch: Annotated[int, Ge(1), Le(65_536)] = 16
    devices: Annotated[int, Ge(1), Le(65_536)] = 1
    evaluation_batches: Annotated[int, Ge(1), Le(1_000_000)] = 16
    overhead_seconds: Annotated[float, Gt(0.0)] = 120.0
    slack: Annotated[float, Ge(1.0)] = 4.0

    @property
    def budget(self) -> float:
        """The full budget in the trial's own unit."""
        return float(self.budget_steps) if self.unit == "steps" else self.budget_seconds

    @property
    def batch_problem(self) -> str:
        """Error message if the batch cannot be divided equally among the devices; empty if it can."""
        if self.batch % self.devices == 0:
            return ""
        return (
            f"trial.batch = {self.batch} sequences cannot be divided equally among trial.devices = {self.devices}: "
            f"use a multiple of {self.devices}, or fewer devices"
        )

    @property
    def wall_limit_seconds(self) -> float:
        """Wall clock after which a trial is killed. In a budget in steps, each step counts as one second."""
        return self.slack * self.budget + self.overhead_seconds

    @property
    def preparation_seconds(self) -> float:
        """Wall clock after which a trial that is still compiling or probing is killed."""
        return self.slack * self.overhead_seconds


@dataclass(frozen=True, slots=True)
class WorkersConfig:
    """Worker processes that train.

    Attributes:
        executor: `ray` for Ray actors, `inline` for this process.
        count: number of workers; 0 means one for each core (CPU) or device (GPU, TPU).
        accel: kind of devices that workers use.
        per_device: workers that share one GPU, each with an equal part of its memory.
        memory_gib: memory limit of a worker, above which its trial is killed; 0 means an equal share of the machine.
        compiled_mib: largest size of the cache of compiled programs, which the workers of a machine share; 0 turns the
            cache off.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    executor: Literal["ray", "inline"] = "ray"
    count: Annotated[int, Ge(0), Le(100_000)] = 0
    accel: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    per_device: Annotated[int, Ge(1), Le(8)] = 1
    memory_gib: Annotated[float, Ge(0.0)] = 0.0
    compiled_mib: Annotated[int, Ge(0), Le(1_048_576)] = 256
