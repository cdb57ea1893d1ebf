"""One candidate as text: its edits in one line for tables, and the whole output of `show`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ...models.cost import ProgramLine
from ...primitives.ops.value_types import MODEL_WIDTH
from ...primitives.programs.pretty_printer import format_program
from ...system.plurals import pluralize
from ..evolution.candidate import BASELINE_ID, candidate_name
from ..results.candidate_summary import CandidateSummary
from ..results.confirmation import Confirmation
from ..results.leaderboard_rows import LeaderboardRow
from ..results.lineage import LineageStep, merged_parents
from .console import print_facts, print_text
from .formatting import format_count, format_estimate, format_number
from .phrases import format_input_wait
from .tables.program_table import print_program

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console

__all__ = [
    "format_lineage",
    "format_merge",
    "format_mutations",
    "format_step",
    "print_candidate",
    "print_library_program",
    "short_mutation",
]

_SHORTER = (
    (r"^Delete in (\S+): (.*)$", r"\1: − \2"),
    (r"^Insert in (\S+): (.*)$", r"\1: + \2"),
    (r"^Delete and insert: in (\S+): (.*); then in (\S+): (.*)$", r"\1: − \2, \3: + \4"),
    (r"^Mutate field \w+ in (\S+): (.*) becomes (.*)$", r"\1: \2 → \3"),
    (r"^Mutate bank value: (\w+ \d+) from (\S+) to (\S+)$", r"\1: \2 → \3"),
    (r"^Swap in (\S+): (.*)$", r"\1: swap \2"),
    (r"^Wrap in (\S+): (.*)$", r"\1: + \2"),
    (r"^(?:Rewire|Replace op|Resize) in (\S+): (.*) becomes (.*)$", r"\1: \2 → \3"),
    (r"^Resize: (\w+ \d+) from (\S+) to (\S+)$", r"\1: \2 → \3"),
    (r"^Constant: (\d+) from (\S+) to (\S+)$", r"constant \1: \2 → \3"),
)


def print_candidate(described: CandidateSummary, console: Console) -> None:
    """Print a candidate: result, program with shapes and costs, ancestry, and difference to another program."""
    candidate = described.candidate
    print_text(_title(described), console, "bold")
    console.print()
    if candidate.same_as is not None:
        print_text(f"computes the same as {candidate_name(candidate.same_as)}, whose result it shares", console)
    facts = _facts(described)
    if described.unit != described.configured_unit:
        width = MODEL_WIDTH * described.unit
        facts["unit"] = f"{described.unit} (width {width}) instead of {described.configured_unit}"
    print_facts(list({**facts, "structure": candidate.structure_hash}.items()), console)
    console.print()
    print_program(format_program(candidate.dna), described.lines, console)
    if described.lines:
        blocks = sum(line.share for line in described.lines if line.subprogram == 0)
        print_text(
            f"{_caption(described.length)} model: {pluralize(described.layers, 'block')} {blocks:.1%}, output logits "
            f"{1 - blocks:.1%}.",
            console,
            "dim",
        )
    if described.lineage:
        console.print()
        print_text(f"{format_merge(described.lineage) or 'ancestry'}, from {described.beginning}:", console)
        for step in described.lineage:
            print_text(f"  {format_step(step)}", console)
            for sentence in step.mutations:
                print_text(sentence, console, indent=4)
    _print_difference(described.against, described.difference, console)


def print_library_program(program: dict[str, Any], console: Console) -> None:
    """Print a program of the library, as `library_description` gives it."""
    print_text(f"{program['name']}: {program['description']}", console, "bold")
    print_text(program["reference"], console)
    console.print()
    lines = [ProgramLine(**{**line, "shapes": tuple(line["shapes"])}) for line in program["lines"]]
    print_program(program["listing"], lines, console)
    model = program["model"]
    print_text(
        f"{_caption(model['length'])} paper's model of {model['layers']} blocks of width {model['width']} with "
        f"{model['vocabulary']:,} token ids.",
        console,
        "dim",
    )
    _print_difference(program["against"], program["difference"], console)


def _caption(length: int) -> str:
    """Return the meaning of the columns of a program's table. The caller adds the model that `share` refers to."""
    return (
        f"One block, L = {length} tokens. FLOPs: forward, per token. A call includes the lines of its subprogram. "
        "share: of the forward FLOPs of the"
    )


def _print_difference(against: str | None, difference: str | None, console: Console) -> None:
    if difference is None:
        return
    console.print()
    print_text(f"difference to {against}:", console)
    console.print()
    for line in difference.splitlines():
        print_text(line, console, {"-": "red", "+": "green"}.get(line[:1], ""))


def format_lineage(lineage: Sequence[LineageStep]) -> list[str]:
    """Format the mutations that led to a candidate, newest first, one for each ancestor.

    A child is mutated until its program is new, so only the last mutation of each ancestor is shown. `(+2)` counts the
    mutations before it. Most of these do not change the function.
    """
    words = []
    for step in reversed(lineage):
        *before, last = step.mutations or ("another copy of the same program",)
        words.append(short_mutation(last) + (f" (+{len(before)})" if before else ""))
    return words


