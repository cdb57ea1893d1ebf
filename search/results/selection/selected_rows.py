"""Selection of rows from one or several leaderboards: filtered, sorted, each with the name of its run."""

from __future__ import annotations

import os.path
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..leaderboard_rows import Leaderboard
from .conditions import parse_condition
from .row_fields import RowField, RunRow, find_field

__all__ = ["Selection", "differing_settings", "run_names", "select_rows"]

COMPARED = {
    "model": ("layers", "unit", "length", "vocabulary", "precision"),
    "trial": ("unit", "budget_steps", "budget_seconds", "batch"),
    "optimizer": ("name", "learning_rate", "schedule"),
}
"""Settings that losses depend on, by section."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows to show, and their order.

    Attributes:
        where: conditions that must all hold.
        confirmed: whether to keep only candidates that were retrained.
        sort: field to sort by; a `-` before its name reverses the order. None: the order of the leaderboard, or for
            several runs the worse of the differences to each run's own baseline.
    """

    where: tuple[str, ...] = ()
    confirmed: bool = False
    sort: str | None = None

    @property
    def filters(self) -> bool:
        """Whether rows are left out."""
        return bool(self.where) or self.confirmed


def select_rows(boards: Sequence[Leaderboard], selection: Selection) -> list[RunRow]:
    """Return the rows that the selection keeps, in its order; unknown values come last.

    Raises:
        UsageError: a condition or the sort key is wrong.
    """
    conditions = [parse_condition(text) for text in selection.where]
    key = None if selection.sort is None else find_field(selection.sort.removeprefix("-"), "--sort")
    rows = [each for name, board in zip(run_names(boards), boards, strict=True) for each in _rows(name, board)]
    kept = [
        each
        for each in rows
        if not (selection.confirmed and each.row.unconfirmed) and all(condition(each) for condition in conditions)
    ]
    if key is not None:
        return _sorted(kept, key, reverse=key.highest_first != (selection.sort or "").startswith("-"))
    if len(boards) > 1:
        worse = find_field("ranking_delta_bits_per_byte", "--sort")
        kept = sorted(_sorted(kept, worse, reverse=False), key=lambda each: each.row.rank is None)
    return kept


def run_names(boards: Sequence[Leaderboard]) -> list[str]:
    """Return a name of each run: its folder, or its path if two folders have the same name."""
    names = [os.path.basename(os.path.normpath(board.run)) for board in boards]
    counts = Counter(names)
    return [name if counts[name] == 1 else board.run for name, board in zip(names, boards, strict=True)]


def differing_settings(boards: Sequence[Leaderboard]) -> list[str]:
    """Return why losses of the runs are not comparable: the settings that differ, and `the text` if it does."""
    settings = [_comparable(board) for board in boards]
    names = dict.fromkeys(name for each in settings for name in each)
    return [name for name in names if len({str(each[name]) for each in settings if name in each}) > 1]


def _rows(name: str, board: Leaderboard) -> list[RunRow]:
    confirmed = {each.candidate_id: each for each in board.confirmed if each.candidate_id is not None}
    return [RunRow(name, row, confirmed.get(row.id), board.initial_programs.get(row.id)) for row in board.rows]


def _sorted(rows: Sequence[RunRow], field: RowField, *, reverse: bool) -> list[RunRow]:
    known = [each for each in rows if field.read(each) is not None]
    unknown = [each for each in rows if field.read(each) is None]

    def key(each: RunRow) -> Any:
        return field.read(each)

    return [*sorted(known, key=key, reverse=reverse), *unknown]


def _comparable(board: Leaderboard) -> dict[str, Any]:
    config = board.about.get("config") or {}
    unused = "budget_seconds" if config.get("trial", {}).get("unit") == "steps" else "budget_steps"
    known = {
        f"{section}.{key}": config[section][key]
        for section, keys in COMPARED.items()
        for key in keys
        if key in config.get(section, {}) and key != unused
    }
    return {"the text": board.about.get("dataset_hash"), **known}
