"""Layered layout of a directed acyclic graph: nodes in rows, edges from the top down.

1. The row of a node is the length of the longest path that leads to it.
2. An edge that spans several rows gets a *bend* in each row between its ends. No node is placed where a bend is.
3. Each row is ordered by barycentres: a node's key is the mean place of its neighbors in the adjacent row. A few sweeps
   down and up are tried, and the order with the fewest crossings is kept.
4. Each node moves as close to the mean x of its neighbors as the order and the gaps allow. This is a weighted isotonic
   regression in each row. Edges between bends weigh more, so that long edges are straight.

Reference: Sugiyama, Tagawa and Toda (1981), "Methods for visual understanding of hierarchical system structures".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

__all__ = ["Layout", "Link", "Point", "Size", "layered_layout"]

COLUMN_GAP = 18.0
"""Smallest distance between two nodes of a row."""

ROW_GAP = 26.0
"""Distance between two rows, in which edges bend."""

BEND_WIDTH = 6.0

WEIGHTS = (1.0, 2.0, 8.0)
"""Weight of an edge by the number of its ends that are bends: 0, 1 or 2."""

ORDER_SWEEPS = 8
PLACE_SWEEPS = 24

STRAIGHT = 9.0
"""An edge between adjacent rows is drawn straight if the x of its ends differ by less than this."""


class Size(NamedTuple):
    """Width and height of a node."""

    width: float
    height: float


class Point(NamedTuple):
    """A position; y grows downwards."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Link:
    """An edge.

    Attributes:
        source, target: keys of the nodes.
        source_x, target_x: x at which the edge leaves and enters, relative to the centers of the nodes.
    """

    source: str
    target: str
    source_x: float = 0.0
    target_x: float = 0.0


@dataclass(frozen=True, slots=True)
class Layout:
    """Places of all nodes and edges.

    Attributes:
        width, height: size of the drawing; its coordinates start at 0.
        centers: center of each node.
        routes: points of each edge, in the order of the edges, from the bottom of its source to the top of its target.
    """

    width: float
    height: float
    centers: Mapping[str, Point]
    routes: tuple[tuple[Point, ...], ...]


def layered_layout(sizes: Mapping[str, Size], links: Sequence[Link], last: str | None = None) -> Layout:
    """Place the nodes of an acyclic graph in rows.

    Args:
        sizes: size of each node.
        links: edges; several may connect the same two nodes.
        last: node without outgoing edges that is put into the last row.

    Raises:
        ValueError: the graph has a cycle.
    """
    rows = _rows(sizes, links)
    if last is not None:
        rows[last] = max(rows.values())
    chains, graph = _with_bends(sizes, links, rows)
    order = _ordered(graph)
    tops, heights = _row_places(order, sizes)
    xs = _x_places(graph, order)
    left = min((xs[key] - graph.widths[key] / 2 for key in xs), default=0.0)
    right = max((xs[key] + graph.widths[key] / 2 for key in xs), default=0.0)
    centers = {key: Point(xs[key] - left, tops[rows[key]] + heights[rows[key]] / 2) for key in sizes}
    routes = []
    for link, chain in zip(links, chains, strict=True):
        start, end = centers[link.source], centers[link.target]
        left_at, enters_at = start.x + link.source_x, end.x + link.target_x
        if not chain and abs(left_at - enters_at) < STRAIGHT:
            left_at = enters_at = left_at if link.target_x == 0.0 else enters_at
        points = [Point(left_at, start.y + sizes[link.source].height / 2)]
        points.append(Point(left_at, tops[rows[link.source]] + heights[rows[link.source]]))
        for row, bend in enumerate(chain, start=rows[link.source] + 1):
            points += [Point(xs[bend] - left, tops[row]), Point(xs[bend] - left, tops[row] + heights[row])]
        points.append(Point(enters_at, tops[rows[link.target]]))
        points.append(Point(enters_at, end.y - sizes[link.target].height / 2))
        routes.append(tuple(points[:1] + [after for before, after in pairwise(points) if after.y - before.y > 1e-6]))
    height = tops[-1] + heights[-1] if tops else 0.0
    return Layout(max(right - left, 0.0), height, centers, tuple(routes))


@dataclass(frozen=True, slots=True)
class _Graph:
    """The graph with its bends: keys by row, widths, and the edges between adjacent rows.

    `above` and `below` hold, for each key, its neighbors, the shift between the ends of the edge, and its weight.
    """

    rows: list[list[str]]
    widths: dict[str, float]
    above: dict[str, list[tuple[str, float, float]]]
    below: dict[str, list[tuple[str, float, float]]]


def _rows(sizes: Mapping[str, Size], links: Sequence[Link]) -> dict[str, int]:
    """Return the row of each node: the number of edges of the longest path to it."""
    incoming: dict[str, list[str]] = {key: [] for key in sizes}
    waiting: dict[str, int] = dict.fromkeys(sizes, 0)
    for link in links:
        incoming[link.target].append(link.source)
        waiting[link.target] += 1
    outgoing = defaultdict(list)
    for link in links:
        outgoing[link.source].append(link.target)
    rows: dict[str, int] = {}
    ready = [key for key in sizes if not waiting[key]]
    for key in ready:  # the loop appends to it
        rows[key] = max((rows[source] + 1 for source in incoming[key]), default=0)
        for target in outgoing[key]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    if len(rows) < len(sizes):
        raise ValueError(f"the graph has a cycle through {', '.join(sorted(set(sizes) - set(rows)))}")
    return rows


