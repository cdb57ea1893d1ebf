"""The overview of a run, and the start page."""

from __future__ import annotations

from .page import Request, Response, Route, json_response
from .rendering import render

__all__ = ["routes"]


def routes() -> list[Route]:
    """Return the start page, the overview of each run, and the state that pages poll."""
    return [
        Route("/", _start),
        Route("/runs/{run}", _overview),
        Route("/runs/{run}/state.json", _state),
    ]


def _start(request: Request) -> Response:
    """Lead to the only run, or to the comparison of several."""
    place = "/compare" if len(request.runs) > 1 else f"/runs/{next(iter(request.runs))}"
    return Response("", status=307, headers={"Location": place})


def _overview(request: Request) -> Response:
    with request.run.read() as store:
        candidates = len(store.pedigree())
    return render(request, "overview.html.j2", "Overview", candidates=candidates)


def _state(request: Request) -> Response:
    """Answer the question whether anything has changed; it costs one look-up."""
    with request.run.read() as store:
        last = store.last_sequence()
    return json_response({"last": last, "read": request.run.events_read, "running": request.run.running})
