"""A run's result in words and numbers, the same on the console and in the report: one place decides what is claimed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...workers.protocol import LARGEST_INPUT_WAIT
from ..evolution.candidate import BASELINE_ID, candidate_name
from ..results.confirmation import Confirmation
from ..results.leaderboard import best_row
from ..results.leaderboard_rows import BaselineSummary, Leaderboard, LeaderboardRow, RunTotals
from ..results.leak_check_totals import LeakCheckTotals
from ..results.lineage import LineageStep
from ..results.speedup import MOST_EPOCHS

__all__ = [
    "UNCONFIRMED",
    "beyond_noise",
    "count",
    "format_baseline",
    "format_baseline_row",
    "format_checks",
    "format_confirmed_difference",
    "format_cost",
    "format_epochs",
    "format_initial_programs",
    "format_input_wait",
    "format_input_waits",
    "format_lineage",
    "format_perplexities",
    "format_proposals",
    "format_shares",
    "headline",
    "number",
    "short_mutation",
]

UNCONFIRMED = (
    "one training each, ranked on the validation text that the search itself selected by: the best of many looks "
    "better than it is, so confirm it before you believe it"
)
"""Why no result of a search alone is to be believed."""

_SHORTER = (
    (r"^Delete in (\S+): (.*)$", r"\1: − \2"),
    (r"^Insert in (\S+): (.*)$", r"\1: + \2"),
    (r"^Delete and insert: in (\S+): (.*); then in (\S+): (.*)$", r"\1: − \2, \3: + \4"),
    (r"^Mutate field \w+ in (\S+): (.*) becomes (.*)$", r"\1: \2 → \3"),
    (r"^Mutate bank value: (\w+ \d+) from (\S+) to (\S+)$", r"\1: \2 → \3"),
    (r"^Swap in (\S+): (.*)$", r"\1: swap \2"),
)


def headline(board: Leaderboard) -> str:
    """What the run found, in one honest sentence: of what was confirmed, if anything was."""
    return _confirmed_headline(board) if board.confirmed else _unconfirmed_headline(board)


def _confirmed_headline(board: Leaderboard) -> str:
    rows = [row for row in board.confirmed if row.candidate_id not in (None, BASELINE_ID)]
    if not rows:
        return "Only the baseline was trained again, so there is nothing to compare with."
    best = rows[0]
    name = best.name + _format_origin(board, best.candidate_id)
    of = f"{len(rows)} candidates" if len(rows) > 1 else "one candidate"
    trainings = f"{of} trained again {best.trainings} time{'s' if best.trainings != 1 else ''}"
    if best.better:
        better = f"better than the baseline on the test text, by {format_confirmed_difference(best)}"
        return f"Confirmed: {name} is {better}; {trainings}."
    if best.difference is None:
        return f"Not confirmed: {name}, the best of {trainings}, is {best.verdict}."
    difference = format_confirmed_difference(best)
    return f"Not confirmed: {name}, the best of {trainings}, differs by {difference}: {best.verdict}."


def format_confirmed_difference(row: Confirmation) -> str:
    """A confirmed difference to the baseline with its interval."""
    if row.difference is None:
        return "–"
    words = f"{row.difference.mean:+.4f} bits/byte"
    if row.difference.low is not None and row.difference.high is not None:
        words += f" (95%: {row.difference.low:+.4f} to {row.difference.high:+.4f})"
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
    distance = f"{abs(best.delta_nats):.4f} nats{bits} {direction} the baseline's mean"
    name = f"candidate {best.id}{_format_origin(board, best.id)}"
    if baseline.noise_nats is None:
        return f"C{name[1:]} is {distance}, but the baseline's noise is unknown: it has one full trial only."
    noise = f"the noise of {baseline.noise_nats:.4f} that the baseline's own {baseline.trials} trials show"
    if beyond_noise(best):
        return f"C{name[1:]} is {distance}, beyond {noise}.{_against_initial_programs(board, best)}"
    where = "inside" if best.inside_noise else "beyond"
    return f"Nothing beat the baseline beyond its noise: the best, {name}, is {distance}, {where} {noise}."


def _format_origin(board: Leaderboard, candidate_id: int | None) -> str:
    """What is added to a candidate's name if the search did not find it."""
    origin = None if candidate_id is None else board.initial_programs.get(candidate_id)
    return "" if origin is None else f" (imported from {origin})"


