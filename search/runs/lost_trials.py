"""Trials that end without a result: lost with their worker, or ended by an unexpected exception.

Each is repeated a limited number of times. If every repetition is lost, the candidate is rejected, but only if other
trials give results. If none does, the fault is in the environment, for example a broken driver.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import replace

from ...primitives.errors import WorkFailedError
from ...workers.protocol import INFRASTRUCTURE_FAULTS, OUTCOME_ADVICE, Evaluation, TrialRequest
from ..evolution.candidate import BASELINE_ID

__all__ = ["EnvironmentCheck", "LostTrials"]

FEWEST_LOST = 6
"""Number of consecutive trials without a result that shows a fault of the environment, with one or two workers."""

LOST_PER_WORKER = 3
"""The same number per worker, with more workers: if a machine fails, the trials of all its workers are lost at once."""

BASELINE_FAILURES = 2
"""Number of failed trainings of the baseline after which the search stops, if none has succeeded."""


class LostTrials:
    """Counter of the trials that ended without a result.

    Args:
        retries: largest number of repetitions of one trial.

    Attributes:
        counts: number of lost trials, by the key that `should_repeat` is called with.
    """

    def __init__(self, retries: int):
        self.retries = retries
        self.counts: Counter[Hashable] = Counter()

    def should_repeat(self, trial: Hashable, evaluation: Evaluation) -> bool:
        """Count a trial if it has no result, and return whether to repeat it."""
        if evaluation.kind not in INFRASTRUCTURE_FAULTS:
            return False
        self.counts[trial] += 1
        return self.counts[trial] <= self.retries


class EnvironmentCheck:
    """Distinguishes a fault of the environment from a fault of a candidate by whether other trials succeed.

    Args:
        slots: number of workers.
        baseline_trials: number of the baseline's first trials.
        log: name of the log file, for messages.
    """

    def __init__(self, slots: int, baseline_trials: int, log: str):
        self._most_in_a_row = max(FEWEST_LOST, LOST_PER_WORKER * slots)
        self._baseline_failures = min(BASELINE_FAILURES, baseline_trials)
        self._log = log
        self._in_a_row = 0
        self._any_result = False
        self._last = Evaluation("ok")
        self.suspects: list[tuple[TrialRequest, Evaluation]] = []
        """Lost trials that are not repeated any more. It is not known yet whether their candidates are at fault."""

    def count(self, evaluation: Evaluation) -> None:
        """Count the end of a trial."""
        if evaluation.kind in INFRASTRUCTURE_FAULTS:
            self._in_a_row, self._last = self._in_a_row + 1, evaluation
        else:
            self._in_a_row, self._any_result = 0, True

    def take_suspects(self, lost_counts: Counter[Hashable]) -> list[tuple[TrialRequest, Evaluation]]:
        """Return the suspects, with rejected evaluations, if the last trial gave a result; otherwise none."""
        if self._in_a_row:
            return []
        taken, self.suspects = self.suspects, []
        return [(request, _rejected(evaluation, lost_counts[request.candidate_id])) for request, evaluation in taken]

    def raise_if_broken(self, baseline: Iterable[Evaluation]) -> None:
        """Check that trials can succeed here at all.

        Args:
            baseline: results of the baseline's trials so far.

        Raises:
            WorkFailedError: the baseline cannot train, or no trial succeeds any more.
        """
        results = list(baseline)
        trained = any(each.kind == "ok" for each in results)
        if len(results) >= self._baseline_failures and not trained:
            self._refuse_baseline(results[-1])
        if not self._any_result and any(request.candidate_id == BASELINE_ID for request, _ in self.suspects):
            self._refuse_baseline(self._last)
        if self._in_a_row >= self._most_in_a_row:
            raise WorkFailedError(
                f"the last {self._in_a_row} trials in a row gave no result, so the fault is not in the candidates; "
                f"{self._reason(self._last)}; once that is fixed, resume the run"
            )

    def _refuse_baseline(self, evaluation: Evaluation) -> None:
        raise WorkFailedError(
            f"the baseline cannot train here, so no candidate can be compared with it; {self._reason(evaluation)}"
        )

    def _reason(self, evaluation: Evaluation) -> str:
        remedy = f"{self._log} has more"
        if evaluation.kind in ("timeout", "out_of_memory"):
            remedy = OUTCOME_ADVICE[evaluation.kind].partition("; ")[2].partition(" if ")[0]
        return f"{evaluation.outcome}: {evaluation.message} ({remedy})"


def _rejected(evaluation: Evaluation, trials: int) -> Evaluation:
    message = f"none of its {trials} trials gave a result, while those of other candidates did: {evaluation.message}"
    return replace(evaluation, outcome=f"rejected:{evaluation.kind}", message=message)
