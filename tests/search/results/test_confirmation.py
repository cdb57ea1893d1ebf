"""What a confirmation says of fresh trainings, and that confirming a real run trains, records and ranks them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from primer_search.benchmarks.paired_confirmations import main as compare_in_pairs
from primer_search.primitives.errors import UsageError
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.evolution.candidate import BASELINE_ID
from primer_search.search.results.confirmation import Confirmation, Retraining, confirmations, read_retrainings
from primer_search.search.results.leaderboard import leaderboard
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.search.runs.store import Store
from primer_search.search.studies.confirm import confirm
from primer_search.tests.support.tiny_runs import CONFIG, open_controller, stop_after, write_text
from primer_search.workers.config import DataConfig
from primer_search.workers.data.dataset import prepare_dataset
from primer_search.workers.protocol import Evaluation


def retrained(losses: Mapping[str, Sequence[float | None]], budget: float = 20.0) -> list[Retraining]:
    """Fresh trainings from their losses on the test text; None is one that failed."""

    def evaluation(loss: float | None) -> Evaluation:
        if loss is None:
            return Evaluation("non_finite", "it blew up")
        return Evaluation(
            "ok", loss_nats=2 * loss, test_loss_nats=2 * loss, test_bits_per_byte=loss, bits_per_byte=loss
        )

    return [
        Retraining(name, BASELINE_ID if name == "baseline" else int(name[1:]), seed, budget, evaluation(loss))
        for name, found in losses.items()
        for seed, loss in enumerate(found)
    ]


def by_name(rows: Sequence[Confirmation]) -> dict[str, Confirmation]:
    return {row.name: row for row in rows}


def test_a_clear_gain_is_confirmed_and_a_gain_inside_the_noise_is_not() -> None:
    rows = by_name(confirmations(retrained({
        "baseline": (2.00, 2.01, 2.02), "#1": (1.90, 1.91, 1.925), "#2": (2.00, 2.012, 2.01), "#3": (2.10, 2.12, 2.115),
    })))  # fmt: skip
    assert rows["#1"].better
    assert rows["#1"].verdict == "confirmed better than the baseline"
    assert rows["#2"].verdict == "not told apart from the baseline"
    assert rows["#3"].verdict == "confirmed worse than the baseline"
    assert [rows[name].rank for name in ("#1", "#2", "baseline", "#3")] == [1, 2, 3, 4]


def test_programs_with_different_seeds_rank_by_their_difference_and_not_by_their_mean() -> None:
    whole = retrained({"baseline": (2.0, 2.0, 1.5), "#1": (0.0, 0.0, 1.49), "#2": (1.9, 1.9, 1.4)})
    rows = by_name(confirmations([each for each in whole if each.name != "#1" or each.seed == 2]))
    assert rows["#1"].test_bits_per_byte < rows["#2"].test_bits_per_byte  # type: ignore[operator]
    assert [rows[name].rank for name in ("#2", "#1", "baseline")] == [1, 2, 3]


def test_one_training_confirms_nothing() -> None:
    row = by_name(confirmations(retrained({"baseline": (2.0,), "#1": (1.0,)})))["#1"]
    assert not row.better
    assert row.verdict == "too few trainings for an interval"


def test_a_fresh_training_that_fails_makes_a_candidate_unstable_and_unranked() -> None:
    rows = confirmations(retrained({"baseline": (2.0, 2.01, 2.02), "#1": (1.5, None, 1.5)}))
    assert (rows[-1].name, rows[-1].rank, rows[-1].failed) == ("#1", None, 1)
    assert "unstable: 1 of 3" in rows[-1].verdict
    assert not rows[-1].better


def test_more_candidates_make_the_intervals_wider() -> None:
    rng = np.random.default_rng(0)
    noisy = {f"#{k}": list(2 + 0.01 * rng.standard_normal(3)) for k in range(1, 11)}
    all_of_them = by_name(confirmations(retrained({"baseline": (2.0, 2.01, 1.99), **noisy})))["#1"].difference
    assert all_of_them is not None and all_of_them.half_width is not None
    assert all_of_them.half_width > 2.5 * 0.01 * (2 / 3) ** 0.5  # at one comparison, 20 degrees of freedom: 2.1


def test_the_best_of_many_equals_is_hardly_ever_confirmed() -> None:
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        losses = {
            name: list(2 + 0.01 * rng.standard_normal(3)) for name in ("baseline", *(f"#{k}" for k in range(1, 9)))
        }
        wrong += any(row.better for row in confirmations(retrained(losses)))
    assert wrong / 300 < 0.06  # 95% intervals, of which half the misses are on this side


def test_only_the_last_budget_counts_and_a_repeated_training_counts_once() -> None:
    short = retrained({"baseline": (3.0, 3.0), "#1": (2.5, 2.5)}, 5.0)
    full = retrained({"baseline": (2.0, 2.0), "#2": (2.1, 2.1)}, 20.0)
    rows = confirmations([*short, *full, *full])
    assert [(row.name, row.trainings, row.budget) for row in rows] == [("baseline", 2, 20.0), ("#2", 2, 20.0)]


def test_the_baseline_alone_confirms_nothing() -> None:
    assert confirmations([]) == ()
    assert confirmations(retrained({"baseline": (2.0, 2.0)})) == ()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A real search, interrupted by nothing but its small number of candidates."""
    folder = tmp_path_factory.mktemp("run")
    config = replace(CONFIG, data=DataConfig(f"text:{write_text(folder / 'text')}", 50_000))
    dataset = prepare_dataset(config.data, config.model.vocabulary)
    run = RunDirectory(folder / "search")
    with open_controller(run, dataset, config, observe=stop_after(run, 8)) as (controller, store):
        store.set_manifest({"baseline_dna": dna_to_json(controller.evolution.baseline.dna)})
        controller.run(600.0)
    return run


