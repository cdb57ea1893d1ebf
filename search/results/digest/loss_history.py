"""History of all trainings with a loss, in order of arrival, in a few bytes each."""

from __future__ import annotations

from array import array

__all__ = ["LossHistory"]


class LossHistory:
    """Columns of equal length, one entry for each training that reached its end or was stopped at a hurdle.

    Attributes:
        seconds: time of the result since the start of the run, without pauses.
        trainings: number of candidates' trainings that had ended by then.
        candidates: trained candidates.
        losses: losses in nats per token, at the end or at the hurdle.
        hurdles: hurdle that stopped the training, from 1; 0 for none.
    """

    def __init__(self) -> None:
        self.seconds, self.losses = array("d"), array("d")
        self.trainings, self.candidates, self.hurdles = array("q"), array("q"), array("h")

    def __len__(self) -> int:
        return len(self.losses)

    def append(self, seconds: float, trainings: int, candidate_id: int, loss_nats: float, hurdle: int) -> None:
        """Add a training."""
        self.seconds.append(seconds)
        self.trainings.append(trainings)
        self.candidates.append(candidate_id)
        self.losses.append(loss_nats)
        self.hurdles.append(hurdle)
