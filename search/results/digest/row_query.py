"""Query of candidates of a digest: sorting, filters and pages, in SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..leaderboard_rows import BaselineSummary
from .candidate_table import RANKED, CandidateTable

__all__ = [
    "SORTS",
    "STATUSES",
    "RowPage",
    "RowQuery",
    "count_better",
    "select_rows",
]

SORTS = {
    "rank": "",
    "id": "id",
    "loss": "loss",
    "bits": "bits",
    "difference": "ranking",
    "step": "step_ms",
    "speed": "speed",
    "parameters": "parameters",
    "memory": "memory",
}
"""Sort keys, and the column of each. `rank` is the order of the leaderboard."""

_HIGHEST_FIRST = ("speed",)

STATUSES = {
    "all": "class IS NOT NULL",
    "full": "class = 0",
    "stopped": "class = 1",
    "failed": "(class = 2 OR class = 0 AND subclass > 0)",
}
"""Groups of candidates by their result, and their SQL: with a result, trained in full, stopped, failed or unstable."""


@dataclass(frozen=True, slots=True)
class RowQuery:
    """A selection of rows.

    Attributes:
        sort: key of `SORTS`.
        reverse: whether to reverse the usual order.
        status: key of `STATUSES`.
        text: text in the descriptions of a candidate's edits, in upper or lower case; empty for all candidates.
        better: whether to keep only candidates better than the baseline by more than its noise.
        most_parameters, longest_step_ms: upper bounds; None for no bound.
        offset, limit: first row, from 0, and number of rows.
    """

    sort: str = "rank"
    reverse: bool = False
    status: str = "all"
    text: str = ""
    better: bool = False
    most_parameters: int | None = None
    longest_step_ms: float | None = None
    offset: int = 0
    limit: int = 50


@dataclass(frozen=True, slots=True)
class RowPage:
    """Rows of one page, as ids of candidates, and the number of rows on all pages."""

    ids: list[int]
    total: int


def select_rows(table: CandidateTable, query: RowQuery, baseline: BaselineSummary) -> RowPage:
    """Return the rows that a query selects."""
    where, values = _conditions(query, baseline)
    (total,) = table.query(f"SELECT count(*) FROM candidates WHERE {where}", values)[0]
    values |= {"limit": query.limit, "offset": query.offset}
    if query.sort == "rank":
        order = ", ".join(f"{name}{' DESC' * query.reverse}" for name in ("class", "subclass", "ranking", "id"))
        return RowPage(table.ids(f"WHERE {where} ORDER BY {order} LIMIT :limit OFFSET :offset", values), total)
    column, descending = SORTS[query.sort], query.reverse != (query.sort in _HIGHEST_FIRST)
    table.index(column)
    direction = "DESC" if descending else "ASC"  # the same for ids among equal values, so that an index gives the order
    order = f"ORDER BY {column} {direction}, id {direction} LIMIT :limit OFFSET :offset"
    ids = table.ids(f"WHERE {where} AND {column} IS NOT NULL {order}", values)
    if len(ids) < query.limit:  # rows without the value come last
        (known,) = table.query(f"SELECT count(*) FROM candidates WHERE {where} AND {column} IS NOT NULL", values)[0]
        values |= {"limit": query.limit - len(ids), "offset": max(query.offset - known, 0)}
        ids += table.ids(f"WHERE {where} AND {column} IS NULL ORDER BY id LIMIT :limit OFFSET :offset", values)
    return RowPage(ids, total)


def count_better(table: CandidateTable, baseline: BaselineSummary) -> int:
    """Return how many candidates are better than the baseline by more than its noise."""
    where, values = _conditions(RowQuery(better=True), baseline)
    return table.query(f"SELECT count(*) FROM candidates WHERE {where}", values)[0][0]


def _conditions(query: RowQuery, baseline: BaselineSummary) -> tuple[str, dict[str, Any]]:
    """Return the SQL condition of a query, and its values; no text of a user is part of the condition."""
    conditions, values = [STATUSES[query.status]], dict[str, Any]()
    if query.text:
        conditions.append("id IN (SELECT id FROM edits WHERE instr(text, :text) > 0)")
        values["text"] = query.text.lower()
    if query.better:
        known = baseline.loss_nats is not None and baseline.noise_nats is not None
        conditions.append(f"{RANKED} AND id != 0 AND ranking < :bound" if known else "0")
        values["bound"] = (baseline.loss_nats or 0.0) - (baseline.noise_nats or 0.0)
    bounds: Mapping[str, float | None] = {"parameters": query.most_parameters, "step_ms": query.longest_step_ms}
    for column, bound in bounds.items():
        if bound is not None:
            conditions.append(f"{column} <= :most_{column}")
            values[f"most_{column}"] = bound
    return " AND ".join(conditions), values