def format_mutations(lineage: Sequence[LineageStep], shown: int | None = None) -> str:
    """Format the edits of a candidate, newest first, in one line; `shown` limits their number."""
    words = format_lineage(lineage)
    hidden = 0 if shown is None else max(len(words) - shown, 0)
    parents = " and ".join(map(candidate_name, merged_parents(lineage)))
    return (
        (f"merge of {parents}: " if parents else "")
        + "; ".join(words[: len(words) - hidden])
        + (f"; … {hidden} more" if hidden else "")
    )


@lru_cache(maxsize=20_000)  # candidates share ancestors
def short_mutation(sentence: str) -> str:
    """Return the description of a mutation in short form, with the signs of a diff.

    >>> short_mutation("Insert in relu: x3 = SQUARE(x2)")
    'relu: + x3 = SQUARE(x2)'
    """
    for pattern, replacement in _SHORTER:
        shorter, found = re.subn(pattern, replacement, sentence)
        if found:
            return shorter
    return sentence


def format_merge(lineage: Sequence[LineageStep]) -> str:
    """Return the title of a merge's edits, with its two parents; empty for other candidates."""
    parents = " and ".join(map(candidate_name, merged_parents(lineage)))
    return f"edits merged from {parents}" if parents else ""


def format_step(step: LineageStep) -> str:
    """Return the name of a step of a lineage; for a merge, also the parents that have the step."""
    sources = " and ".join(map(candidate_name, step.merged_from))
    return candidate_name(step.candidate_id) + (f", in {sources}" if sources else "")


def _title(described: CandidateSummary) -> str:
    candidate = described.candidate
    if candidate.id == BASELINE_ID:
        return "the baseline"
    if described.origin is not None:
        return f"candidate {candidate.id}, imported from {described.origin}"
    if candidate.parent is None:
        return f"candidate {candidate.id}, a random program"
    parents = merged_parents(described.lineage)
    if parents:
        return f"candidate {candidate.id}, merge of candidates {' and '.join(map(str, parents))}"
    parent = "the baseline" if not candidate.parent else f"candidate {candidate.parent}"
    title = f"candidate {candidate.id}, child of {parent}"
    own = any(step.candidate_id == candidate.id for step in described.lineage)
    return title if own else f"{title}: {'; '.join(candidate.mutations)}"  # a revert


def _facts(described: CandidateSummary) -> dict[str, str]:
    row, seconds = described.row, described.seconds
    if row is None:
        return {"result": "none yet"}
    waiting = format_input_wait(row.input_wait_share)
    words = "" if row.word_perplexity is None else f", word perplexity {row.word_perplexity:,.1f}"
    bits = f"{format_number(row.bits_per_byte)} bits/byte{words}"
    losses = f"{format_number(row.loss_nats)} nats per token, {bits}, validation text"
    if row.loss_nats is None:
        losses = (
            row.outcome if row.hurdle_loss_nats is None else f"{row.hurdle_loss_nats:.4f} nats per token at the hurdle"
        )
    facts = {
        "result": f"{losses} ({row.verdict})",
        "difference": _format_difference(row),
        "rank": f"{format_number(row.rank, 'd')} in the search, after {pluralize(row.trials, 'training')}",
        "retrained": _format_confirmation(described.confirmation),
        "speed": f"{format_number(row.step_ms, '.1f')} ms a step{f' ({waiting})' if waiting else ''}, "
        f"{format_number(row.speed, '.2f')} times the baseline's speed",
        "size": f"{format_count(row.parameters)} parameters, {format_count(row.block_parameters)} a block, "
        f"{format_number(row.flops_per_token, ',.0f')} FLOPs a token and block",
        "training": f"{row.steps:,} steps, {row.tokens:,} tokens, {row.epochs:.2f} epochs",
    }
    if row.loss_nats is None or row.id == BASELINE_ID:
        del facts["difference"], facts["retrained"]
    if row.quarantine:
        facts["quarantine"] = row.quarantine
    if seconds:
        facts["seconds"] = " · ".join(f"{phase} {spent:.1f}" for phase, spent in seconds.items())
    return facts


def _format_difference(row: LeaderboardRow) -> str:
    """Format the differences to the baseline, and the only or worse one as a multiple of the noise."""

    def each(nats: float | None, bits: float | None) -> str:
        return f"{format_number(nats, '+.4f')} nats, {format_number(bits, '+.4f')} bits/byte"

    noise = f"{format_number(row.noise_multiple, '+.1f')} times the baseline's noise"
    steps = each(row.delta_nats, row.delta_bits_per_byte)
    if row.equal_time_delta_nats is None:
        return f"{steps}, {noise}"
    time = each(row.equal_time_delta_nats, row.equal_time_delta_bits_per_byte)
    return f"{steps} at equal steps · {time} at equal time · the worse is {noise}"


def _format_confirmation(found: Confirmation | None) -> str:
    """Format the result of a candidate's retrainings."""
    if found is None:
        return "not yet with fresh random seeds"
    views = " and ".join(f"{format_estimate(each)} {view}".strip() for view, each in found.views.items() if each)
    trainings = pluralize(found.trainings, "fresh training")
    return f"{found.verdict}, {trainings}" + (f": {views}, {found.unit} of test text" if views else "")
