"""Comparisons: named programs, matched widths, verdicts, and the command."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from primer_search.configs.load import load
from primer_search.models.config import ModelConfig
from primer_search.models.cost import model_cost
from primer_search.primitives.errors import UsageError
from primer_search.primitives.programs.library import LIBRARY, get
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.config import RunConfig
from primer_search.search.reports.figures.comparison_figure import loss_bands
from primer_search.search.reports.pages.comparison_report import render_comparison
from primer_search.search.studies.compare import compare, curve_points
from primer_search.search.studies.compared_programs import Match, matched_units, named_programs
from primer_search.search.studies.comparison_result import Comparison
from primer_search.tests.support.command import HandmadeRun, command, refused
from primer_search.tests.support.formula_trainer import SCALE, FormulaTrainer, structure_key, use_trainer
from primer_search.tests.support.tiny_runs import write_text
from primer_search.workers.position_buckets import bucket_names

UNIT = 2
NAMES = ("PRIMER_EZ", "TRANSFORMER_PP")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A small text and a separate cache."""
    folder = tmp_path_factory.mktemp("compare")
    before = os.environ.get("PRIMER_SEARCH_CACHE")
    os.environ["PRIMER_SEARCH_CACHE"] = str(folder / "cache")
    yield f"text:{write_text(folder / 'text')}"
    if before is None:
        del os.environ["PRIMER_SEARCH_CACHE"]
    else:
        os.environ["PRIMER_SEARCH_CACHE"] = before


@pytest.fixture
def config(data: str) -> RunConfig:
    return load("smoke", [f"data.source={json.dumps(data)}"])


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> FormulaTrainer:
    """PRIMER_EZ is better by 0.2 nats, TRANSFORMER_PP as good as the baseline."""
    gains = {structure_key(get("PRIMER_EZ", UNIT)): 0.2}
    return use_trainer(FormulaTrainer(gains=gains), monkeypatch)


def compared(config: RunConfig, names: tuple[str, ...] = NAMES, seeds: int = 4, **options: object) -> Comparison:
    programs = named_programs(names, "TRANSFORMER", config.model)
    return compare(config, programs, seeds=range(seeds), log=None, **options)  # pyright: ignore[reportArgumentType]


def row_of(comparison: Comparison, name: str):
    return next(row for row in comparison.rows if row.name == name)


# --- named programs ---


def test_programs_are_named_by_library_name_candidate_or_file(tmp_path: Path) -> None:
    run = HandmadeRun(tmp_path / "search")
    run.child("PRIMER_EZ", 2.5)
    file = tmp_path / "mine.json"
    file.write_text(dna_to_json(get("TRANSFORMER_GELU")))
    named = [f"{run.path}:best", f"{run.path}:1", f"{run.path}:baseline", str(file), "PRIMER_EZ", "TRANSFORMER"]
    programs = named_programs(named, "TRANSFORMER", ModelConfig(unit=UNIT))
    assert [program.name for program in programs] == ["TRANSFORMER", "search:1", "search:baseline", "mine", "PRIMER_EZ"]
    assert programs[1].dna == get("PRIMER_EZ", 8)
    assert [program.unit for program in programs] == [None, 8, 8, UNIT, None]
    assert programs[0].at(16) == get("TRANSFORMER", 16)
    assert programs[3].at(16) == get("TRANSFORMER_GELU")


