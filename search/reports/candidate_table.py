"""Lines of text about one candidate or one library program, as `show` prints them."""

from __future__ import annotations

from typing import Any

from ...primitives.pretty_printer import format_program
from ..evolution.candidate import BASELINE_ID, Candidate, candidate_name
from ..results.candidate_summary import CandidateSummary
from ..results.leaderboard_rows import LeaderboardRow
from .formatting import format_count, format_number, pluralize
from .phrases import format_input_wait

__all__ = ["format_description", "format_library_program"]


def format_description(described: CandidateSummary) -> list[str]:
    """Return the lines about a candidate."""
    candidate, row = described.candidate, described.row
    lines = [_title(candidate, described.origin), ""]
    if candidate.same_as is not None:
        lines.append(f"computes the same as {candidate_name(candidate.same_as)}, whose result it shares")
    lines += _result_lines(row, described.seconds)
    lines += [f"{'structure':<11} {candidate.structure_hash}", "", format_program(candidate.dna)]
    if described.lineage:
        lines += ["", f"ancestry, from {described.beginning}:"]
        for step in described.lineage:
            lines += [f"  {candidate_name(step.candidate_id)}"] + [f"    {sentence}" for sentence in step.mutations]
    if described.difference is not None:
        lines += ["", f"difference to {described.against}:", "", described.difference]
    return lines


def format_library_program(program: dict[str, Any]) -> list[str]:
    """`library_description` as text."""
    lines = [f"{program['name']}: {program['description']}", program["reference"], "", program["listing"]]
    if program["difference"] is not None:
        lines += ["", f"difference to {program['against']}:", "", program["difference"]]
    return lines


def _title(candidate: Candidate, origin: str | None) -> str:
    if candidate.id == BASELINE_ID:
        return "the baseline"
    if origin is not None:
        return f"candidate {candidate.id}, imported from {origin}"
    if candidate.parent is None:
        return f"candidate {candidate.id}, a random program"
    parent = "the baseline" if not candidate.parent else f"candidate {candidate.parent}"
    return f"candidate {candidate.id}, child of {parent}"


def _result_lines(row: LeaderboardRow | None, seconds: dict[str, float]) -> list[str]:
    if row is None:
        return [f"{'result':<11} none yet"]
    waiting = format_input_wait(row.input_wait_share)
    words = "" if row.word_perplexity is None else f", word perplexity {row.word_perplexity:,.1f}"
    losses = f"{format_number(row.loss_nats)} nats per token, {format_number(row.bits_per_byte)} bits/byte{words}"
    if row.loss_nats is None:
        losses = row.outcome if row.hurdle_loss_nats is None else f"{row.hurdle_loss_nats:.4f} nats per token there"
    facts = {
        "result": f"{losses} ({row.verdict})",
        "difference": f"{format_number(row.delta_nats, '+.4f')} nats, "
        f"{format_number(row.delta_bits_per_byte, '+.4f')} bits/byte, "
        f"{format_number(row.noise_multiple, '+.1f')} times the baseline's noise",
        "rank": f"{format_number(row.rank, 'd')}, after {pluralize(row.trials, 'trial')}",
        "speed": f"{format_number(row.step_ms, '.1f')} ms a step{f' ({waiting})' if waiting else ''}, "
        f"{format_number(row.speed, '.2f')} times the baseline's speed",
        "size": f"{format_count(row.parameters)} parameters, {format_count(row.block_parameters)} a block, "
        f"{format_number(row.flops_per_token, ',.0f')} FLOPs a token and block",
        "training": f"{row.steps:,} steps, {row.tokens:,} tokens, {row.epochs:.2f} epochs",
    }
    if row.loss_nats is None or row.id == BASELINE_ID:
        del facts["difference"]
    if row.quarantine:
        facts["quarantine"] = row.quarantine
    if seconds:
        facts["seconds"] = " · ".join(f"{phase} {spent:.1f}" for phase, spent in seconds.items())
    return [f"{name:<11} {words}" for name, words in facts.items()]
