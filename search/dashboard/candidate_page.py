"""The page of one candidate: its program, what it changed, its curves, what was checked, where it came from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ...primitives.diff_printer import format_difference
from ...primitives.errors import UsageError
from ...primitives.pretty_printer import format_program
from ...primitives.program import DNA
from ...primitives.program_json import dna_to_json
from ...workers.protocol import Evaluation
from ..evolution.candidate import BASELINE_ID, Candidate, candidate_name
from ..reports.candidate_table import format_step, short_mutation
from ..reports.figures.lineage_graph import format_gain
from ..reports.figures.program_graph import program_graph
from ..reports.formatting import format_estimate, format_number
from ..reports.phrases import UNCONFIRMED, beyond_noise
from ..results.candidate_rows import CandidateRows, rank_of, read_candidate_rows, read_pedigree
from ..results.edits.edit_gains import edit_gain
from ..results.leaderboard_rows import LeaderboardRow
from ..results.learning_curve import validation_points
from ..results.lineage import LineageStep, lineage_start, merged_parents, trace_lineage
from ..results.scale_ladder import Ladder, build_ladder
from ..runs.store_reader import StoreReader
from .candidate_checks import candidate_checks
from .candidate_source import candidate_source
from .page import NotFoundError, Request, Response, Route, download, json_response
from .rendering import render

__all__ = ["routes"]

REFERENCE = "PRIMER_EZ"
"""Program whose curve is shown too, if the run retrained it."""


LONGEST_ANCESTRY = 40
"""Number of edits shown, newest first; a long search has candidates with thousands."""

WIDEST_BESIDE = 760.0
"""Largest width of a drawing, in pixels, that has room beside the text on a wide page."""

_SMALL = {"size": 13}


def routes() -> list[Route]:
    """Return the page of each candidate, its figure and its downloads."""
    page = "/runs/{run}/candidates/{candidate}"
    return [
        Route(page, _candidate),
        Route(f"{page}/curve.json", _curve),
        Route(f"{page}/graph.svg", _graph),
        Route(f"{page}/dna.json", _dna),
        Route(f"{page}/block.py", _source),
    ]


@dataclass(frozen=True, slots=True)
class _Detail:
    """What the page shows of a candidate.

    Attributes:
        candidate: the candidate.
        others: programs that it can be compared with, `baseline` and `parent`.
        rows: its results and those of its ancestors.
        lineage: its edits, the oldest first.
        trainings: its trainings in the search.
        ladder: retrainings at other scales.
        rank: rank in the run; None without one.
    """

    candidate: Candidate
    others: dict[str, DNA]
    rows: CandidateRows
    lineage: tuple[LineageStep, ...]
    trainings: tuple[Evaluation, ...]
    ladder: Ladder | None
    rank: int | None

    @property
    def row(self) -> LeaderboardRow | None:
        return self.rows.row(self.candidate.id)


def _candidate(request: Request) -> Response:
    with request.run.read() as store:
        detail = _read_detail(request, store)
    number, row = detail.candidate.id, detail.row
    against = request.choice("against", tuple(detail.others) or ("none",), next(iter(detail.others), "none"))
    shown = request.choice("graph", ("changes", "everything"), "changes")
    other, dna = detail.others.get(against), detail.candidate.dna
    graph = program_graph(dna, other, title=_graph_title(detail, against), everything=shown == "everything")
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
        unconfirmed=UNCONFIRMED if row is not None and beyond_noise(row) and not _is_confirmed(detail) else "",
        others=tuple(detail.others),
        against=against,
        shown=shown,
        graph=graph,
        wide=_width(graph) > WIDEST_BESIDE,
        listing=format_program(dna),
        difference=[(line[:1], line) for line in format_difference(other, dna).splitlines()] if other else [],
        checks=candidate_checks(number, detail.rows, detail.trainings, detail.ladder),
        trainings=detail.trainings,
        rank=detail.rank,
        ancestry=[_ancestor(step, detail.rows) for step in reversed(detail.lineage[-LONGEST_ANCESTRY:])],
        older=max(len(detail.lineage) - LONGEST_ANCESTRY, 0),
        beginning=lineage_start(detail.lineage, detail.rows.initial_programs),
        mutations=detail.candidate.mutations,
        curve=any(validation_points(each) for each in detail.trainings),
        export=f"primer-search export {shlex.quote(str(request.run.directory.path))} {number} -o block.py",
    )


def _read_detail(request: Request, store: StoreReader) -> _Detail:
    candidate = _find(request, store)
    pedigree = read_pedigree(store, [candidate.id])
    lineage = trace_lineage(pedigree, candidate.id)
    newest = [step.candidate_id for step in lineage[-LONGEST_ANCESTRY:]]
    parents = [parent for number in newest if (parent := pedigree[number].parent) is not None]
    rows = read_candidate_rows(store, {candidate.id, *newest, *parents})
    others: dict[str, DNA] = {}
    if candidate.id != BASELINE_ID:
        others["baseline"] = store.candidate(BASELINE_ID).dna
    if candidate.parent not in (None, BASELINE_ID):
        others["parent"] = store.candidate(candidate.parent).dna
    events = [event for kind in ("confirmed", "retrained_at_scale") for event in store.events_of_kind(kind)]
    ladder = build_ladder(store.manifest, events)
    trainings = tuple(trial.evaluation for trial in store.evaluations_of([candidate.evaluated_id]))
    row = rows.row(candidate.id)
    rank = None if row is None else rank_of(store, row)
    return _Detail(candidate, others, rows, lineage, trainings, ladder, rank)


def _find(request: Request, store: StoreReader) -> Candidate:
    try:
        return store.candidate(request.id_in_path("candidate"))
    except NotFoundError:
        raise
    except UsageError as error:
        raise NotFoundError(str(error)) from None


def _headline(detail: _Detail) -> str:
    """Return the result in one sentence, the claim of the leaderboard."""
    row = detail.row
    if detail.candidate.id == BASELINE_ID:
        return "the program that all others are measured by"
    if row is None:
        return "no result yet"
    if row.delta_nats is None or row.loss_nats is None:
        return row.verdict
    confirmed = next((each for each in detail.rows.confirmed if each.candidate_id == detail.candidate.id), None)
    if confirmed is not None and confirmed.difference is not None:
        views = " and ".join(
            f"{format_estimate(estimate)} {view}".strip() for view, estimate in confirmed.views.items()
        )
        return f"{confirmed.verdict} on the test text, by {views}, in bits/byte"
    bits = f" ({row.delta_bits_per_byte:+.4f} bits/byte)" if row.delta_bits_per_byte is not None else ""
    return f"{row.delta_nats:+.4f} nats{bits} against the baseline, {row.verdict}"


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
    """Return a line of the ancestry."""
    number, row = step.candidate_id, rows.row(step.candidate_id)
    parent = rows.pedigree[number].parent
    gain = edit_gain(row, None if parent is None else rows.row(parent), rows.baseline.noise_nats)
    return {
        "id": number,
        "name": format_step(step),
        "edits": [short_mutation(sentence) for sentence in step.mutations] or ["another copy of the same program"],
        "gain": gain,
        "gain_text": format_gain(gain),
        "delta": "–" if row is None else format_number(row.delta_bits_per_byte, "+.4f"),
    }


# --- the curve and the downloads --------------------------------------------------------------------------------


def _curve(request: Request) -> Response:
    with request.run.read() as store:
        candidate = _find(request, store)
        rows = read_candidate_rows(store, [candidate.id])
        trained = candidate.evaluated_id
        trials = store.evaluations_of([BASELINE_ID, trained])
    name = candidate_name(candidate.id)
    series = [("baseline", [trial.evaluation for trial in trials if trial.candidate_id == BASELINE_ID])]
    if candidate.id != BASELINE_ID:
        series.append((name, [trial.evaluation for trial in trials if trial.candidate_id == trained]))
    retrained = {each.name for each in rows.retrainings}
    for other in (REFERENCE, f"{name} retrained" if name in retrained else ""):
        chosen = other.removesuffix(" retrained")
        series.append((other, [each.evaluation for each in rows.retrainings if each.name == chosen]))
    styles = {"baseline": ("var(--orange)", "dot", "diamond"), REFERENCE: ("var(--purple)", "dash", "square")}
    traces = [
        trace
        for label, trainings in series
        for trace in _traces(label, trainings, *styles.get(label, ("var(--blue)", "solid", "circle")))
    ]
    ticks: list[int] = []
    for step in sorted({step for trace in traces for step in trace["x"]}, reverse=True):
        ticks += [step] if not ticks or ticks[-1] > 1.6 * step else []
    layout = {
        "xaxis": {
            "title": {"text": "optimizer steps", "font": _SMALL},
            "type": "log",
            "tickvals": ticks,
            "tickformat": ",",
        },
        "yaxis": {"title": {"text": "validation loss, nats per token", "font": _SMALL}, "tickformat": ".2f"},
    }
    return json_response({"data": traces, "layout": layout})


def _traces(name: str, trainings: Iterable[Evaluation], color: str, dash: str, symbol: str) -> list[dict[str, Any]]:
    """Return the curves of one program, a line for each training; they share one entry of the legend."""
    curves = [points for each in trainings if (points := validation_points(each))]
    width = 2.2 if len(curves) < 3 else 1.2
    return [
        {
            "x": [steps for steps, _ in points],
            "y": [loss for _, loss in points],
            "name": name + (f" ({len(curves)} trainings)" if len(curves) > 1 else ""),
            "legendgroup": name,
            "showlegend": place == 0,
            "mode": "lines+markers",
            "line": {"color": color, "dash": dash, "width": width},
            "marker": {"color": color, "symbol": symbol, "size": 6},
            "hovertemplate": f"{name}: %{{y:.4f}} after %{{x:,}} steps<extra></extra>",
        }
        for place, points in enumerate(curves)
    ]


def _graph(request: Request) -> Response:
    with request.run.read() as store:
        candidate = _find(request, store)
        other = None if candidate.id == BASELINE_ID else store.candidate(BASELINE_ID).dna
    title = f"Program of {candidate_name(candidate.id)}"
    text = program_graph(candidate.dna, other, title=title, standalone=True)
    return download(text, f"{request.run.key}-{candidate.id}.svg", "image/svg+xml")


def _dna(request: Request) -> Response:
    with request.run.read() as store:
        candidate = _find(request, store)
    text = json.dumps(json.loads(dna_to_json(candidate.dna)), indent=1) + "\n"
    return download(text, f"{request.run.key}-{candidate.id}.json", "application/json")


def _source(request: Request) -> Response:
    api = request.choice("api", ("nnx", "linen"), "nnx")
    with request.run.read() as store:
        candidate = _find(request, store)
    text = candidate_source(request.run.directory.path.resolve(), candidate.id, api)
    return download(text, f"block_{candidate.id}.py", "text/x-python; charset=utf-8")
