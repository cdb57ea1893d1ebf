"""Checks of one candidate: whether its model sees later tokens, and whether its gain exceeds the noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ...system.plurals import pluralize
from ...workers.protocol import Evaluation
from ..evolution.candidate import BASELINE_ID, Candidate
from ..reports.formatting import format_estimate
from ..reports.tables.scale_table import format_scale_result
from ..results.confirmation import Confirmation
from ..results.digest.candidate_rows import CandidateRows
from ..results.leaderboard_rows import LeaderboardRow
from ..results.scale_ladder import Ladder
from ..results.trust.leak_check_totals import count_leak_checks

__all__ = ["Check", "candidate_checks"]

State = Literal["passed", "failed", "open", "noted"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: name of the check.
        state: `passed`, `failed`, `open` if the check was not done, or not often enough, `noted` if it has no verdict.
        sentence: the result.
    """

    name: str
    state: State
    sentence: str


def candidate_checks(
    candidate: Candidate, rows: CandidateRows, trainings: Sequence[Evaluation], ladder: Ladder | None
) -> list[Check]:
    """Return the checks of a candidate, in the order in which a run makes them.

    Args:
        candidate: the candidate.
        rows: results of the candidate and its ancestors.
        trainings: evaluations of the candidate's trainings in the search.
        ladder: retrainings at other scales; None without any.
    """
    row = rows.row(candidate.id)
    checks = [_causality(candidate, rows), *_probes(trainings)]
    if row is not None and candidate.id != BASELINE_ID:
        checks.append(_noise(row, rows))
    if row is not None:
        checks.append(_repeats(row))
    if candidate.id == BASELINE_ID:
        return checks
    confirmed = next((each for each in rows.confirmed if each.candidate_id == candidate.id), None)
    checks.append(_confirmation(confirmed))
    return [*checks, *_scales(candidate.id, ladder, confirmed)]


def _causality(candidate: Candidate, rows: CandidateRows) -> Check:
    if candidate.id == BASELINE_ID:
        return Check("causality", "noted", "given to the search as the baseline")
    if candidate.id in rows.initial_programs:
        return Check("causality", "passed", "an initial program, checked before the search started")
    return Check(
        "causality",
        "passed",
        "no position sees a later one: proved from the program, and tested on a block in float64",
    )


def _probes(trainings: Sequence[Evaluation]) -> list[Check]:
    """Return the checks by probes of the language models, in the words of the run's totals."""
    totals = count_leak_checks(trainings, 1)
    if totals.refused:
        reasons = ", ".join(f"{reason} {count}" for reason, count in totals.refused.items())
        return [Check("leaks", "failed", f"refused by a probe of its model: {reasons}")]
    if not totals.probed:
        return [Check("leaks", "open", "none of its models has been probed yet")]
    checks = [
        Check(
            "leaks before training",
            "passed",
            f"later tokens and other texts moved no logit of {pluralize(totals.probed, 'probed model')}",
        )
    ]
    if totals.moved_logits is not None:
        moved = f"later tokens and other texts moved the logits of {pluralize(totals.rechecked, 'trained model')}"
        checks.append(Check("leaks after training", "passed", f"{moved} by at most {totals.moved_logits:.1g}"))
    if totals.quarantined:
        reason = next(each.quarantine for each in trainings if each.quarantine)
        checks.append(Check("implausible loss", "noted", reason))
    return checks


def _noise(row: LeaderboardRow, rows: CandidateRows) -> Check:
    name, noise = "noise", rows.baseline.noise_nats
    if row.noise_multiple is None or noise is None:
        return Check(name, "open", row.verdict)
    found = f"{row.verdict}: {abs(row.noise_multiple):.1f} times the noise of {noise:.4f} nats"
    return Check(
        name, "passed" if row.better else "failed", f"{found} ({rows.baseline.trials} trainings of the baseline)"
    )


def _repeats(row: LeaderboardRow) -> Check:
    if row.diverged:
        return Check("repeated trainings", "failed", row.verdict)
    if row.trials < 2:
        return Check("repeated trainings", "open", "trained once in the search")
    return Check("repeated trainings", "passed", f"trained {row.trials} times in the search; its loss is their mean")


def _confirmation(confirmed: Confirmation | None) -> Check:
    if confirmed is None:
        missing = "not yet retrained with fresh random seeds and scored on the test text: use primer-search confirm"
        return Check("confirmation", "open", missing)
    views = [
        f"{format_estimate(estimate)} bits/byte {view}".strip()
        for view, estimate in confirmed.views.items()
        if estimate
    ]
    times = pluralize(confirmed.trainings, "fresh training")
    return Check("confirmation", _state(confirmed), "; ".join([f"{confirmed.verdict}, {times}", *views]))


def _state(confirmed: Confirmation) -> State:
    return "passed" if confirmed.better else "open" if confirmed.undecided else "failed"


def _scales(candidate_id: int, ladder: Ladder | None, own: Confirmation | None) -> list[Check]:
    """Return the results at other model sizes than the run's; `own` is the result at the run's size."""
    if ladder is None:
        return [Check("other model sizes", "open", "not retrained in a larger model")]
    checks = []
    for label, results in zip(ladder.labels, ladder.results, strict=True):
        for entry in results:
            if entry.result.candidate_id == candidate_id and entry.result != own:
                sentence = f"{label}: {entry.verdict}, rank {format_scale_result(entry)} bits/byte"
                checks.append(Check("another model size", _state(entry.result), sentence))
    return checks or [Check("other model sizes", "open", "not retrained in a larger model")]
