"""The lineage of the best candidates: a tree of their ancestors, and the gain of each edit."""

from __future__ import annotations

from ..evolution.candidate import candidate_name
from ..reports.figures.lineage_graph import format_edit, format_gain, lineage_graph
from ..reports.formatting import format_number
from ..results.edits.lineage_tree import lineage_tree
from .rendering import render
from .requests import Request, Response, Route, download

__all__ = ["routes"]

TOP, LARGEST = 8, 40
"""Number of best candidates in the tree: the default, and the maximum."""


def routes() -> list[Route]:
    """Return the tree of each run, as a page and as a file."""
    return [Route("/runs/{run}/lineage", _lineage), Route("/runs/{run}/lineage.svg", _drawing)]


def _lineage(request: Request) -> Response:
    top = request.number("top", TOP, 1, LARGEST)
    with request.run.digest() as (digest, store):
        tree, read, priced = lineage_tree(digest, store, top), digest.share_read(store), digest.priced
    pages = f"/runs/{request.run.key}/candidates/"
    rows = [
        {
            "id": node.id,
            "name": candidate_name(node.id),
            "place": node.place,
            "edit": format_edit(node, tree),
            "parents": [(parent, candidate_name(parent)) for parent in node.parents],
            "gain": format_gain(node.gain),
            "inside_noise": node.gain is not None and node.gain.inside_noise,
            "delta": "–" if node.row is None else format_number(node.row.ranking_delta_bits_per_byte, "+.4f"),
        }
        for node in reversed(tree.nodes)
    ]
    found = any(node.place for node in tree.nodes)
    drawing = lineage_graph(tree, lambda number: f"{pages}{number}") if found else ""
    return render(
        request,
        "lineage.html.j2",
        "Lineage",
        top=top,
        tops=(4, 8, 16, 32),
        drawing=drawing,
        rows=rows,
        pages_of=pages,
        read=read,
        priced=priced,
    )


def _drawing(request: Request) -> Response:
    with request.run.digest() as (digest, store):
        tree = lineage_tree(digest, store, request.number("top", TOP, 1, LARGEST))
    return download(lineage_graph(tree, standalone=True), f"{request.run.key}-lineage.svg", "image/svg+xml")
