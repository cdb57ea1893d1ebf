"""The page of one candidate: its program, its changes, its learning curves, its checks and its ancestry."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from ...primitives.differences.diff_printer import format_difference
from ...primitives.programs.pretty_printer import format_program
from ...primitives.programs.program import DNA
from ...workers.protocol import Evaluation
from ..evolution.candidate import BASELINE_ID, Candidate, candidate_name
from ..refinement.analysis_result import read_analysis
from ..reports.candidate_details import format_step, short_mutation
from ..reports.figures.lineage_graph import format_gain
from ..reports.figures.program_drawing import draw_program
from ..reports.formatting import format_estimate, format_number
from ..reports.phrases import UNCONFIRMED, beyond_noise
from ..reports.tables.analysis_table import analysis_rows
from ..results.confirmation import retrained_candidates
from ..results.digest.candidate_rows import CandidateRows, candidate_rows
from ..results.digest.run_digest import RunDigest
from ..results.edits.edit_gains import edit_gain
from ..results.leaderboard_rows import LeaderboardRow
from ..results.learning_curve import validation_points
from ..results.lineage import LineageStep, lineage_start, merged_parents
from ..results.scale_ladder import Ladder, build_ladder
from ..runs.store_reader import StoreReader
from ..weights.saved_weights import saved_trainings
from .candidate_checks import candidate_checks
from .candidate_files import find_candidate
from .rendering import render
from .requests import Request, Response, Route

__all__ = ["routes"]

LONGEST_ANCESTRY = 40
"""Number of edits shown, newest first; a long search has candidates with thousands."""

WIDEST_COLUMN = 760.0
"""Largest width, in pixels, of a drawing next to the text. A wider drawing is placed below the text."""


def routes() -> list[Route]:
    """Return the page of each candidate."""
    return [Route("/runs/{run}/candidates/{candidate}", _candidate)]


@dataclass(frozen=True, slots=True)
class _Detail:
    """Content of a candidate's page.

    Attributes:
        candidate: the candidate.
        others: programs with which the page can compare the candidate, by name: `baseline` and `parent`.
        rows: results of the candidate and of its ancestors.
        lineage: the candidate's newest edits, oldest first.
        older: number of edits before those in `lineage`.
        beginning: program that the first of all its edits was made to, as text.
        trainings: the candidate's trainings in the search.
        ladder: retrainings at other scales.
        read: share of the run that the results cover.
        priced: whether the run also compares programs at equal time.
    """

    candidate: Candidate
    others: dict[str, DNA]
    rows: CandidateRows
    lineage: tuple[LineageStep, ...]
    older: int
    beginning: str
    trainings: tuple[Evaluation, ...]
    ladder: Ladder | None
    read: float
    priced: bool

    @property
    def row(self) -> LeaderboardRow | None:
        return self.rows.row(self.candidate.id)


def _candidate(request: Request) -> Response:
    with request.run.digest() as (digest, store):
        detail = _read_detail(request, digest, store)
    number, row = detail.candidate.id, detail.row
    against = request.choice("against", tuple(detail.others) or ("none",), next(iter(detail.others), "none"))
    shown = request.choice("graph", ("changes", "everything"), "changes")
    analysis = read_analysis(request.run.directory.weights(detail.candidate.id))
    other, dna = detail.others.get(against), detail.candidate.dna
    graph = draw_program(dna, other, title=_graph_title(detail, against), everything=shown == "everything")
    return render(
        request,
        "candidate.html.j2",
        "Leaderboard",
        number=number,
        name=candidate_name(number),
        title="The baseline" if number == BASELINE_ID else f"Candidate {number}",
        headline=_headline(detail),
        origin=_origin(detail),
        row=row,
        retrained_rank=_retrained_rank(detail),
        unconfirmed=UNCONFIRMED if row is not None and beyond_noise(row) and not _is_confirmed(detail) else "",
        others=tuple(detail.others),
        against=against,
        shown=shown,
        graph=graph,
        wide=_width(graph) > WIDEST_COLUMN,
        listing=format_program(dna),
        difference=[(line[:1], line) for line in format_difference(other, dna).splitlines()] if other else [],
        checks=candidate_checks(detail.candidate, detail.rows, detail.trainings, detail.ladder),
        trainings=detail.trainings,
        read=detail.read,
        priced=detail.priced,
        ancestry=[_ancestor(step, detail.rows) for step in reversed(detail.lineage)],
        older=detail.older,
        beginning=detail.beginning,
        mutations=detail.candidate.mutations,
        curve=any(validation_points(each) for each in detail.trainings),
        analysis=analysis,
        weights=saved_trainings(request.run.directory.weights(detail.candidate.id)),
        analyzed=() if analysis is None else analysis_rows(analysis),
        export=f"primer-search export {shlex.quote(str(request.run.directory.path))} {number} -o block.py",
    )


def _read_detail(request: Request, digest: RunDigest, store: StoreReader) -> _Detail:
    candidate = find_candidate(request, store)
    ancestry = digest.ancestry.reader(store)
    known = candidate.id in ancestry
    whole = ancestry.lineage(candidate.id, LONGEST_ANCESTRY) if known else ()
    lineage = whole[-LONGEST_ANCESTRY:]
    newest = [step.candidate_id for step in lineage]
    parents = [parent for number in newest if (parent := ancestry[number].parent) is not None]
    rows = candidate_rows(digest, store, {candidate.id, *newest, *parents})
    first = digest.ancestry.edits(candidate.id)[:1] if known else []
    others: dict[str, DNA] = {}
    if candidate.id != BASELINE_ID:
        others["baseline"] = store.candidate(BASELINE_ID).dna
    if candidate.parent not in (None, BASELINE_ID):
        others["parent"] = store.candidate(candidate.parent).dna
    return _Detail(
        candidate,
        others,
        rows,
        lineage,
        digest.ancestry.edit_count(candidate.id) - len(lineage) if known else 0,
        lineage_start([LineageStep(number, ()) for number in first], rows.initial_programs),
        tuple(trial.evaluation for trial in store.evaluations_of([candidate.evaluated_id])),
        build_ladder(digest.manifest, digest.ladder_events),
        digest.share_read(store),
        digest.priced,
    )


def _headline(detail: _Detail) -> str:
    """Return the result in one sentence, with the verdict of the leaderboard."""
    row = detail.row
    if detail.candidate.id == BASELINE_ID:
        return "the program that all others are compared with"
    if row is None:
        return "no result yet"
    if row.delta_nats is None or row.loss_nats is None:
        return row.verdict
    confirmed = next((each for each in detail.rows.confirmed if each.candidate_id == detail.candidate.id), None)
    if confirmed is not None and confirmed.difference is not None:
        views = " and ".join(
            f"{format_estimate(estimate)} {view}".strip() for view, estimate in confirmed.views.items()
        )
        if confirmed.better:
            return f"{confirmed.verdict} on the test text, by {views}, in bits/byte"
        return f"{views} on the test text, in bits/byte against the baseline: {confirmed.verdict}"
    bits = f" ({row.delta_bits_per_byte:+.4f} bits/byte)" if row.delta_bits_per_byte is not None else ""
    equal_time = row.equal_time_delta_bits_per_byte
    timed = "" if equal_time is None else f" at equal steps ({equal_time:+.4f} at equal time)"
    return f"{row.delta_nats:+.4f} nats{bits} against the baseline{timed}, {row.verdict}"


def _retrained_rank(detail: _Detail) -> int | None:
    """Return the rank among the retrained candidates, without the baseline; None if it was not retrained."""
    retrained = list(retrained_candidates(detail.rows.confirmed))
    return retrained.index(detail.candidate.id) + 1 if detail.candidate.id in retrained else None


def _is_confirmed(detail: _Detail) -> bool:
    return any(each.candidate_id == detail.candidate.id for each in detail.rows.confirmed)


def _origin(detail: _Detail) -> dict[str, Any]:
    """Return where the candidate came from: its parents, or the origin of an initial program."""
    candidate = detail.candidate
    parents = merged_parents(detail.lineage) or (() if candidate.parent is None else (candidate.parent,))
    return {
        "parents": [(parent, candidate_name(parent)) for parent in parents],
        "imported": detail.rows.initial_programs.get(candidate.id),
        "same_as": candidate.same_as,
        "merge": len(parents) > 1,
    }


def _graph_title(detail: _Detail, against: str) -> str:
    name = candidate_name(detail.candidate.id)
    return f"Program of {name}" + (f", differences from the {against} marked" if against != "none" else "")


def _width(graph: str) -> float:
    """Return the width of a drawing in pixels."""
    return float(graph.partition('width="')[2].partition('"')[0])


def _ancestor(step: LineageStep, rows: CandidateRows) -> dict[str, Any]:
    """Return a row of the table of ancestors."""
    number, row = step.candidate_id, rows.row(step.candidate_id)
    parent = rows.ancestry[number].parent
    gain = edit_gain(row, None if parent is None else rows.row(parent), rows.baseline.noise_nats)
    return {
        "id": number,
        "name": format_step(step),
        "edits": [short_mutation(sentence) for sentence in step.mutations] or ["another copy of the same program"],
        "gain": gain,
        "gain_text": format_gain(gain),
        "delta": "–" if row is None else format_number(row.ranking_delta_bits_per_byte, "+.4f"),
    }
