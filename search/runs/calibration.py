"""Calibration: measurement of the baseline's step time, by which reference seconds are counted."""

from __future__ import annotations

from ...primitives import DNA, WorkFailedError
from ...primitives.programs.program_json import dna_to_json
from ...workers.protocol import Evaluation, TrialRequest
from ..config import RunConfig
from ..evolution.candidate import BASELINE_ID

__all__ = ["Calibration"]

CALIBRATION = -1
"""Trial id of the calibration, which is not a trial of the run."""


class Calibration:
    """Step time of the baseline, measured once before the first trial if budgets are in reference seconds.

    Args:
        config: run configuration.
        baseline: baseline program.
        allowance_seconds: step time from an earlier measurement; None means `trial.allowance_ms`, if that is set.

    Attributes:
        allowance_seconds: time charged for a step of the baseline; None until it is known.
        running: whether a measurement has started and not ended.
    """

    def __init__(self, config: RunConfig, baseline: DNA, allowance_seconds: float | None = None):
        self.allowance_seconds = allowance_seconds or config.trial.allowance_ms / 1000 or None
        self.running = False
        self._config = config
        self._baseline = baseline
        self._failures = 0

    @property
    def needed(self) -> bool:
        """Whether trials must wait for the measurement."""
        return self._config.trial.unit == "reference_seconds" and self.allowance_seconds is None

    def request(self) -> TrialRequest:
        """Return the request for a measurement."""
        self.running = True
        return TrialRequest(CALIBRATION, BASELINE_ID, dna_to_json(self._baseline), 0, calibrate=True)

    def record(self, evaluation: Evaluation) -> None:
        """Record the end of a measurement; after a failure, `needed` stays true.

        Raises:
            WorkFailedError: the measurement failed more than `search.retries` times.
        """
        self.running = False
        if evaluation.step_ms:
            self.allowance_seconds = evaluation.step_ms / 1000
            return
        self._failures += 1
        if self._failures > self._config.search.retries:
            why = evaluation.message or evaluation.outcome
            raise WorkFailedError(f"the baseline's steps could not be timed: {why}")
