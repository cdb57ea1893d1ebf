"""Rows of several runs in one table: filters, orders, and what makes losses incomparable."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from primer_search.primitives.errors import UsageError
from primer_search.search.results.leaderboard import leaderboard
from primer_search.search.results.leaderboard_rows import Leaderboard
from primer_search.search.results.selection.conditions import parse_condition
from primer_search.search.results.selection.row_fields import FIELDS, RunRow, find_field
from primer_search.search.results.selection.selected_rows import Selection, differing_settings, run_names, select_rows
from primer_search.tests.support.command import HandmadeRun


@pytest.fixture
def boards(tmp_path: Path) -> list[Leaderboard]:
    """Two runs: the baseline of `b` is worse by 1 nat, its candidate better in loss and difference than one of `a`."""
    a, b = HandmadeRun(tmp_path / "a", (3.0, 2.98, 3.02)), HandmadeRun(tmp_path / "b", (4.0, 3.98, 4.02))
    a.child("PRIMER_EZ", 2.5)
    a.child("PRIMER", 2.95)
    a.child("TRANSFORMER_PP", 2.9, "stopped_at_hurdle")
    b.child("PRIMER_EZ", 3.6)
    return [leaderboard(a.store), leaderboard(b.store)]


def names(rows: Iterable[RunRow]) -> list[str]:
    return [f"{each.run}{each.row.id}" for each in rows]


def test_runs_are_ordered_by_the_difference_to_their_own_baseline(boards: list[Leaderboard]) -> None:
    rows = select_rows(boards, Selection())
    assert names(rows) == ["a1", "b1", "a2", "a0", "b0", "a3"]
    assert [each.row.delta_bits_per_byte for each in rows[:2]] == pytest.approx([-0.25, -0.2])


def test_one_run_keeps_the_order_of_its_ranks(boards: list[Leaderboard]) -> None:
    assert [each.row for each in select_rows(boards[:1], Selection())] == list(boards[0].rows)


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("loss", ["a1", "a2", "a0", "b1", "b0", "a3"]),
        ("-loss", ["b0", "b1", "a0", "a2", "a1", "a3"]),
        ("id", ["a0", "b0", "a1", "b1", "a2", "a3"]),
        ("better", ["a1", "b1", "a2", "a0", "b0", "a3"]),
    ],
)
def test_rows_are_sorted_by_a_field_with_unknown_values_last(
    sort: str, order: list[str], boards: list[Leaderboard]
) -> None:
    assert names(select_rows(boards, Selection(sort=sort))) == order


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("loss<3", ["a1", "a2"]),
        ("loss < 3 and not better", ["a2"]),
        ("better", ["a1", "b1"]),
        ("better = false", ["a2", "a0", "b0"]),
        ("run=b AND id!=0", ["b1"]),
        ("outcome = 'stopped_at_hurdle'", ["a3"]),
        ("id>=#2", ["a2", "a3"]),
        ("equal-time < 100", []),
        ("not confirmed and rank <= 1", ["a1", "b1"]),
    ],
)
def test_conditions_keep_the_rows_that_meet_them(where: str, kept: list[str], boards: list[Leaderboard]) -> None:
    assert names(select_rows(boards, Selection(where=(where,)))) == kept


def test_several_conditions_must_all_hold(boards: list[Leaderboard]) -> None:
    assert names(select_rows(boards, Selection(where=("better", "run=b")))) == ["b1"]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("pric<1", "did you mean price?"),
        ("price<1 or better", "'price < 1 or better' is not"),
        ("price", "price needs a comparison, such as price<1"),
        ("price<cheap", "price is a number"),
        ("price<nan", "price is a number"),
        ("run<b", "compare it with = or !="),
        ("better=1.5", "better is true or false"),
        ("price<1 and", "a condition is missing"),
        ("", "a condition is missing"),
        ("run='open", "is not understood"),
        ("__import__('os').system('true')", "is not `field operator value`"),
    ],
)
def test_a_wrong_condition_is_refused_in_one_sentence(where: str, words: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_condition(where)
    assert words in str(refusal.value) and str(refusal.value).startswith("--where")
    assert "\n" not in str(refusal.value)


def test_an_unknown_sort_key_is_refused_with_all_keys() -> None:
    with pytest.raises(UsageError) as refusal:
        select_rows([], Selection(sort="gian"))
    assert all((field.short or field.name) in str(refusal.value) for field in FIELDS)


def test_every_field_reads_every_row(boards: list[Leaderboard]) -> None:
    kinds = {"number": (int, float), "text": (str,), "flag": (bool,)}
    for each in select_rows(boards, Selection()):
        for field in FIELDS:
            value = field.read(each)
            assert value is None or isinstance(value, kinds[field.kind]), field.name
    assert len({name for field in FIELDS for name in (field.name, field.short) if name}) == len(FIELDS) + sum(
        bool(field.short) for field in FIELDS
    )
    assert find_field("Equal-Time", "--sort").name == "equal_time_delta_bits_per_byte"


def test_settings_that_losses_depend_on_are_named(boards: list[Leaderboard]) -> None:
    assert differing_settings(boards) == []
    other = {**boards[1].about, "dataset_hash": "e" * 64}
    other["config"] = {**other["config"], "model": {**other["config"]["model"], "unit": 16}}
    assert differing_settings([boards[0], replace(boards[1], about=other)]) == ["the text", "model.unit"]


def test_runs_with_the_same_folder_name_are_named_by_their_paths(boards: list[Leaderboard]) -> None:
    same = replace(boards[1], run="elsewhere/a")
    assert run_names([boards[0], same]) == [boards[0].run, "elsewhere/a"]
    assert run_names(boards) == ["a", "b"]
