"""Results of a run as sentences, which the console and the pages share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ...system.plurals import pluralize
from ...workers.protocol import LARGEST_INPUT_WAIT
from ..evolution.candidate import BASELINE_ID, candidate_name
from ..results.confirmation import Confirmation, retrained_candidates
from ..results.digest.proposal_counts import count_proposals
from ..results.leaderboard import best_row
from ..results.leaderboard_rows import BaselineSummary, Leaderboard, LeaderboardRow, RunTotals
from ..results.speedup import MAX_EPOCHS
from ..results.statistics import Estimate
from ..results.trust.leak_check_totals import LeakCheckTotals
from .progress.search_progress import format_outcomes
from .tables.prediction_table import format_calibration

__all__ = [
    "PROPOSAL_WORDS",
    "UNCONFIRMED",
    "beyond_noise",
    "format_baseline",
    "format_baseline_row",
    "format_confirmed_difference",
    "format_epochs",
    "format_input_wait",
    "format_proposals",
    "headline",
    "run_conditions",
    "run_facts",
    "search_leader",
]

UNCONFIRMED = (
    "each loss comes from one training or a few, on the validation text by which the search selected. The best of "
    "many candidates looks better than it is. Confirm it before you believe it"
)
"""Warning about results that were not retrained."""

PROPOSAL_WORDS = {
    "unchanged": "left the program unchanged",
    "same_structure": "known structure",
    "same_function": "known function",
}
"""Reasons why a valid mutation gave no new program, in words."""


def headline(board: Leaderboard) -> str:
    """Return the main result in one sentence: about the retrained candidates if there are any."""
    return _confirmed_headline(board) if board.confirmed else _unconfirmed_headline(board)


def search_leader(board: Leaderboard) -> str:
    """Return a sentence about the best candidate of the search, if the headline is about another one; else empty."""
    first, retrained = best_row(board.rows), retrained_candidates(board.confirmed)
    if first is None or not retrained or first.id == next(iter(retrained)):
        return ""
    result = retrained.get(first.id)
    words = "it was not retrained" if result is None else f"retrained, it is {result.verdict}"
    return f"On the validation text of the search, {candidate_name(first.id)} was first; {words}."


def _confirmed_headline(board: Leaderboard) -> str:
    rows = list(retrained_candidates(board.confirmed).values())
    if not rows:
        return "Only the baseline was retrained, so there is nothing to compare with."
    best = rows[0]
    name = best.name + _format_origin(board, best.candidate_id)
    group = f"{len(rows)} candidates" if len(rows) > 1 else "one candidate"
    trainings = f"{group} retrained {pluralize(best.trainings, 'time')}"
    if best.better:
        return f"Confirmed: {name} is better than the baseline on the test text, by {_format_views(best)}; {trainings}."
    if best.difference is None:
        return f"Not confirmed: {name}, the best of {trainings}, is {best.verdict}."
    return f"Not confirmed: {name}, the best of {trainings}, differs by {_format_views(best)}: {best.verdict}."


def _format_views(row: Confirmation) -> str:
    """Format the differences of a retrained candidate to the baseline in all views."""
    return " and ".join(
        f"{format_confirmed_difference(each, f' {row.unit}')} {view}".strip() for view, each in row.views.items()
    )


def format_confirmed_difference(difference: Estimate | None, unit: str = " bits/byte") -> str:
    """Format a difference to the baseline, with its interval; None becomes a dash."""
    if difference is None:
        return "–"
    words = f"{difference.mean:+.4f}{unit}"
    if difference.low is not None and difference.high is not None:
        words += f" (95%: {difference.low:+.4f} to {difference.high:+.4f})"
    return words


def _unconfirmed_headline(board: Leaderboard) -> str:
    baseline, best = board.baseline, best_row(board.rows)
    if baseline.loss_nats is None:
        return "The baseline has not finished a full trial, so there is nothing to compare with."
    if best is None:
        return "No candidate has finished a full trial yet."
    assert best.loss_nats is not None
    assert best.delta_nats is not None
    direction = "below" if best.delta_nats < 0 else "above"
    bits = "" if best.delta_bits_per_byte is None else f" ({abs(best.delta_bits_per_byte):.4f} bits/byte)"
    distance = f"{abs(best.delta_nats):.4f} nats{bits} {direction} the baseline's mean{_at_equal_time(best)}"
    name = f"candidate {best.id}{_format_origin(board, best.id)}"
    if baseline.noise_nats is None:
        return f"C{name[1:]} is {distance}, but the baseline's noise is unknown: it has one full trial only."
    noise = f"the noise of {baseline.noise_nats:.4f} nats (from {baseline.trials} trainings of the baseline)"
    if beyond_noise(best):
        return f"C{name[1:]} is {distance}, beyond {noise}.{_against_initial_programs(board, best)}"
    where = "inside" if best.inside_noise else "beyond"
    return f"Nothing beat the baseline beyond its noise. The best, {name}, is {distance}, {where} {noise}."


def _at_equal_time(row: LeaderboardRow) -> str:
    """Format the difference to the baseline at equal time; empty for runs whose steps have no price."""
    if row.equal_time_delta_nats is None:
        return ""
    direction = "below" if row.equal_time_delta_nats < 0 else "above"
    return f" at equal steps and {abs(row.equal_time_delta_nats):.4f} nats {direction} it at equal time"


def _format_origin(board: Leaderboard, candidate_id: int | None) -> str:
    """Return a note on the origin of an imported candidate; empty for others."""
    origin = None if candidate_id is None else board.initial_programs.get(candidate_id)
    return "" if origin is None else f" (imported from {origin})"


def _against_initial_programs(board: Leaderboard, best: LeaderboardRow) -> str:
    """Format the distance from the best candidate to the best initial program, if any were imported."""
    start = next((row for row in board.rows if row.rank is not None and row.id in board.initial_programs), None)
    if start is None or start.id in (best.id, BASELINE_ID) or start.loss_nats is None or best.loss_nats is None:
        return ""
    distance = f"{abs(best.loss_nats - start.loss_nats):.4f} nats"
    origin = f"{candidate_name(start.id)} from {board.initial_programs[start.id]}"
    return f" It is {distance} below the best initial program, {origin}."


def run_conditions(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the conditions of a run by name, from its manifest; unknown ones are question marks."""
    source = manifest.get("config", {}).get("data", {}).get("source", "?")
    return {
        "started": datetime.fromtimestamp(manifest.get("started_at", 0)).strftime("%Y-%m-%d %H:%M"),
        "random seed": str(manifest.get("seed", "?")),
        "budget": f"{manifest.get('budget_seconds', 0):,.0f} s of wall clock",
        "data": f"{source} (hash {str(manifest.get('dataset_hash', '?'))[:16]})",
        "workers": str(manifest.get("workers", "?")),
        "machine": str(manifest.get("machine", "?")),
    }


