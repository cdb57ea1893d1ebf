"""The leaderboard of a run: sorted, filtered, page by page."""

from __future__ import annotations

from .page import Request, Response, Route
from .rendering import render

__all__ = ["routes"]


def routes() -> list[Route]:
    """Return the leaderboard of each run."""
    return [Route("/runs/{run}/leaderboard", _leaderboard)]


def _leaderboard(request: Request) -> Response:
    return render(request, "leaderboard.html.j2", "Leaderboard", run_name=request.run.name)
