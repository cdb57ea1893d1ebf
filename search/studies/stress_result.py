"""What one model bore under `stress`, and when that is called safe.

`safe` means: nothing stopped being finite, in training or in the probes up to their margins, and what was met stays
away from where it would break. The margins are below; each says what it is for.
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
"""EXP overflows above it, in float32 and in bfloat16, which have one range."""

SCORE_MARGIN = 2.0
"""A score that EXP sees as it is must still be able to grow by this factor: training continues after these steps. A
softmax is computed from scores less their maximum, and has no limit."""

VALUE_LIMIT = 1.8e19
"""The square of a larger value overflows: sums of squares, and the gradient's norm, must not."""

INPUT_MARGIN = 1e3
"""Factor on the first layer's input that a model must bear: single activations of trained models reach thousands of
times the typical one (Sun et al. 2024, arXiv 2402.17762)."""

WEIGHT_MARGIN = 4.0
"""Factor on all dense kernels that it must bear: queries and keys grow in training, and scores with both, 16 times."""

GRADIENT_MARGIN = 1e3
"""Largest ratio of gradient norms between layers: one factor clips them all, so that the smaller would stand still."""

LOSS_MARGIN = 0.5
"""Nats above the first loss at which training has gone astray (at rates that suit the preset's own size)."""

LARGEST_SCALE = 1e4


@dataclass(frozen=True, slots=True)
class StressSetting:
    """One model.

    Attributes:
        layers, length: of the model.
        precision: of its activations.
        batch: sequences in a training batch: as many tokens as the configuration's, or one sequence.
    """

    layers: int
    length: int
    precision: str
    batch: int


@dataclass(frozen=True, slots=True)
class ActivationPeak:
    """The largest value of a kind: where it stood, and how large it was (None: not finite)."""

    node: str
    layer: int
    value: float | None


@dataclass(frozen=True, slots=True)
class ActivationStats:
    """What a model showed at one moment.

    Attributes:
        loss_nats: of one batch, per token.
        activations: the largest magnitudes, of five nodes, each in the layer where it is largest.
        score: the largest input of an EXP, before a softmax is shifted; None where the program has none.
        open_score: the largest that an EXP meets unshifted; None where every EXP is a softmax's.
        gradient_norm: of all parameters; gradient_norms: by layer.
    """

    loss_nats: float | None
    activations: tuple[ActivationPeak, ...]
    score: ActivationPeak | None
    open_score: float | None
    gradient_norm: float | None
    gradient_norms: tuple[float | None, ...]

    @property
    def score_headroom(self) -> float | None:
        """What the largest score, were it not shifted, is away from overflow."""
        return None if self.score is None or self.score.value is None else SCORE_LIMIT - self.score.value

    @property
    def gradient_ratio(self) -> float | None:
        """Largest over smallest gradient norm of a layer; None where one is not finite, or none is above zero."""
        norms = [norm for norm in self.gradient_norms if norm is not None]
        if len(norms) < len(self.gradient_norms) or not max(norms):
            return None
        return max(norms) / max(min(norms), 1e-30)


@dataclass(frozen=True, slots=True)
class Failure:
    """Where something stopped being finite: at which step or factor, and in which layer and node."""

    at: float
    where: str


@dataclass(frozen=True, slots=True)
class StressResult:
    """What one model bore.

    Attributes:
        setting: the model.
        steps: it was trained.
        initial, trained: observations; `trained` is None where training broke.
        losses: training losses at the first step and, as a mean, over the last tenth of them.
        training: the step at which training broke.
        inputs, weights: the factor at which it breaks, up to `LARGEST_SCALE`; None where it does not.
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
        """`safe`, `breaks at ...`, or `close: ...` where it holds by less than a margin asks for."""
        if self.training is not None:
            return f"breaks at step {self.training.at:.0f}, {self.training.where}"
        for name, margin, found in (("inputs", INPUT_MARGIN, self.inputs), ("weights", WEIGHT_MARGIN, self.weights)):
            if found is not None and found.at <= margin:
                return f"breaks at {name} x{found.at:.3g}, {found.where}"
        return "; ".join(f"close: {why}" for why in self._close()) or "safe"

    def _close(self) -> Iterator[str]:
        for snapshot in (self.initial, self.trained):
            if snapshot is None:
                continue
            if snapshot.open_score is not None and snapshot.open_score * SCORE_MARGIN > SCORE_LIMIT:
                yield f"EXP of {snapshot.open_score:.3g}, and it overflows at {SCORE_LIMIT}"
            if (largest := snapshot.activations[0]).value is None or largest.value > VALUE_LIMIT:
                yield f"{largest.node} reaches {quantity(largest.value)}, its square overflows"
            if (ratio := snapshot.gradient_ratio) is None or ratio > GRADIENT_MARGIN:
                yield f"gradients of its layers differ {quantity(ratio)} times"
        first, last = self.losses
        if first is not None and last is not None and last > first + LOSS_MARGIN:
            yield f"its loss rose from {first:.2f} to {last:.2f}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        derived = {
            name: None
            if (snapshot := getattr(self, name)) is None
            else {
                **asdict(snapshot),
                "score_headroom": snapshot.score_headroom,
                "gradient_ratio": snapshot.gradient_ratio,
            }
            for name in ("initial", "trained")
        }
        return {**asdict(self), **derived, "verdict": self.verdict}


def quantity(value: float | None) -> str:
    """A number in three digits; None means not finite."""
    return "not finite" if value is None else f"{value:.3g}"