def test_two_programs_with_the_same_name_are_refused(tmp_path: Path) -> None:
    for folder, program in (("a", "PRIMER_EZ"), ("b", "PRIMER")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.json").write_text(dna_to_json(get(program)))
    with pytest.raises(UsageError, match="two different programs are named x"):
        named_programs([str(tmp_path / "a/x.json"), str(tmp_path / "b/x.json")], "TRANSFORMER", ModelConfig(unit=UNIT))


# --- matched widths ---


@pytest.mark.parametrize("match", ["params", "flops"])
@pytest.mark.parametrize("name", [name for name in LIBRARY if name != "TRANSFORMER"])
def test_a_matched_program_is_nearer_the_baseline_than_any_other_width(name: str, match: Match) -> None:
    model = load("laptop").model
    programs = named_programs([name], "TRANSFORMER", model)
    units, notes = matched_units(programs, model, match)
    goal = model_cost(programs[0].dna, model, model.unit)[match]
    ratios = [model_cost(programs[1].at(unit), model, unit)[match] / goal for unit in range(1, 17)]
    best = min(max(ratio, 1 / ratio) for ratio in ratios)
    chosen = ratios[units[1] - 1]
    assert units[0] == model.unit
    assert max(chosen, 1 / chosen) == best
    assert f"{chosen:.3f} times the baseline's" in notes[0]
    assert 0.7 < chosen < 1.4


def test_a_matched_program_trains_at_its_width(config: RunConfig, trainer: FormulaTrainer) -> None:
    wide = replace(config, model=replace(config.model, unit=8))
    comparison = compared(wide, ("PRIMER",), seeds=1, match="params")
    row = row_of(comparison, "PRIMER")
    assert row.unit < 8
    assert {(request.unit, structure_key(request.dna)) for request in trainer.seen[1:]} == {
        (row.unit, structure_key(get("PRIMER", row.unit)))
    }


# --- verdicts ---


def test_only_the_real_gain_is_found(config: RunConfig, trainer: FormulaTrainer) -> None:
    comparison = compared(config)
    better, same = row_of(comparison, "PRIMER_EZ"), row_of(comparison, "TRANSFORMER_PP")
    assert comparison.rows[0].name == "TRANSFORMER"
    assert comparison.rows[0].difference is None
    assert better.difference is not None
    assert better.difference.mean == pytest.approx(-0.2 * SCALE, abs=0.01)
    assert (better.verdict, same.verdict, comparison.rows[0].verdict) == ("better", "not told apart", "")
    assert better.speedup is not None
    assert better.speedup.factor is not None
    goal = 3.0 * 20.0**-0.1
    true = 20.0 / ((goal + 0.2) / 3.0) ** -10.0
    assert better.speedup.factor == pytest.approx(true, rel=0.1)
    assert better.speedup.low is not None
    assert better.speedup.low > 1.0


def test_points_are_evenly_spaced_in_the_logarithm_and_below_the_budget(config: RunConfig) -> None:
    budget = load("gpu").trial.budget
    points = curve_points(load("gpu"))
    assert len(points) == 11
    assert points[0] == pytest.approx(0.04 * budget)
    ratios = {round(after / before, 9) for before, after in zip(points, (*points[1:], budget), strict=True)}
    assert len(ratios) == 1
    steps = curve_points(config)
    assert steps == tuple(sorted({float(int(point)) for point in steps}))
    assert steps[0] >= 1
    assert steps[-1] < 20


def test_each_program_gets_its_own_learning_rate(config: RunConfig, trainer: FormulaTrainer) -> None:
    trainer.best_factors = {structure_key(get("PRIMER_EZ", UNIT)): 2.0}
    comparison = compared(config, sweep=3)
    assert [row.learning_rate for row in comparison.rows] == pytest.approx([0.01, 0.02, 0.01])
    assert [row.at_edge for row in comparison.rows] == [False, True, False]
    assert [factor for factor, _ in comparison.sweep["PRIMER_EZ"]] == [0.5, 1.0, 2.0]
    assert len(trainer.seen) == 3 * 3 + 3 * 3, "the first seed's training at the best rate is not repeated"
    assert {one.arm.learning_rate_factor for one in comparison.of("PRIMER_EZ")} == {2.0}
    assert any("PRIMER_EZ: the best rate is at the edge" in note for note in comparison.notes)
    assert any("PRIMER_EZ 0.02" in note for note in comparison.notes)


def test_failures_are_reported_and_do_not_affect_other_programs(config: RunConfig, trainer: FormulaTrainer) -> None:
    trainer.outcomes = {structure_key(get("TRANSFORMER_PP", UNIT)): "non_finite"}
    comparison = compared(config)
    failed = row_of(comparison, "TRANSFORMER_PP")
    assert failed.failures == tuple((seed, "non_finite", "said so") for seed in range(4))
    assert failed.test_bits_per_byte is None
    assert failed.difference is None
    assert row_of(comparison, "PRIMER_EZ").verdict == "better"
    assert any("TRANSFORMER_PP did not finish 4 of 4" in note for note in comparison.notes)
    assert "TRANSFORMER_PP" not in loss_bands(comparison)
    assert "non_finite" in render_comparison(comparison)


def test_the_page_shows_the_loss_by_position(config: RunConfig, trainer: FormulaTrainer) -> None:
    comparison = compared(config, seeds=1)
    before = render_comparison(comparison)
    names = bucket_names(config.model.length)
    losses = tuple(3.0 - 0.125 * place for place in range(len(names)))
    rows = tuple(replace(row, test_losses_by_position=losses) for row in comparison.rows)
    page = render_comparison(replace(comparison, rows=rows))
    assert ("Loss by position" in before, "Loss by position" in page) == (False, True)
    assert page.count("Plotly.newPlot(") == before.count("Plotly.newPlot(") + 1
    assert json.dumps(names, separators=(",", ":")) in page and "2.875" in page


def test_no_speedup_is_claimed_beyond_four_epochs(config: RunConfig, trainer: FormulaTrainer) -> None:
    trainer.epochs = 5.0
    comparison = compared(config, seeds=2)
    assert all(row.speedup is None or row.speedup.factor is None for row in comparison.rows)
    assert any("no speedup factor, as the text was seen 5.0 times" in note for note in comparison.notes)


def test_one_repeat_gives_no_interval(config: RunConfig, trainer: FormulaTrainer) -> None:
    comparison = compared(config, seeds=1)
    row = row_of(comparison, "PRIMER_EZ")
    assert row.verdict == "one repeat"
    assert row.difference is not None
    assert row.difference.low is None
    assert any("two repeats" in note for note in comparison.notes)


def test_a_duplicate_of_the_baseline_is_not_trained_again(
    config: RunConfig, trainer: FormulaTrainer, tmp_path: Path
) -> None:
    file = tmp_path / "twin.json"
    file.write_text(dna_to_json(get("TRANSFORMER", UNIT)))
    comparison = compared(config, ("PRIMER_EZ", str(file)), seeds=2)
    assert [row.name for row in comparison.rows] == ["TRANSFORMER", "PRIMER_EZ"]
    assert len(trainer.seen) == 4
    assert any("twin is the same program as TRANSFORMER" in note for note in comparison.notes)


def test_bands_reach_from_the_lowest_to_the_highest_seed(config: RunConfig, trainer: FormulaTrainer) -> None:
    band = loss_bands(compared(config))["PRIMER_EZ"]
    assert all(low <= middle <= high for low, middle, high in zip(band.low, band.mean, band.high, strict=True))
    assert (band.steps[-1], band.tokens[-1], band.seconds[-1]) == pytest.approx((200, 20_000, 40.0))
    assert len(band.mean) == len(curve_points(config)) + 1


# --- the command ---


def run(folder: Path, data: str, *more: str, what: tuple[str, ...] = NAMES) -> tuple[str | Path, ...]:
    return ("compare", *what, "--config", "smoke", "--data", data, "-o", folder, "--repeats", "2", *more)


def test_the_command_prints_a_table_and_writes_its_files(data: str, trainer: FormulaTrainer, tmp_path: Path) -> None:
    result = command(*run(tmp_path / "out", data))
    assert result.code == 0, result.err
    assert re.search(r"^TRANSFORMER +\d\.\d{4} ± ", result.out, re.MULTILINE)
    assert re.search(r"^PRIMER_EZ .* -0\.\d{4} ± .* better +\d+\.\d\d \(", result.out, re.MULTILINE)
    assert "…" not in result.out
    assert "6/6  TRANSFORMER_PP (seed 1)" in result.err
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"record.jsonl", "comparison.json", "comparison.html"} <= names
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert page.count("Plotly.newPlot(") == 2
    written = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#)', written), "the page needs nothing from elsewhere"