def run_facts(board: Leaderboard) -> list[tuple[str, str]]:
    """Return facts about a run as pairs of a name and a text."""
    totals = board.totals
    facts = [
        ("baseline", format_baseline(board.baseline)),
        ("words", _format_perplexities(board)),
        ("initial programs", _format_initial_programs(board.initial_programs)),
        ("outcomes", format_outcomes(totals.outcomes) or "none yet"),
        ("predictions", format_calibration(board.predictions)),
        ("proposals", format_proposals(totals.proposals)),
        ("checks", _format_checks(totals.checks)),
        ("cost", _format_cost(totals)),
        ("text", format_epochs(board.rows)),
        ("wall clock", " · ".join(f"{name} {share:.0%}" for name, share in totals.shares.items() if share >= 0.005)),
        ("input", _format_input_waits(board.rows)),
    ]
    return [(name, text) for name, text in facts if text]


def beyond_noise(row: LeaderboardRow) -> bool:
    """Return whether a candidate is better than the baseline by more than the noise of one training."""
    return row.better is True


def format_baseline(baseline: BaselineSummary) -> str:
    """Format the mean, spread, number of trials and noise of the baseline."""
    if baseline.loss_nats is None:
        return "no full trial of the baseline yet"
    spread = "" if baseline.spread_nats is None else f" ± {baseline.spread_nats:.4f}"
    bits = "" if baseline.bits_per_byte is None else f", {baseline.bits_per_byte:.4f} bits/byte"
    noise = "" if baseline.noise_nats is None else f"; noise ± {baseline.noise_nats:.4f} nats (95%, one more training)"
    return f"{baseline.loss_nats:.4f}{spread} nats (n={baseline.trials}){bits}{noise}"


