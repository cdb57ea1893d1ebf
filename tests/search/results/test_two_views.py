"""Confirmations in two views: what a program lacks at equal time, and that both views decide."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from primer_search.configs.scale_option import parse_scales
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.config import RunConfig
from primer_search.search.evolution.candidate import BASELINE_ID
from primer_search.search.reports.pages.run_page import render_report
from primer_search.search.reports.phrases import headline
from primer_search.search.reports.tables.leaderboard_table import print_leaderboard
from primer_search.search.results.confirmation import Confirmation, Retraining, confirmations, read_retrainings
from primer_search.search.results.leaderboard import leaderboard
from primer_search.search.results.learning_curve import loss_change_nats
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.search.runs.store import Store
from primer_search.search.studies.confirm import confirm
from primer_search.search.studies.confirm_at_scale import is_complete
from primer_search.tests.support.tiny_runs import CONFIG, open_controller, stop_after, write_text
from primer_search.workers.config import DataConfig
from primer_search.workers.data.dataset import prepare_dataset
from primer_search.workers.protocol import Evaluation

SLOPE = 0.4
"""Nats by which the loss of the trainings below falls per factor e of steps."""


def training(loss: float, price: float | None) -> Evaluation:
    """A training of 1,000 steps whose loss falls with the logarithm of the steps; 0.5 bits per byte and nat."""
    at = (500, 700, 850)
    return Evaluation(
        "ok",
        loss_nats=loss,
        test_loss_nats=loss,
        test_bits_per_byte=loss / 2,
        hurdle_steps=at,
        hurdle_losses=tuple(loss - SLOPE * math.log(steps / 1000) for steps in at),
        steps=1000,
        relative_step=price,
    )


def retrained(losses: Mapping[str, Sequence[float]], prices: Mapping[str, float | Sequence[float]]) -> list[Retraining]:
    """Retrainings by name of the program, in nats, and the step times."""
    found = []
    for name, values in losses.items():
        price = prices.get(name, 1.0)
        priced = price if isinstance(price, Sequence) else [price] * len(values)
        number = BASELINE_ID if name == "baseline" else int(name[1:])
        found += [
            Retraining(name, number, seed, 1000, training(loss, one))
            for seed, (loss, one) in enumerate(zip(values, priced, strict=True))
        ]
    return found


def near(value: float) -> tuple[float, ...]:
    return value, value + 0.003, value - 0.002


def by_name(found: Sequence[Retraining]) -> dict[str, Confirmation]:
    return {row.name: row for row in confirmations(found)}


@pytest.mark.parametrize("factor", [0.3, 0.6, 0.7, 0.9, 1.0, 1.3])
def test_a_curve_that_is_linear_in_the_logarithm_of_the_steps_is_read_exactly(factor: float) -> None:
    assert loss_change_nats(training(4.0, None), factor) == pytest.approx(-SLOPE * math.log(factor))


def test_a_curve_is_interpolated_between_its_own_points_and_continued_with_its_last_slope() -> None:
    bent = Evaluation("ok", loss_nats=4.0, steps=1000, hurdle_steps=(500, 800), hurdle_losses=(4.5, 4.1))
    middle = math.sqrt(500 * 800) / 1000
    assert loss_change_nats(bent, middle) == pytest.approx(0.3)
    assert loss_change_nats(bent, 0.8) == pytest.approx(0.1)
    assert loss_change_nats(bent, 1.25) == pytest.approx(-0.1)  # the last slope: 0.1 per factor 1.25


def test_a_training_without_losses_on_the_way_has_no_curve() -> None:
    assert loss_change_nats(Evaluation("ok", loss_nats=4.0, steps=1000), 0.9) is None
    assert loss_change_nats(Evaluation("non_finite", steps=10, hurdle_steps=(5,), hurdle_losses=(4.0,)), 0.9) is None


def test_a_slower_program_pays_for_its_steps_and_a_faster_one_gains() -> None:
    rows = by_name(retrained({"baseline": near(4.0), "#1": near(3.9), "#2": near(4.0)}, {"#1": 1.2, "#2": 0.9}))
    slow, fast = rows["#1"], rows["#2"]
    assert slow.price == pytest.approx(1.2)
    assert slow.difference is not None and slow.equal_time_difference is not None
    assert slow.difference.mean == pytest.approx(-0.05)
    assert slow.equal_time_difference.mean == pytest.approx((-0.1 + SLOPE * math.log(1.2)) / 2)
    assert fast.equal_time_difference is not None
    assert fast.equal_time_difference.mean == pytest.approx(SLOPE * math.log(0.9) / 2)


def test_a_program_is_confirmed_only_if_it_is_better_in_both_views() -> None:
    losses = {"baseline": near(4.0), "#1": near(3.9), "#2": near(3.9), "#3": near(4.0), "#4": near(4.1)}
    losses["#5"] = near(4.0)[::-1]  # the noise of all
    rows = by_name(retrained(losses, {"#1": 1.05, "#2": 1.28, "#3": 0.8, "#4": 1.1, "#5": 1.0}))
    assert [name for name, row in rows.items() if row.better] == ["#1"]
    assert rows["#1"].verdict == "confirmed better than the baseline"
    assert rows["#2"].verdict == "better at equal steps, not told apart at equal time"
    assert rows["#3"].verdict == "not told apart at equal steps, better at equal time"
    assert rows["#4"].verdict == "confirmed worse than the baseline"
    assert rows["#5"].verdict == "not told apart from the baseline"
    assert rows["#1"].rank == 1, "#2 has the same loss, and lacks more at equal time"


def test_an_uncertain_price_widens_the_interval_at_equal_time() -> None:
    losses = {"baseline": near(4.0), "#1": near(3.9)}
    sure = by_name(retrained(losses, {"#1": 1.1}))["#1"]
    unsure = by_name(retrained(losses, {"#1": (1.0, 1.1, 1.2)}))["#1"]
    assert unsure.difference == sure.difference
    assert sure.equal_time_difference is not None and unsure.equal_time_difference is not None
    assert sure.equal_time_difference.half_width is not None and unsure.equal_time_difference.half_width is not None
    assert unsure.equal_time_difference.half_width > 3 * sure.equal_time_difference.half_width


def test_trainings_without_prices_have_one_view_as_before() -> None:
    found = retrained({"baseline": near(4.0), "#1": near(3.9)}, {})
    found = [replace(each, evaluation=replace(each.evaluation, relative_step=None)) for each in found]
    row = by_name(found)["#1"]
    assert (row.price, row.equal_time_difference, row.better) == (None, None, True)
    assert row.views == {"": row.difference}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A real search of a few candidates, whose trainings count steps and time them."""
    folder = tmp_path_factory.mktemp("run")
    trial = replace(CONFIG.trial, budget_steps=40, price=True)
    config = replace(CONFIG, trial=trial, data=DataConfig(f"text:{write_text(folder / 'text')}", 50_000))
    dataset = prepare_dataset(config.data, config.model.vocabulary)
    run = RunDirectory(folder / "search")
    with open_controller(run, dataset, config, observe=stop_after(run, 6)) as (controller, store):
        store.set_manifest({"baseline_dna": dna_to_json(controller.evolution.baseline.dna)})
        controller.run(600.0)
    return run