def test_the_command_resumes_from_its_folder(data: str, trainer: FormulaTrainer, tmp_path: Path) -> None:
    first = command(*run(tmp_path / "out", data, "--json"))
    again = command(*run(tmp_path / "out", data, "--json"))
    assert first.json == again.json
    assert len(trainer.seen) == 6
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == first.json
    assert {row["verdict"] for row in first.json["rows"]} == {"", "better", "not told apart"}
    assert len(first.json["trainings"]) == 6
    said = refused(*run(tmp_path / "out", data, "--set", "trial.budget_steps=21"))
    assert "trial.budget_steps was 20 and is 21" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--match", "size"), "'--match': 'size' is not one of 'params', 'flops'"),
        (("--baseline", "NOBODY"), "NOBODY"),
        (("--trial-budget", "1m"), "counts steps"),
        (("--set", "model.units=3"), "units"),
    ],
)
def test_wrong_options_are_refused_before_the_folder_is_created(
    data: str, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    assert words in refused(*run(tmp_path / "out", data, *options))
    assert not (tmp_path / "out").exists()


def test_missing_programs_are_refused(data: str, tmp_path: Path) -> None:
    assert "unknown run nowhere" in refused(*run(tmp_path / "out", data, what=("nowhere:best",)))
    assert "name at least one other" in refused(*run(tmp_path / "out", data, what=("TRANSFORMER",)))
