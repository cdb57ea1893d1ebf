"""Result of the stress test for one model, and the margins that decide whether it is safe.

A model is safe if all values are finite in training and in the probes up to the margins below, and if the recorded
values are not close to overflow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

__all__ = [
    "LARGEST_SCALE",
    "SCORE_LIMIT",
    "ActivationPeak",
    "ActivationStats",
    "Failure",
    "StressResult",
    "StressSetting",
    "quantity",
]

SCORE_LIMIT = 88.7
"""Largest input of EXP that does not overflow, in float32 and in bfloat16, which has the same range."""

SCORE_MARGIN = 2.0
"""Factor by which an unshifted score must be able to grow, because training continues after these steps. A softmax is
computed from scores minus their maximum, so its scores have no limit."""

VALUE_LIMIT = 1.8e19
"""Largest value whose square does not overflow; sums of squares and the norm of the gradient must not overflow."""

INPUT_MARGIN = 1e3
"""Factor on the first layer's input that must be safe: single activations of trained models reach thousands of times
the typical one (Sun et al. 2024, arXiv 2402.17762)."""

WEIGHT_MARGIN = 4.0
"""Factor on all dense kernels that must be safe: queries and keys grow in training, so scores grow 16 times."""

GRADIENT_MARGIN = 1e3
"""Largest ratio of gradient norms between layers. All layers are clipped by the same factor, so above this ratio the
layers with small gradients would hardly change."""

LOSS_MARGIN = 0.5
"""Largest increase of the loss in nats; above it, training diverges (at a learning rate for the preset's own size)."""

LARGEST_SCALE = 1e4
"""Largest factor that the probes try."""


@dataclass(frozen=True, slots=True)
class StressSetting:
    """Size and precision of one model.

    Attributes:
        layers: number of layers.
        length: sequence length.
        precision: data type of the activations.
        batch: sequences in a training batch: as many tokens as in the configuration, but at least one sequence.
    """

    layers: int
    length: int
    precision: str
    batch: int


@dataclass(frozen=True, slots=True)
class ActivationPeak:
    """Largest value of one kind.

    Attributes:
        node: name of the node that computed it.
        layer: layer of the node, from 1.
        value: the value; None if it is not finite.
    """

    node: str
    layer: int
    value: float | None


@dataclass(frozen=True, slots=True)
class ActivationStats:
    """Values recorded in one forward and backward pass.

    Attributes:
        loss_nats: loss of one batch, per token.
        activations: largest magnitudes of the five largest nodes.
        score: largest input of an EXP before the shift of a softmax; None if the program has no EXP.
        open_score: largest input of an EXP that is not shifted; None if every EXP belongs to a softmax.
        gradient_norm: gradient norm of all parameters.
        gradient_norms: gradient norm of each layer.
    """

    loss_nats: float | None
    activations: tuple[ActivationPeak, ...]
    score: ActivationPeak | None
    open_score: float | None
    gradient_norm: float | None
    gradient_norms: tuple[float | None, ...]

    @property
    def score_headroom(self) -> float | None:
        """Difference between the limit of EXP and the largest score before its shift."""
        return None if self.score is None or self.score.value is None else SCORE_LIMIT - self.score.value

    @property
    def gradient_ratio(self) -> float | None:
        """Ratio of the largest gradient norm of a layer to the smallest; None if one is not finite or all are zero."""
        norms = [norm for norm in self.gradient_norms if norm is not None]
        if len(norms) < len(self.gradient_norms) or not max(norms):
            return None
        return max(norms) / max(min(norms), 1e-30)


@dataclass(frozen=True, slots=True)
class Failure:
    """First value that is not finite.

    Attributes:
        at: training step or scale factor at which it occurs.
        where: name of the layer and node.
    """

    at: float
    where: str


@dataclass(frozen=True, slots=True)
class StressResult:
    """Result of one model.

    Attributes:
        setting: size and precision of the model.
        steps: number of training steps.
        initial: record before training.
        trained: record after training; None if training failed.
        losses: training loss of the first step, and mean over the last tenth of the steps.
        training: failure in training; None without one.
        inputs: failure when the first layer's input is scaled up to `LARGEST_SCALE`; None without one.
        weights: failure when the dense kernels are scaled up to `LARGEST_SCALE`; None without one.
    """

    setting: StressSetting
    steps: int
    initial: ActivationStats
    trained: ActivationStats | None
    losses: tuple[float | None, float | None]
    training: Failure | None
    inputs: Failure | None
    weights: Failure | None

    @property
    def verdict(self) -> str:
        """Conclusion: `safe`, `breaks at ...`, or `close: ...` if a margin is not kept."""
        if self.training is not None:
            return f"breaks at step {self.training.at:.0f}, {self.training.where}"
        for name, margin, found in (("inputs", INPUT_MARGIN, self.inputs), ("weights", WEIGHT_MARGIN, self.weights)):
            if found is not None and found.at <= margin:
                return f"breaks at {name} x{found.at:.3g}, {found.where}"
        return "; ".join(f"close: {why}" for why in self._close()) or "safe"

    def _close(self) -> Iterator[str]:
        for stats in (self.initial, self.trained):
            if stats is None:
                continue
            if stats.open_score is not None and stats.open_score * SCORE_MARGIN > SCORE_LIMIT:
                yield f"EXP of {stats.open_score:.3g}, and it overflows at {SCORE_LIMIT}"
            if (largest := stats.activations[0]).value is None or largest.value > VALUE_LIMIT:
                yield f"{largest.node} reaches {quantity(largest.value)}, its square overflows"
            if (ratio := stats.gradient_ratio) is None or ratio > GRADIENT_MARGIN:
                yield f"ratio of its layers' gradients: {quantity(ratio)}"
        first, last = self.losses
        if first is not None and last is not None and last > first + LOSS_MARGIN:
            yield f"its loss rose from {first:.2f} to {last:.2f}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        stats = {"initial": self.initial, "trained": self.trained}
        derived = {
            name: {**asdict(one), "score_headroom": one.score_headroom, "gradient_ratio": one.gradient_ratio}
            for name, one in stats.items()
            if one is not None
        }
        return {**asdict(self), **derived, "verdict": self.verdict}


def quantity(value: float | None) -> str:
    """Return a number as text with three digits; `not finite` for None."""
    return "not finite" if value is None else f"{value:.3g}"
