"""SQL table in memory with one row of numbers for each candidate, which the dashboard sorts, filters and pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...evolution.edit_kinds import edit_kind
from ...runs.connection import memory_connection
from ...runs.records import Ancestor
from ..leaderboard import row_order
from ..leaderboard_rows import LeaderboardRow

__all__ = ["RANKED", "CandidateTable"]

RANKED = "class = 0 AND subclass = 0"
"""SQL condition of the candidates with a rank."""

_SCHEMA = """
CREATE TABLE candidates (
    id INTEGER PRIMARY KEY,
    parent INTEGER,
    same_as INTEGER,
    kind TEXT,
    outcome TEXT,
    trials INTEGER NOT NULL DEFAULT 0,
    loss REAL, bits REAL, step_ms REAL, relative_speed REAL, speed REAL,
    parameters INTEGER, block_parameters INTEGER, flops REAL, memory INTEGER,
    class INTEGER, subclass INTEGER, ranking REAL
);
CREATE INDEX by_rank ON candidates (class, subclass, ranking, id);
CREATE INDEX by_kind ON candidates (kind, class, subclass, same_as) WHERE parent IS NOT NULL;
CREATE TABLE edits (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
"""
# The text of the edits, in lower case, is in a separate table, so that the table of candidates is fast to scan.
# kind is the kind of the last edit; NULL without a parent.
# speed is relative_speed, or if that is NULL, the baseline's step_ms divided by the candidate's.
# class, subclass and ranking are the first parts of `row_order`; all are NULL for a candidate without a result.

_RESULT = (
    "outcome", "trials", "loss", "bits", "step_ms", "relative_speed", "speed", "parameters", "block_parameters",
    "flops", "memory", "class", "subclass", "ranking",
)  # fmt: skip


class CandidateTable:
    """Table of the candidates of a run.

    Of the values that `set_results` stores, only `speed` depends on the baseline: on its step time, which changes
    rarely. The baseline's mean loss and noise, which change during a search, are not in the table.
    """

    def __init__(self) -> None:
        self._baseline_step_ms: float | None = None
        self._connection = memory_connection()
        self._connection.executescript(_SCHEMA)
        self._indexed: set[str] = set()

    def index(self, column: str, ranked: bool = False) -> None:
        """Make sorting by a column fast, for all candidates or for the ranked ones; the first call takes a moment."""
        name = f"by_{column}{'_of_ranked' * ranked}"
        if name in self._indexed or column not in _RESULT:
            return
        columns = f"{column}, loss, id" if ranked else f"{column}, id, class"
        where = f" WHERE {RANKED}" if ranked else ""
        self._connection.execute(f"CREATE INDEX {name} ON candidates ({columns}){where}")
        self._indexed.add(name)

    def add(self, candidates: Iterable[Ancestor]) -> None:
        """Add new candidates."""
        self._connection.execute("BEGIN")
        for each in candidates:
            self._connection.execute(
                "INSERT OR IGNORE INTO candidates (id, parent, same_as, kind) VALUES (?, ?, ?, ?)",
                (each.id, each.parent, each.same_as, _kind(each)),
            )
            self._connection.execute(
                "INSERT OR IGNORE INTO edits VALUES (?, ?)", (each.id, "\n".join(each.mutations).lower())
            )
        self._connection.execute("COMMIT")

    def set_results(self, rows: Iterable[tuple[LeaderboardRow, int | None]]) -> None:
        """Set the results of candidates, each a row that was made without a baseline, and a peak memory in bytes."""
        self._connection.execute("BEGIN")
        self._connection.executemany(
            f"UPDATE candidates SET {', '.join(f'{name} = ?' for name in _RESULT)} WHERE id = ?",
            (
                (
                    *(row.outcome, row.trials, row.loss_nats, row.bits_per_byte, row.step_ms, row.speed),
                    self._speed(row),
                    *(row.parameters, row.block_parameters, row.flops_per_token, memory, *row_order(row)),
                )
                for row, memory in rows
            ),
        )
        self._connection.execute("COMMIT")

    def set_baseline_step(self, step_ms: float | None) -> None:
        """Set the step time of the baseline, from which speeds are computed."""
        if step_ms == self._baseline_step_ms:
            return
        self._baseline_step_ms = step_ms
        self._connection.execute(
            "UPDATE candidates SET speed = coalesce(relative_speed, ? / step_ms) WHERE trials > 0", (step_ms,)
        )

    def _speed(self, row: LeaderboardRow) -> float | None:
        if row.speed or not row.step_ms or self._baseline_step_ms is None:
            return row.speed
        return self._baseline_step_ms / row.step_ms

    def set_rankings(self, losses: Mapping[int, float]) -> None:
        """Set the loss by which the candidates that trained to the end are ranked."""
        self._connection.execute("BEGIN")
        self._connection.executemany(
            "UPDATE candidates SET ranking = ? WHERE id = ? AND class = 0 AND ranking != ?",
            ((loss, number, loss) for number, loss in losses.items()),
        )
        self._connection.execute("COMMIT")

    def query(self, statement: str, values: Mapping[str, Any] | tuple[Any, ...] = ()) -> list[Any]:
        """Run a SELECT; no part of a statement may come from a user, only `values`."""
        return self._connection.execute(statement, values).fetchall()

    def ids(self, where: str, values: Mapping[str, Any] | tuple[Any, ...] = ()) -> list[int]:
        """Return the ids that a clause selects."""
        return [number for (number,) in self.query(f"SELECT id FROM candidates {where}", values)]


def _kind(candidate: Ancestor) -> str | None:
    if candidate.parent is None:
        return None
    return edit_kind(candidate.mutations[-1] if candidate.mutations else "")