def test_confirming_a_run_trains_its_best_and_the_baseline_with_the_same_fresh_seeds(run: RunDirectory) -> None:
    confirm(run.path, top=2, repeats=2)
    with Store.open(run.path, read_only=True) as store:
        board, trials = leaderboard(store), read_retrainings(store.events())
        used = {event.payload["seed"] for event in store.events() if event.kind == "started"}
    best = [row.id for row in board.rows if row.rank is not None and row.id != BASELINE_ID][:2]
    assert {row.candidate_id for row in board.confirmed} == {BASELINE_ID, *best}
    seeds = {name: {each.seed for each in trials if each.name == name} for name in ("baseline", f"#{best[0]}")}
    assert len(seeds["baseline"]) == 2 and seeds["baseline"] == seeds[f"#{best[0]}"]
    assert not used & seeds["baseline"]
    assert all(each.evaluation.test_loss_nats is not None for each in trials)
    assert {row.id for row in board.rows if not row.unconfirmed} == {BASELINE_ID, *best}
    json.dumps(board.to_dict(), allow_nan=False)


def test_programs_of_other_runs_and_files_are_trained_beside_the_best(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.json"
    file.write_text(dna_to_json(CONFIG.model.library_program("TRANSFORMER_SQUARED_RELU")))
    other = tmp_path / "other"
    shutil.copytree(run.path, other)
    confirm(run.path, top=1, repeats=2, also=("PRIMER_EZ", str(file), f"{other}:baseline"))
    with Store.open(run.path, read_only=True) as store:
        rows = by_name(leaderboard(store).confirmed)
    assert {"PRIMER_EZ", "mine", "other:baseline"} <= set(rows)
    assert all(row.trainings == 2 for row in rows.values())
    assert rows["other:baseline"].test_loss_nats == rows["baseline"].test_loss_nats  # the same program and seeds
    assert rows["mine"].candidate_id is None and rows["mine"].difference is not None

    capsys.readouterr()
    compare_in_pairs([str(run.path), "--json"])
    pairs = {each["program"]: each for each in json.loads(capsys.readouterr().out)["pairs"]}
    assert pairs["PRIMER_EZ"]["to_other"] is None and pairs["baseline"]["to_baseline"] is None
    assert pairs["other:baseline"]["to_baseline"]["mean"] == 0.0
    assert pairs["mine"]["to_other"]["mean"] == pytest.approx(
        pairs["mine"]["bits_per_byte"] - pairs["PRIMER_EZ"]["bits_per_byte"]
    )


def test_programs_beside_must_exist_and_have_names_of_their_own(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown file or library program PRIMER_E; did you mean PRIMER_EZ"):
        confirm(run.path, top=1, repeats=1, also=("PRIMER_E",))
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.json").write_text(dna_to_json(CONFIG.model.library_program("PRIMER_EZ")))
    files = [str(tmp_path / folder / "same.json") for folder in ("one", "two")]
    with pytest.raises(UsageError, match="two programs to retrain are named same"):
        confirm(run.path, top=1, repeats=1, also=files)


def test_confirming_again_trains_nothing_twice(run: RunDirectory) -> None:
    confirm(run.path, top=2, repeats=2)
    with Store.open(run.path, read_only=True) as store:
        before = read_retrainings(store.events())
    confirm(run.path, top=2, repeats=2)
    confirm(run.path, top=2, repeats=3)
    with Store.open(run.path, read_only=True) as store:
        after = read_retrainings(store.events())
    assert after[: len(before)] == before
    assert len(after) == len(before) + 3  # one more of the baseline's and of each of the two


def test_the_leaderboard_ranks_as_it_did_before_confirmation(run: RunDirectory) -> None:
    with Store.open(run.path, read_only=True) as store:
        before = [(row.id, row.loss_nats) for row in leaderboard(store).rows]
    confirm(run.path, top=1, repeats=2)
    with Store.open(run.path, read_only=True) as store:
        assert [(row.id, row.loss_nats) for row in leaderboard(store).rows] == before


def test_a_run_without_results_has_nothing_to_confirm(tmp_path: Path) -> None:
    Store.create(tmp_path, {"config": CONFIG.to_dict(), "seed": 0, "baseline_dna": "", "workers": 1}).close()
    with pytest.raises(UsageError, match="full trial"):
        confirm(tmp_path)
