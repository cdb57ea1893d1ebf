"""Loss of one training after more or fewer steps, from the program's own validation losses.

A training that is evaluated a few times before its end has a learning curve on the validation text. The curve is linear
in the logarithm of the steps between two evaluations. Before the first evaluation it continues the first segment, and
after the last one the last segment.
"""

from __future__ import annotations

import math

from ...workers.protocol import Evaluation

__all__ = ["loss_change_nats", "validation_points"]


def validation_points(evaluation: Evaluation) -> tuple[tuple[int, float], ...]:
    """Return the validation losses of a training, finished or stopped: (steps, nats per token), in order of steps.

    >>> validation_points(Evaluation("ok", hurdle_steps=(500,), hurdle_losses=(4.2,), steps=1000, loss_nats=4.0))
    ((500, 4.2), (1000, 4.0))
    """
    losses = dict(zip(evaluation.hurdle_steps, evaluation.hurdle_losses, strict=False))
    if evaluation.loss_nats is not None:
        losses[evaluation.steps] = evaluation.loss_nats
    return tuple((steps, loss) for steps, loss in sorted(losses.items()) if steps > 0)


def loss_change_nats(evaluation: Evaluation, factor: float) -> float | None:
    """Return the validation loss after `factor` times the steps minus the loss at the end, in nats per token.

    Args:
        evaluation: evaluation of a training, with losses before its end (`hurdle_losses`).
        factor: number of steps divided by the training's number of steps; above 1 extrapolates.

    Returns:
        The change; None if the training has no loss at its end, or none before it.

    >>> ended = Evaluation("ok", hurdle_steps=(500,), hurdle_losses=(4.2,), steps=1000, loss_nats=4.0)
    >>> round(loss_change_nats(ended, 0.5), 3), round(loss_change_nats(ended, 2.0), 3)
    (0.2, -0.2)
    """
    if evaluation.loss_nats is None or evaluation.steps <= 0:
        return None
    points = [(math.log(steps), loss) for steps, loss in validation_points(evaluation)]
    if len(points) < 2:
        return None
    at = points[-1][0] + math.log(factor)
    place = next((place for place in range(1, len(points)) if at <= points[place][0]), len(points) - 1)
    (before, loss_before), (after, loss_after) = points[place - 1 : place + 1]
    slope = (loss_after - loss_before) / (after - before)
    return loss_after + slope * (at - after) - evaluation.loss_nats
