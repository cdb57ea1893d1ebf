"""The Pareto front of loss against a cost, and other candidates to compare it with."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .candidate_table import RANKED, CandidateTable

__all__ = ["COSTS", "FrontPoint", "known_costs", "pareto_front"]

COSTS = {"step": "step_ms", "parameters": "parameters", "memory": "memory"}
"""Costs of a Pareto front, and their columns."""


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """A candidate in a figure of loss against cost; `front`: no other has both a lower loss and a lower cost."""

    candidate_id: int
    cost: float
    loss_nats: float
    front: bool


def known_costs(table: CandidateTable) -> list[str]:
    """Return the costs that the run recorded."""
    counts = ", ".join(f"EXISTS (SELECT 1 FROM candidates WHERE {column} > 0)" for column in COSTS.values())
    return [name for name, known in zip(COSTS, table.query(f"SELECT {counts}")[0], strict=True) if known]


def pareto_front(table: CandidateTable, cost: str, shown: int) -> list[FrontPoint]:
    """Return the Pareto front of loss against a cost, the cheapest first, and other candidates for comparison.

    Args:
        table: candidates of a run.
        cost: key of `COSTS`.
        shown: about how many other candidates to return: those with the lowest losses.
    """
    column = COSTS[cost]
    table.index(column, ranked=True)
    table.index("loss", ranked=True)
    step = (  # the next candidate that costs more and is better; together, the queries scan the index once
        f"SELECT id, {column}, loss FROM candidates INDEXED BY by_{column}_of_ranked"
        f" WHERE {column} > ? AND loss < ? AND {RANKED} ORDER BY {column}, loss, id LIMIT 1"
    )
    rows: list[tuple[int, float, float]] = []
    while found := table.query(step, rows[-1][1:] if rows else (0.0, math.inf)):
        rows += found
    front = {number for number, _, _ in rows}
    others = table.query(
        f"SELECT id, {column}, loss FROM candidates INDEXED BY by_loss_of_ranked"
        f" WHERE loss > 0 AND {RANKED} AND {column} > 0 ORDER BY loss LIMIT ?",
        (shown,),
    )
    others = [row for row in others if row[0] not in front]
    return [FrontPoint(number, at, loss, number in front) for number, at, loss in [*rows, *others]]
