"""One candidate of a run: its program, what it reached, where it came from, and how it differs from another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..primitives.errors import UsageError
from ..primitives.library import LIBRARY, get
from ..primitives.pretty_printer import difference, listing
from ..primitives.program import DNA
from .evolution.candidate import SEED_ID, Candidate
from .leaderboard import Ancestry, Leaderboard, Row, leaderboard, lineage
from .reports.phrases import beginning, best_row, candidate_name, count, number, waiting_words
from .run_directory import RUNS

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Description", "candidate_id_of", "describe", "description_lines", "library_description", "library_lines"]


@dataclass(frozen=True, slots=True)
class Description:
    """What `show` tells.

    Attributes:
        candidate: with its program.
        row: its place on the leaderboard; None if it has no result of its own.
        lineage: the steps from the seed to it.
        origin: where a founder came from; None for others.
        beginning: where the lineage starts, in words.
        against: what it is compared with, in words; None if nothing was asked for.
        difference: to that program, as lines; None likewise.
        seconds: of its last trial, by phase.
    """

    candidate: Candidate
    row: Row | None
    lineage: tuple[Ancestry, ...]
    origin: str | None
    beginning: str
    against: str | None
    difference: str | None
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: what `show --json` prints."""
        import json
        from dataclasses import asdict

        row = {} if self.row is None else {**asdict(self.row), "verdict": self.row.verdict}
        return {
            "id": self.candidate.id,
            "parent": self.candidate.parent,
            "structure_hash": self.candidate.structure_hash,
            "same_as": self.candidate.same_as,
            "origin": self.origin,
            "mutations": list(self.candidate.mutations),
            **row,
            "lineage": [asdict(step) for step in self.lineage],
            "seconds": self.seconds,
            "dna": json.loads(self.candidate.dna.to_json()),
            "listing": listing(self.candidate.dna),
            "against": self.against,
            "difference": self.difference,
        }


def candidate_id_of(text: str, board: Leaderboard) -> int:
    """The candidate a user names: its number, `seed`, or `best`.

    Raises:
        UsageError: it is none of these, or nothing has trained in full yet.
    """
    word = text.removeprefix("#").lower()
    if word == "seed":
        return SEED_ID
    if word == "best":
        best = best_row(board.rows)
        if best is None:
            raise UsageError(f"run {board.run} has no best candidate yet: none has finished a full trial.")
        return best.id
    if not (word.isascii() and word.isdigit() and len(word) < 19):
        raise UsageError(f"{text[:40]!r} is no candidate: give its number, `best` or `seed`.")
    return int(word)


def describe(store: Store, named: str, against: str | None = None) -> Description:
    """Look a candidate up.

    Args:
        store: of the run, open.
        named: its number, `best` or `seed`.
        against: `parent`, `seed`, another candidate's number, or a library program's name.

    Raises:
        UsageError: there is no such candidate, or nothing to compare it with.
    """
    with store.snapshot():
        board = leaderboard(store)
        candidate = store.candidate(candidate_id_of(named, board))
        evaluated = candidate.id if candidate.same_as is None else candidate.same_as
        row = next((row for row in board.rows if row.id == evaluated), None)
        other = None if against is None else _other(store, candidate, against)
        last = [trial.evaluation for trial in store.evaluations() if trial.candidate_id == evaluated][-1:]
    seconds = {
        phase: getattr(result, f"{field}_seconds")
        for result in last
        for phase, field in (
            ("training", "train"),
            ("compiling", "compile"),
            ("evaluating", "evaluate"),
            ("probing", "probe"),
            ("wall", "wall"),
        )
    }
    steps = lineage(store, candidate.id)
    return Description(
        candidate,
        row,
        steps,
        board.founders.get(candidate.id),
        beginning(steps, board.founders),
        None if other is None else other[0],
        None if other is None else difference(other[1], candidate.dna),
        seconds,
    )


def description_lines(described: Description) -> list[str]:
    """The description as text."""
    candidate, row = described.candidate, described.row
    lines = [_title(candidate, described.origin), ""]
    if candidate.same_as is not None:
        lines.append(f"computes the same as {candidate_name(candidate.same_as)}, whose result it shares")
    lines += _result_lines(row, described.seconds)
    lines += [f"{'structure':<11} {candidate.structure_hash}", "", listing(candidate.dna)]
    if described.lineage:
        lines += ["", f"ancestry, from {described.beginning}:"]
        for step in described.lineage:
            lines += [f"  {candidate_name(step.candidate_id)}"] + [f"    {sentence}" for sentence in step.mutations]
    if described.difference is not None:
        lines += ["", f"difference to {described.against}:", "", described.difference]
    return lines


