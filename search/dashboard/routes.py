"""All URLs of the dashboard: each page is a module with `routes()`."""

from __future__ import annotations

from . import (
    candidate_files,
    candidate_page,
    compare_runs_page,
    edits_page,
    leaderboard_page,
    lineage_page,
    overview_page,
)
from .requests import Route

__all__ = ["all_routes"]

PAGES = (
    overview_page,
    leaderboard_page,
    candidate_page,
    candidate_files,
    lineage_page,
    edits_page,
    compare_runs_page,
)
"""Modules with the pages, in the order of the navigation."""


def all_routes() -> list[Route]:
    """Return the routes of all pages."""
    return [route for page in PAGES for route in page.routes()]