def _against_initial_programs(board: Leaderboard, best: LeaderboardRow) -> str:
    """How far the best of a search is from the best of what it started from, where that was imported."""
    start = next((row for row in board.rows if row.rank is not None and row.id in board.initial_programs), None)
    if start is None or start.id in (best.id, BASELINE_ID) or start.loss_nats is None or best.loss_nats is None:
        return ""
    distance = f"{abs(best.loss_nats - start.loss_nats):.4f} nats"
    origin = f"{candidate_name(start.id)} from {board.initial_programs[start.id]}"
    return f" It is {distance} below the best initial program, {origin}."


def beyond_noise(row: LeaderboardRow) -> bool:
    """Whether it is better than the baseline by more than one more training of the baseline could well be."""
    return row.delta_nats is not None and row.delta_nats < 0 and row.inside_noise is False


def format_baseline(baseline: BaselineSummary) -> str:
    """The baseline's mean, spread, number of trials, and the noise they show."""
    if baseline.loss_nats is None:
        return "no full trial of the baseline yet"
    spread = "" if baseline.spread_nats is None else f" ± {baseline.spread_nats:.4f}"
    bits = "" if baseline.bits_per_byte is None else f", {baseline.bits_per_byte:.4f} bits/byte"
    noise = "" if baseline.noise_nats is None else f"; noise ± {baseline.noise_nats:.4f} nats (95%, one more training)"
    return f"{baseline.loss_nats:.4f}{spread} nats (n={baseline.trials}){bits}{noise}"


def format_perplexities(board: Leaderboard) -> str:
    """Perplexity per word of the baseline, the best and the best confirmed; empty where words are not counted."""
    best = best_row(board.rows)
    confirmed = next((row for row in board.confirmed if row.rank is not None), None)
    found = {
        "baseline": board.baseline.word_perplexity,
        "best": None if best is None else best.word_perplexity,
        f"{'' if confirmed is None else confirmed.name} on the test text": (
            None if confirmed is None else confirmed.test_word_perplexity
        ),
    }
    known = [f"{name} {value:,.1f}" for name, value in found.items() if value is not None]
    return f"perplexity per word: {', '.join(known)}" if known else ""


def format_checks(checks: LeakCheckTotals) -> str:
    """What was checked for leaks, and what came of it."""
    parts = [f"{checks.proved:,} programs proved causal", f"{checks.probed:,} models probed before training"]
    if checks.rechecked:
        moved = f"no past logit moved by more than {checks.moved_logits:.1g}"
        parts.append(f"{checks.rechecked:,} rechecked once trained ({moved})")
    if checks.quarantined:
        parts.append(f"{checks.quarantined:,} too good to be true and cleared")
    if checks.refused:
        parts.append("refused: " + ", ".join(f"{reason} {count:,}" for reason, count in checks.refused.items()))
    return " · ".join(parts)


def format_baseline_row(initial_programs: Mapping[int, str]) -> str:
    """What stands in the baseline's row in the place of mutations."""
    return "the baseline" if initial_programs else "the program the search started from"


def format_initial_programs(initial_programs: Mapping[int, str]) -> str:
    """What the population started as copies of, where that was not the baseline alone."""
    return " · ".join(f"{candidate_name(number)} from {origin}" for number, origin in initial_programs.items())


def number(value: float | None, form: str = ".4f") -> str:
    """A number in a format, or a dash where there is none."""
    return "–" if value is None else format(value, form)


def count(value: int | None) -> str:
    """A whole number with thousands set apart, or a dash."""
    return number(value, ",")