def library_description(name: str, against: str | None = None) -> dict[str, Any]:
    """A library program as plain JSON values, with its difference to another one.

    Raises:
        UsageError: there is no such program.
    """
    import json

    if name not in LIBRARY:
        from difflib import get_close_matches

        near = get_close_matches(name.upper(), LIBRARY, n=1, cutoff=0.7)
        hint = f"did you mean {near[0]}?" if near else f"the library holds {', '.join(LIBRARY)}"
        if Path(name, "run.sqlite").is_file() or (RUNS / name / "run.sqlite").is_file():
            raise UsageError(f"{name} is a run: name a candidate of it too, its number, `best` or `seed`.")
        raise UsageError(
            f"{name} is no library program ({hint}); of a run, name a candidate too: its number or `best`."
        )
    other = "TRANSFORMER" if against == "seed" else against
    program = LIBRARY[name]
    return {
        "name": name,
        "description": program.description,
        "reference": program.reference,
        "native_unit": program.native_unit,
        "dna": json.loads(program.dna.to_json()),
        "listing": listing(program.dna),
        "against": other,
        "difference": None if other is None else difference(get(other), program.dna),
    }


def library_lines(program: dict[str, Any]) -> list[str]:
    """`library_description` as text."""
    lines = [f"{program['name']}: {program['description']}", program["reference"], "", program["listing"]]
    if program["difference"] is not None:
        lines += ["", f"difference to {program['against']}:", "", program["difference"]]
    return lines


def _title(candidate: Candidate, origin: str | None) -> str:
    if candidate.id == SEED_ID:
        return "the seed"
    if origin is not None:
        return f"candidate {candidate.id}, imported from {origin}"
    if candidate.parent is None:
        return f"candidate {candidate.id}, a random program"
    return (
        f"candidate {candidate.id}, child of {'the seed' if not candidate.parent else f'candidate {candidate.parent}'}"
    )


def _result_lines(row: Row | None, seconds: dict[str, float]) -> list[str]:
    if row is None:
        return [f"{'result':<11} none yet"]
    waiting = waiting_words(row.input_wait_share)
    words = "" if row.word_perplexity is None else f", word perplexity {row.word_perplexity:,.1f}"
    losses = f"{number(row.loss_nats)} nats per token, {number(row.bits_per_byte)} bits/byte{words}"
    if row.loss_nats is None:
        losses = row.outcome if row.hurdle_loss_nats is None else f"{row.hurdle_loss_nats:.4f} nats per token there"
    facts = {
        "result": f"{losses} ({row.verdict})",
        "difference": f"{number(row.delta_nats, '+.4f')} nats, {number(row.delta_bits_per_byte, '+.4f')} bits/byte, "
        f"{number(row.noise_multiple, '+.1f')} times the seed's noise",
        "rank": f"{number(row.rank, 'd')}, after {row.trials} trial{'s' if row.trials != 1 else ''}",
        "speed": f"{number(row.step_ms, '.1f')} ms a step{f' ({waiting})' if waiting else ''}, "
        f"{number(row.speed, '.2f')} times the seed's speed",
        "size": f"{count(row.parameters)} parameters, {count(row.block_parameters)} a block, "
        f"{number(row.flops_per_token, ',.0f')} FLOPs a token and block",
        "training": f"{row.steps:,} steps, {row.tokens:,} tokens, {row.epochs:.2f} epochs",
    }
    if row.loss_nats is None or row.id == SEED_ID:
        del facts["difference"]
    if row.quarantine:
        facts["quarantine"] = row.quarantine
    if seconds:
        facts["seconds"] = " · ".join(f"{phase} {spent:.1f}" for phase, spent in seconds.items())
    return [f"{name:<11} {words}" for name, words in facts.items()]


def _other(store: Store, candidate: Candidate, against: str) -> tuple[str, DNA]:
    if against == "seed":
        return "the seed", store.candidate(SEED_ID).dna
    if against == "parent":
        if candidate.parent is None:
            raise UsageError(f"candidate {candidate.id} has no parent: compare with `seed` or a NAME instead.")
        return f"its parent {candidate_name(candidate.parent)}", store.candidate(candidate.parent).dna
    if against in LIBRARY:
        return against, get(against, store.manifest["config"]["model"]["unit"])
    if against.removeprefix("#").isdecimal() and against.isascii():
        other = store.candidate(int(against.removeprefix("#")[:18]))
        return f"candidate {other.id}", other.dna
    known = ", ".join(LIBRARY)
    raise UsageError(
        f"--diff {against} is nothing to compare with: give parent, seed, a candidate's number or {known}."
    )