def _format_perplexities(board: Leaderboard) -> str:
    """Format the perplexity per word of the baseline, the best and the best confirmed candidate; empty if unknown."""
    best = best_row(board.rows)
    confirmed = next((row for row in board.confirmed if row.rank is not None), None)
    found = {
        "baseline": board.baseline.word_perplexity,
        "best of the search": None if best is None else best.word_perplexity,
        f"{'' if confirmed is None else confirmed.name} on the test text": (
            None if confirmed is None else confirmed.test_word_perplexity
        ),
    }
    known = [f"{name} {value:,.1f}" for name, value in found.items() if value is not None]
    return f"perplexity per word: {', '.join(known)}" if known else ""


def _format_checks(checks: LeakCheckTotals) -> str:
    """Format the numbers of leak checks and their results."""
    parts = [f"{checks.proved:,} programs proved causal", f"{checks.probed:,} models probed before training"]
    if checks.rechecked:
        moved = f"later tokens changed logits by at most {checks.moved_logits:.1g}"
        parts.append(f"{checks.rechecked:,} rechecked once trained ({moved})")
    if checks.quarantined:
        parts.append(f"{checks.quarantined:,} quarantined for an implausible loss and cleared")
    if checks.refused:
        parts.append("refused: " + ", ".join(f"{reason} {count:,}" for reason, count in checks.refused.items()))
    return " · ".join(parts)


def format_baseline_row(initial_programs: Mapping[int, str]) -> str:
    """Return the text of the baseline in the column of mutations."""
    return "the baseline" if initial_programs else "the program the search started from"


def _format_initial_programs(initial_programs: Mapping[int, str]) -> str:
    """Format the initial programs; empty if the baseline is the only one."""
    return " · ".join(f"{candidate_name(number)} from {origin}" for number, origin in initial_programs.items())


def format_proposals(proposals: Mapping[str, Any]) -> str:
    """Format how many mutations gave a new program, and why the others did not."""
    counts = count_proposals(proposals)
    tried, noun = counts.tried, "random program" if counts.random else "mutation"
    if not tried:
        return "none yet"
    parts = [f"{pluralize(tried, noun)}: {pluralize(counts.new, 'new program')}"]
    parts += [
        f"{value:,} {PROPOSAL_WORDS.get(name, name.replace('_', ' '))} ({value / tried:.0%})"
        for name, value in counts.known.items()
    ]
    if invalid := counts.invalid:
        reasons = ", ".join(f"{reason.replace('_', ' ')} {value:,}" for reason, value in invalid.items())
        total = sum(invalid.values())
        parts.append(f"{total:,} invalid ({total / tried:.0%}: {reasons})")
    return " · ".join(parts)


def _format_cost(totals: RunTotals) -> str:
    """Format the cost of the search."""
    return (
        f"{totals.worker_seconds / 60:.1f} worker-minutes for {totals.trials:,} trainings, "
        f"equal to {totals.full_budgets:.1f} full budgets"
    )


def format_input_wait(input_wait_share: float | None) -> str:
    """Format the share of training spent waiting for batches; empty if it is small.

    >>> format_input_wait(0.051), format_input_wait(0.004)
    ('5.1% of it waiting for batches', '')
    """
    if input_wait_share is None or input_wait_share <= LARGEST_INPUT_WAIT:
        return ""
    return f"{input_wait_share:.1%} of it waiting for batches"


def _format_input_waits(rows: Sequence[LeaderboardRow]) -> str:
    """Format how many candidates waited for batches, and the longest wait; empty if none did."""
    shares = {row.id: row.input_wait_share for row in rows if format_input_wait(row.input_wait_share)}
    if not shares:
        return ""
    worst = max(shares, key=lambda number: shares[number] or 0.0)
    return (
        f"{len(shares)} of {len(rows)} candidates spent more than {LARGEST_INPUT_WAIT:.0%} of training waiting "
        f"for batches, {candidate_name(worst)} the most: {shares[worst]:.1%}"
    )


def format_epochs(rows: Sequence[LeaderboardRow]) -> str:
    """Format how often a full training read the text, with a warning if that is too often; empty before the first one.

    Losses on a text that was read often measure memorization (Muennighoff et al. 2023).
    """
    most = max((row.epochs for row in rows if row.rank is not None), default=0.0)
    if not most:
        return ""
    often = f"{most:,.2g} epochs in a full training"
    if most <= MAX_EPOCHS:
        return often
    return f"{often}: after more than {MAX_EPOCHS:g}, losses measure memorization; use a larger text or shorter trials"
