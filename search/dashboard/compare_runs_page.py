"""Comparison of several runs: their best losses so far, their conditions and their results."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from ..evolution.candidate import candidate_name
from ..reports.formatting import format_estimate, format_number
from ..reports.phrases import beyond_noise
from ..results.confirmation import retrained_candidates
from ..results.digest.run_digest import RunDigest
from ..results.leaderboard import best_row
from ..results.leaderboard_rows import Leaderboard
from .progress_curve import AXES, comparison_figure
from .rendering import render
from .requests import Request, Response, Route, json_response
from .served_run import ServedRun

__all__ = ["routes"]

_LOSSES = {"difference": "against each run's own baseline", "loss": "loss"}


def routes() -> list[Route]:
    """Return the page that compares the served runs, its figure, and the state that the page polls."""
    return [
        Route("/compare", _compare),
        Route("/compare/progress.json", _progress),
        Route("/compare/state.json", _state),
    ]


def _compare(request: Request) -> Response:
    axis, loss = request.choice("x", AXES, "time"), request.choice("y", _LOSSES, "difference")
    rows, manifests = [], {}
    for run in request.runs.values():
        with run.digest() as (digest, store):
            rows.append(_row(run, digest, digest.board(store)))
            manifests[run.name] = digest.manifest
    return render(
        request,
        "compare.html.j2",
        "Compare",
        rows=rows,
        differing=_differing(manifests),
        axis=axis,
        axes=tuple(AXES),
        loss=loss,
        losses=_LOSSES,
    )


def _progress(request: Request) -> Response:
    axis, loss = request.choice("x", AXES, "time"), request.choice("y", _LOSSES, "difference")
    with ExitStack() as held:
        digests = {run.key: held.enter_context(run.digest())[0] for run in request.runs.values()}
        return json_response(comparison_figure(digests, axis, loss == "difference"))


def _state(request: Request) -> Response:
    last, read, running = [], [], False
    for run in request.runs.values():
        with run.read() as store:
            last.append(store.last_sequence())
        read.append(run.events_read)
        running = running or run.running
    return json_response({"last": sum(last), "read": sum(read), "running": running})


def _row(run: ServedRun, digest: RunDigest, board: Leaderboard) -> dict[str, Any]:
    config, best, totals = digest.manifest.get("config", {}), best_row(board.rows), board.totals
    confirmed = next(iter(retrained_candidates(board.confirmed).values()), None)
    return {
        "key": run.key,
        "name": run.name,
        "running": run.running,
        "strategy": config.get("search", {}).get("strategy", "–"),
        "seed": digest.manifest.get("seed", "–"),
        "minutes": totals.elapsed_seconds / 60,
        "candidates": totals.candidates,
        "full": totals.outcomes.get("ok", 0),
        "baseline": board.baseline,
        "best": best,
        "better": best is not None and beyond_noise(best),
        "best_name": None if best is None else candidate_name(best.id),
        "difference": "–" if best is None else format_number(best.delta_bits_per_byte, "+.4f"),
        "equal_time": "–" if best is None else format_number(best.equal_time_delta_bits_per_byte, "+.4f"),
        "confirmed": confirmed,
        "confirmed_views": {}
        if confirmed is None
        else {name: format_estimate(view) for name, view in confirmed.views.items()},
    }


def _differing(manifests: dict[str, dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return the conditions that differ between the runs, with the value in each run."""
    known = {
        "text": lambda each: str(each.get("dataset_hash", "?"))[:12],
        **{
            f"{section}.{key}": lambda each, section=section, key=key: str(
                each.get("config", {}).get(section, {}).get(key)
            )
            for section, key in _settings(manifests)
        },
    }
    values = {name: [read(each) for each in manifests.values()] for name, read in known.items()}
    return [(name, found) for name, found in values.items() if len(set(found)) > 1]


def _settings(manifests: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Return section and key of each setting on which the losses of a run depend."""
    sections = ("model", "trial", "optimizer")
    return sorted(
        {
            (section, key)
            for each in manifests.values()
            for section in sections
            for key in each.get("config", {}).get(section, {})
        }
    )