def format_lineage(lineage: Sequence[LineageStep]) -> list[str]:
    """What made a candidate, newest first: of each step the mutation that made its program new.

    A child mutates until its program is new, so the last mutation of a step did it; `(+2)` counts those before, most of
    them silent.
    """
    words = []
    for step in reversed(lineage):
        *before, last = step.mutations or ("a new individual of the same program",)
        words.append(short_mutation(last) + (f" (+{len(before)})" if before else ""))
    return words


def short_mutation(sentence: str) -> str:
    """A mutation's sentence in the signs of a difference.

    >>> short_mutation("Insert in relu: x3 = SQUARE(x2)")
    'relu: + x3 = SQUARE(x2)'
    """
    for pattern, replacement in _SHORTER:
        shorter, found = re.subn(pattern, replacement, sentence)
        if found:
            return shorter
    return sentence


def format_proposals(proposals: Mapping[str, Any]) -> str:
    """What became of the mutations."""
    fates = {name: int(value) for name, value in proposals.items() if isinstance(value, int | float)}
    mutations, drawn = fates.pop("mutations", 0), fates.pop("drawn", 0)
    tried, noun = mutations + drawn, "random program" if drawn else "mutation"
    if not tried:
        return "none yet"
    invalid = {name.removeprefix("invalid_"): value for name, value in fates.items() if name.startswith("invalid_")}
    known = {name: value for name, value in fates.items() if not name.startswith("invalid_")}
    new = tried - sum(fates.values())
    parts = [f"{tried:,} {noun}{'s' * (tried != 1)}: {new:,} new program{'s' * (new != 1)}"]
    words = {
        "unchanged": "left the program as it was",
        "same_structure": "known structure",
        "same_function": "known function",
    }
    parts += [
        f"{value:,} {words.get(name, name.replace('_', ' '))} ({value / tried:.0%})" for name, value in known.items()
    ]
    if invalid:
        reasons = ", ".join(f"{reason.replace('_', ' ')} {value:,}" for reason, value in invalid.items())
        total = sum(invalid.values())
        parts.append(f"{total:,} invalid ({total / tried:.0%}: {reasons})")
    return " · ".join(parts)


def format_cost(totals: RunTotals) -> str:
    """What the search cost."""
    return (
        f"{totals.worker_seconds / 60:.1f} worker-minutes for {totals.trials:,} trainings, "
        f"together as long as {totals.full_budgets:.1f} full ones"
    )


def format_input_wait(input_wait_share: float | None) -> str:
    """That training waited for batches; nothing where it was too little to say.

    >>> format_input_wait(0.051), format_input_wait(0.004)
    ('5.1% of it waiting for batches', '')
    """
    if input_wait_share is None or input_wait_share <= LARGEST_INPUT_WAIT:
        return ""
    return f"{input_wait_share:.1%} of it waiting for batches"


def format_input_waits(rows: Sequence[LeaderboardRow]) -> str:
    """How many candidates' trainings waited for batches, and the worst; nothing where none did."""
    shares = {row.id: row.input_wait_share for row in rows if format_input_wait(row.input_wait_share)}
    if not shares:
        return ""
    worst = max(shares, key=lambda number: shares[number] or 0.0)
    return (
        f"{len(shares)} of {len(rows)} candidates spent more than {LARGEST_INPUT_WAIT:.0%} of training waiting "
        f"for batches, {candidate_name(worst)} the most: {shares[worst]:.1%}"
    )


def format_epochs(rows: Sequence[LeaderboardRow]) -> str:
    """How often a full training read the text, and what that means past a few times; empty before there is one.

    Losses on a text that was read often tell how well a program memorises (Muennighoff et al. 2023).
    """
    most = max((row.epochs for row in rows if row.rank is not None), default=0.0)
    if not most:
        return ""
    words = f"read {most:,.2g} times in a full training"
    if most <= MOST_EPOCHS:
        return words
    return f"{words}: past {MOST_EPOCHS:g}, losses tell how programs memorise it; give a larger text, or shorter trials"


def format_shares(shares: Mapping[str, float]) -> str:
    """Where the workers' wall clock went, in percent."""
    return " · ".join(f"{name} {share:.0%}" for name, share in shares.items())
