"""Gain of an edit: loss of the parent minus loss of the child, both by the loss that ranks them.

Most losses come from one training, so a gain has the noise of two trainings. A gain is called *inside the noise* if it
is smaller than the baseline's noise, the half width of the interval for one more training.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..leaderboard_rows import LeaderboardRow

__all__ = ["EditGain", "edit_gain"]


@dataclass(frozen=True, slots=True)
class EditGain:
    """Gain of a candidate over its parent; positive is better.

    Attributes:
        nats: gain in nats per token.
        bits_per_byte: the same gain in bits per byte.
        inside_noise: whether the gain is within the baseline's noise; None if the noise is unknown.
    """

    nats: float
    bits_per_byte: float | None
    inside_noise: bool | None


def edit_gain(child: LeaderboardRow | None, parent: LeaderboardRow | None, noise_nats: float | None) -> EditGain | None:
    """Return the gain of a child over its parent; None unless both are comparable.

    Args:
        child, parent: rows of both; None without a result.
        noise_nats: noise of the baseline.
    """
    if child is None or parent is None or not (child.comparable and parent.comparable):
        return None
    before, after = parent.ranking_nats, child.ranking_nats
    if before is None or after is None:
        return None
    gain = before - after
    bits = gain * child.bits_per_byte / child.loss_nats if child.bits_per_byte and child.loss_nats else None
    return EditGain(gain, bits, None if noise_nats is None else abs(gain) <= noise_nats)