def test_a_priced_run_is_confirmed_in_both_views_at_every_size(run: RunDirectory) -> None:
    with Store.open(run.path, read_only=True) as store:
        config = RunConfig.from_dict(store.manifest["config"])
    confirm(run.path, top=1, repeats=3, scales=parse_scales(["layers=2"], config))
    with Store.open(run.path, read_only=True) as store:
        board, page = leaderboard(store), render_report(store)
        found = read_retrainings(store.events())
    assert {each.evaluation.hurdle_steps for each in found} == {(20, 28, 34)}
    assert board.ladder is not None
    scaled = [entry.result for results in board.ladder.results for entry in results]
    for row in (*board.confirmed, *scaled):
        assert row.price is not None and row.price > 0
        assert (row.equal_time_difference is None) == (row.candidate_id == BASELINE_ID)
    text = io.StringIO()
    print_leaderboard(board, Console(file=text, width=140))
    assert "at equal time" in text.getvalue()
    assert "at equal steps and" in headline(board)
    assert "at equal time, bits per byte" in page
    told = json.loads(json.dumps(board.to_dict(), allow_nan=False))
    assert all({"price", "equal_time_difference"} <= row.keys() for row in told["confirmed"])


def test_stored_retrainings_without_a_curve_are_incomplete_where_trainings_are_priced() -> None:
    priced = replace(CONFIG, trial=replace(CONFIG.trial, price=True))
    full = Retraining("#1", 1, 0, 12, training(4.0, 1.0))
    bare = replace(full, evaluation=replace(full.evaluation, hurdle_losses=(), hurdle_steps=()))
    assert [is_complete(each, priced) for each in (full, bare)] == [True, False]
    assert is_complete(bare, CONFIG)
    assert is_complete(replace(bare, evaluation=Evaluation("non_finite")), priced), "it is not repeated"
