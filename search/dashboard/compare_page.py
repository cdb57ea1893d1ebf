"""Several runs side by side."""

from __future__ import annotations

from .page import Request, Response, Route
from .rendering import render

__all__ = ["routes"]


def routes() -> list[Route]:
    """Return the comparison of the served runs."""
    return [Route("/compare", _compare)]


def _compare(request: Request) -> Response:
    return render(request, "compare.html.j2", "Compare")
