"""Figures of one candidate (learning curves, analysis of its layers) and downloads (DNA, Flax source, drawing)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ...primitives.errors import UsageError
from ...primitives.programs.program_json import dna_to_json
from ...workers.protocol import Evaluation
from ..evolution.candidate import BASELINE_ID, Candidate, candidate_name
from ..refinement.analysis_result import read_analysis
from ..reports.figures.analysis_figure import analysis_figure
from ..reports.figures.program_drawing import draw_program
from ..results.learning_curve import validation_points
from ..runs.store_reader import StoreReader
from ..weights.saved_weights import saved_trainings
from .candidate_source import candidate_source
from .requests import NotFoundError, Request, Response, Route, download, json_response

__all__ = ["find_candidate", "routes"]

REFERENCE = "PRIMER_EZ"
"""Library program whose learning curve is also shown, if the run retrained it."""

_SMALL = {"size": 13}


def routes() -> list[Route]:
    """Return the figures and the downloads of each candidate."""
    page = "/runs/{run}/candidates/{candidate}"
    return [
        Route(f"{page}/curve.json", _curve),
        Route(f"{page}/analysis.json", _analysis),
        Route(f"{page}/weights.json", _weights_curves),
        Route(f"{page}/graph.svg", _graph),
        Route(f"{page}/dna.json", _dna),
        Route(f"{page}/block.py", _source),
    ]


def find_candidate(request: Request, store: StoreReader) -> Candidate:
    """Return the candidate that the URL names.

    Raises:
        NotFoundError: the run does not have this candidate.
    """
    try:
        return store.candidate(request.id_in_path("candidate"))
    except NotFoundError:
        raise
    except UsageError as error:
        raise NotFoundError(str(error)) from None


def _curve(request: Request) -> Response:
    with request.run.digest() as (digest, store):
        candidate, retrainings = find_candidate(request, store), tuple(digest.retrainings)
        trained = candidate.evaluated_id
        trials = store.evaluations_of([BASELINE_ID, trained])
    name = candidate_name(candidate.id)
    series = [("baseline", [trial.evaluation for trial in trials if trial.candidate_id == BASELINE_ID])]
    if candidate.id != BASELINE_ID:
        series.append((name, [trial.evaluation for trial in trials if trial.candidate_id == trained]))
    retrained = {each.name for each in retrainings}
    for other in (REFERENCE, f"{name} retrained" if name in retrained else ""):
        chosen = other.removesuffix(" retrained")
        series.append((other, [each.evaluation for each in retrainings if each.name == chosen]))
    styles = {
        "baseline": ("var(--orange)", "dot", "diamond"),
        REFERENCE: ("var(--purple)", "dash", "square"),
        f"{name} retrained": ("var(--green)", "dashdot", "triangle-up"),
    }
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


def _analysis(request: Request) -> Response:
    with request.run.read() as store:
        candidate = find_candidate(request, store)
    analysis = read_analysis(request.run.directory.weights(candidate.id))
    if analysis is None:
        raise NotFoundError(f"{candidate_name(candidate.id)} has no analysis: run `primer-search analyze`")
    return json_response(analysis_figure(analysis))


def _weights_curves(request: Request) -> Response:
    with request.run.read() as store:
        candidate = find_candidate(request, store)
    colors = ("var(--blue)", "var(--orange)", "var(--green)", "var(--purple)")
    traces = [
        {
            "x": [steps for _, steps, _ in training.curve["validation"]],
            "y": [loss for _, _, loss in training.curve["validation"]],
            "name": training.name,
            "mode": "lines+markers",
            "line": {"color": colors[place % len(colors)], "width": 2.2},
            "marker": {"size": 6},
            "hovertemplate": f"{training.name}: %{{y:.4f}} after %{{x:,}} steps<extra></extra>",
        }
        for place, training in enumerate(saved_trainings(request.run.directory.weights(candidate.id)))
        if training.last is not None
    ]
    layout = {
        "xaxis": {"title": {"text": "optimizer steps", "font": _SMALL}, "tickformat": ","},
        "yaxis": {"title": {"text": "held-out loss, nats per token", "font": _SMALL}, "tickformat": ".2f"},
    }
    return json_response({"data": traces, "layout": layout})


def _traces(name: str, trainings: Iterable[Evaluation], color: str, dash: str, symbol: str) -> list[dict[str, Any]]:
    """Return the curves of one program: one line for each training, and one entry of the legend for all."""
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
        candidate = find_candidate(request, store)
        other = None if candidate.id == BASELINE_ID else store.candidate(BASELINE_ID).dna
    title = f"Program of {candidate_name(candidate.id)}"
    text = draw_program(candidate.dna, other, title=title, standalone=True)
    return download(text, f"{request.run.key}-{candidate.id}.svg", "image/svg+xml")


def _dna(request: Request) -> Response:
    with request.run.read() as store:
        candidate = find_candidate(request, store)
    text = json.dumps(json.loads(dna_to_json(candidate.dna)), indent=1) + "\n"
    return download(text, f"{request.run.key}-{candidate.id}.json", "application/json")


def _source(request: Request) -> Response:
    api = request.choice("api", ("nnx", "linen"), "nnx")
    with request.run.read() as store:
        candidate = find_candidate(request, store)
    text = candidate_source(request.run.directory.path.resolve(), candidate.id, api)
    return download(text, f"block_{candidate.id}.py", "text/x-python; charset=utf-8")