def _with_bends(
    sizes: Mapping[str, Size], links: Sequence[Link], rows: Mapping[str, int]
) -> tuple[list[list[str]], _Graph]:
    """Return the bends of each edge, and the graph with all bends."""
    graph = _Graph(
        [[] for _ in range(max(rows.values(), default=-1) + 1)],
        {key: size.width for key, size in sizes.items()},
        defaultdict(list),
        defaultdict(list),
    )
    for key in sizes:
        graph.rows[rows[key]].append(key)
    chains = []
    for number, link in enumerate(links):
        chain = [f"\0{number}.{row}" for row in range(rows[link.source] + 1, rows[link.target])]
        for row, bend in enumerate(chain, start=rows[link.source] + 1):
            graph.rows[row].append(bend)
            graph.widths[bend] = BEND_WIDTH
        for upper, lower in pairwise([link.source, *chain, link.target]):
            shift = (link.source_x if upper == link.source else 0.0) - (link.target_x if lower == link.target else 0.0)
            weight = WEIGHTS[(upper != link.source) + (lower != link.target)]
            graph.below[upper].append((lower, -shift, weight))
            graph.above[lower].append((upper, shift, weight))
        chains.append(chain)
    return chains, graph


def _ordered(graph: _Graph) -> list[list[str]]:
    """Return the rows in the order with the fewest crossings found."""
    order = [list(row) for row in graph.rows]
    best, fewest = order, _crossings(graph, order)
    for sweep in range(ORDER_SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        order = [list(row) for row in order]
        neighbors = graph.above if down else graph.below
        for at in range(1, len(order)) if down else range(len(order) - 2, -1, -1):
            row, adjacent = order[at], order[at - 1 if down else at + 1]
            places = {key: place for place, key in enumerate(adjacent)}
            own = {key: float(place) for place, key in enumerate(row)}
            means = {
                key: fmean([places[other] for other, _, _ in neighbors[key]]) if neighbors[key] else own[key]
                for key in row
            }
            order[at] = sorted(row, key=lambda key: (means[key], own[key]))
        crossings = _crossings(graph, order)
        if crossings < fewest:
            best, fewest = order, crossings
    return best


def _crossings(graph: _Graph, order: Sequence[Sequence[str]]) -> int:
    """Return the number of pairs of edges that cross."""
    count = 0
    for upper, lower in pairwise(order):
        places = {key: place for place, key in enumerate(lower)}
        ends: list[int] = []
        for key in upper:
            own = sorted(places[other] for other, _, _ in graph.below[key])
            count += sum(end > place for place in own for end in ends)
            ends += own
    return count


def _row_places(order: Sequence[Sequence[str]], sizes: Mapping[str, Size]) -> tuple[list[float], list[float]]:
    """Return the top and the height of each row."""
    heights = [max((sizes[key].height for key in row if key in sizes), default=0.0) for row in order]
    tops, y = [], 0.0
    for height in heights:
        tops.append(y)
        y += height + ROW_GAP
    return tops, heights


def _x_places(graph: _Graph, order: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the x of the center of each node and bend."""
    xs: dict[str, float] = {}
    for row in order:
        xs |= _spread(row, graph, dict.fromkeys(row, (0.0, 1.0)))
    for sweep in range(PLACE_SWEEPS):
        down, both = sweep % 2 == 0, sweep >= PLACE_SWEEPS // 3
        for row in order if down else reversed(order):
            wanted = {}
            for key in row:
                ends = (graph.above[key] if both or down else []) + (graph.below[key] if both or not down else [])
                total = sum(weight for _, _, weight in ends)
                mean = sum(weight * (xs[other] + shift) for other, shift, weight in ends) / total if ends else xs[key]
                wanted[key] = mean, total or 1.0
            xs |= _spread(row, graph, wanted)
    return xs


def _spread(row: Sequence[str], graph: _Graph, wanted: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Return the x of each node of a row, in order and without overlaps, as close as possible to the wanted ones.

    `wanted` gives an x and its weight for each node; the sum of weighted squared distances is minimized. After the gaps
    are subtracted, the only constraint is that x does not decrease. This is isotonic regression, solved by pooling
    adjacent violators.
    """
    offsets = [0.0]
    for left, right in pairwise(row):
        offsets.append(offsets[-1] + (graph.widths[left] + graph.widths[right]) / 2 + COLUMN_GAP)
    blocks: list[tuple[float, float, int]] = []  # mean, weight, number of nodes
    for key, offset in zip(row, offsets, strict=True):
        (place, weight), count = wanted[key], 1
        mean = place - offset
        while blocks and blocks[-1][0] > mean:
            other_mean, other_weight, other_count = blocks.pop()
            mean = (mean * weight + other_mean * other_weight) / (weight + other_weight)
            weight, count = weight + other_weight, count + other_count
        blocks.append((mean, weight, count))
    places = [mean for mean, _, count in blocks for _ in range(count)]
    return {key: place + offset for key, place, offset in zip(row, places, offsets, strict=True)}
