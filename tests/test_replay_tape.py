"""The replay of the tape: it reads tapes, its fits are the search's, and rules with known effects have them."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from primer_search.benchmarks import replay_tape
from primer_search.benchmarks.record_tape import POINTS, Entry
from primer_search.benchmarks.replay_data import (
    NOISE_SD,
    Children,
    children_of,
    parts_of_merges,
    read_entries,
    true_losses,
)
from primer_search.benchmarks.replay_edits import edit_rows
from primer_search.benchmarks.replay_fit import fit_batch
from primer_search.benchmarks.replay_hurdles import TODAY, Rule, compare, draw, replay
from primer_search.benchmarks.replay_noise import price_fit, seed_noise
from primer_search.benchmarks.replay_prediction import kendall, leave_one_out
from primer_search.search.guided.extrapolation import LossPredictor
from primer_search.search.guided.linear_model import OUTLIERS

QUARTER = Rule((0.35,), "quarter", OUTLIERS, (0.3,))


FEW = ("--replays", "2", "--seconds", "200")


def curve(final: float, tempo: float = 3.0) -> list[float]:
    """Return losses at all points that fall to `final`."""
    return [final + 2.0 * (math.exp(-tempo * share) - math.exp(-tempo)) for share in POINTS]


def entry(
    kind: str,
    name: str,
    final: float,
    parents: tuple[str, ...] = (),
    mutations: tuple[str, ...] = ("Mutate",),
    **changes: Any,
) -> Entry:
    losses = curve(final)
    training = [(step, step, final + 2.0 * (math.exp(-0.003 * step) - math.exp(-3.0))) for step in range(11, 1101, 11)]
    evaluation = {
        "outcome": "ok", "hurdle_losses": losses, "hurdle_steps": [int(1000 * share) for share in POINTS],
        "steps": 1100, "train_seconds": 11.0, "compile_seconds": 5.0, "relative_step": 1.0 + abs(final - 4.0),
        "curve": training,
        "step_flops": 5e8 * (1 + final), "step_bytes": 2e8 * final**2, "step_transcendentals": 8e5 * (9 - final),
    }  # fmt: skip
    return Entry(kind, name, parents, mutations, "", 0, evaluation | changes)


def failure(name: str, points: int) -> Entry:
    losses = curve(4.0)[:points]
    return entry("live", name, 4.0, outcome="non_finite", hurdle_losses=losses, relative_step=None, train_seconds=2.0)


@pytest.fixture
def entries() -> list[Entry]:
    rng = np.random.default_rng(0)
    finals = 4.0 + rng.normal(0.0, 0.1, 40)
    children = [entry("live", f"c{place}", final) for place, final in enumerate(finals)]
    merge = entry("merge", "m", 3.9, ("c3", "c1"))
    library = [entry("library", "TRANSFORMER/2", final) for final in (4.01, 4.03)]
    return [*children, merge, failure("f0", 0), failure("f8", 8), *library]


@pytest.fixture
def children(entries: list[Entry]) -> Children:
    return children_of(entries, "TRANSFORMER/2")


def write(path: Path, entries: list[Entry]) -> Path:
    text = "".join(json.dumps(each.__dict__) + "\n" for each in entries)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def test_tapes_are_read_compressed_or_not(entries: list[Entry], tmp_path: Path) -> None:
    plain, packed = write(tmp_path / "one.jsonl", entries[:3]), write(tmp_path / "two.jsonl.gz", entries[3:])
    assert [each.name for each in read_entries([plain, packed])] == [each.name for each in entries]


def test_children_have_the_budget_s_losses_and_seconds(children: Children) -> None:
    assert children.names[-3:] == ("m", "f0", "f8")
    assert children.parents[-3] == 3 and (children.parents[:40] == -1).all()
    assert children.baseline == pytest.approx(4.02)
    assert children.train_seconds[0] == pytest.approx(10.0)
    assert children.train_seconds[-1] == 2.0
    assert children.finished.tolist() == [True] * 41 + [False] * 2
    assert np.isfinite(children.losses[-1]).sum() == 8
    assert (children.training[0] > children.losses[0]).all() and np.isfinite(children.training[-1]).sum() == 8


def test_the_better_half_is_shrunk_towards_the_median_by_the_noise() -> None:
    finals = np.array([3.9, 3.95, 4.0, 4.5, 5.0])
    assert true_losses(finals, 0.0) == pytest.approx(finals)
    true = true_losses(finals, 0.05)
    assert true[2:] == pytest.approx(finals[2:])
    share = 1.0 - 0.05**2 / np.mean([0.1**2, 0.05**2])
    assert true[:2] == pytest.approx(4.0 - share * np.array([0.1, 0.05]))


@pytest.mark.parametrize("count", [1, 5, 40])
def test_fits_of_all_replays_are_those_of_the_searchs_predictor(count: int) -> None:
    rng = np.random.default_rng(count)
    first = rng.normal(5.0, 0.2, (2, 50))
    second = first - rng.normal(0.5, 0.1, (2, 50))
    finals = 4.0 + 0.7 * (second - 4.5) + 0.5 * (second - first + 0.5) + 0.05 * rng.standard_t(2, (2, 50))
    features = np.stack([second, second - first], axis=-1)
    known = np.zeros((2, 50), bool)
    known[:, rng.choice(50, count, replace=False)] = True
    fit = fit_batch(np.where(known[..., None], features, np.nan), finals, known, OUTLIERS)
    predicted = fit.predict(features[:, 0])
    for row in range(2):
        predictor = LossPredictor(2)
        for place in np.flatnonzero(known[row]):
            predictor.record((first[row, place], second[row, place]), finals[row, place])
        model = predictor.model(1)
        assert model is not None
        assert model.predict((first[row, 0], second[row, 0])).mean == pytest.approx(predicted[row], abs=1e-3)
        assert model.typical_sd == pytest.approx(fit.sds[row], rel=1e-2)


def test_rank_correlation_counts_pairs_in_order() -> None:
    order = np.arange(5.0)
    assert kendall(order, order) == 1.0
    assert kendall(order, -order) == -1.0
    assert kendall(order, np.array([0.0, 1.0, 2.0, 4.0, 3.0])) == pytest.approx(0.8)


def test_a_left_out_training_does_not_predict_itself() -> None:
    values = np.array([[5.0], [5.1], [5.2], [5.3]])
    finals = np.array([4.0, 4.1, 4.2, 9.0])
    means, _ = leave_one_out(values, finals)
    assert means[3] == pytest.approx(4.3, abs=0.1)


def test_prices_that_follow_from_the_counts_have_no_error() -> None:
    counts = np.exp(np.random.default_rng(0).normal(10.0, 0.2, (30, 3)))
    prices = np.prod(counts ** (0.5, 0.3, 0.1), axis=1)
    fit = price_fit(np.vstack([counts, counts[:1]]), np.append(prices, np.nan))
    assert fit.trainings == 30
    assert fit.error < 1e-6 and fit.explained == pytest.approx(1.0)
    assert fit.exponents == pytest.approx((0.5, 0.3, 0.1))


def test_noise_is_pooled_over_programs_and_sources(entries: list[Entry]) -> None:
    repeats = [entry("repeat", each.name, curve_end(each) + 0.02) for each in entries[:5]]
    repeat, library = seed_noise([*entries, *repeats])
    assert (repeat.source, repeat.programs, library.source, library.programs) == ("repeat", 5, "library", 1)
    assert repeat.sd == pytest.approx(0.02 / math.sqrt(2))
    assert repeat.drift == pytest.approx(0.02)


def curve_end(each: Entry) -> float:
    return each.evaluation["hurdle_losses"][-1]


def test_without_a_rule_every_child_trains_to_the_end(children: Children) -> None:
    cheap = replace(children, train_seconds=np.full(43, 10.0), compile_seconds=np.full(43, 5.0))
    found = replay(Rule(), cheap, draw(cheap, 20, 100, 0), 300.0)
    assert (found.seen == 20).all()
    assert (found.stopped == 0).all() and (found.good_stopped == 0).all()


def test_stopping_rules_see_more_children_and_name_no_worse_ones(children: Children) -> None:
    """Here the curves differ by a constant, so a rule stops no good child."""
    draws = draw(children, 50, 400, 0)
    none, today, quarter = (replay(rule, children, draws, 900.0) for rule in (Rule(), TODAY, QUARTER))
    assert today.seen.mean() > 1.15 * none.seen.mean()
    assert quarter.seen.mean() > today.seen.mean()
    assert quarter.good_stopped.sum() <= 0.02 * quarter.good.sum()
    compared = compare(QUARTER, quarter, today, children.baseline)
    assert compared.better >= compared.worse
    assert compared.more_good > 0


def test_named_children_are_judged_without_their_luck(children: Children) -> None:
    """If all children are the same, the best of many noisy losses is not a gain."""
    same = replace(children, losses=np.tile(curve(4.0), (43, 1)), baseline=4.0)
    found = replay(Rule(), same, draw(same, 20, 100, 0), 900.0)
    assert found.true_loss == pytest.approx(4.0)
    assert NOISE_SD > 0


def test_edits_pay_by_what_they_gain_over_their_parent() -> None:
    made = [
        entry("live", "g", 3.5, mutations=("Insert in main: x2 = DCONV_7X1(h0)",), relative_step=1.0),
        entry("live", "h", 3.45, ("g",), mutations=("Replace op in main: x2 = ABS(h0) becomes x2 = SIN(h0)",)),
        entry("paper", "i", 3.6, mutations=("Delete in main: x2 = DCONV_7X1(h0)",), relative_step=6.0),
        entry("live", "j", 4.5, mutations=("Wrap in main: x2 = ABS(h0) and x3 = ADD(h0, x2)",), relative_step=0.2),
        entry("library", "TRANSFORMER/2", 4.0),
    ]
    rows = {row.mutations: row for row in edit_rows(made, children_of(made, "TRANSFORMER/2"))}
    paper, live = rows["the paper's"], rows["live"]
    assert (paper.children, paper.in_steps, paper.in_time, paper.in_both) == (1, 1, 0, 0)
    assert (live.children, live.in_steps, live.in_time, live.in_both) == (3, 2, 2, 1)
    convolution, others = rows["live: add a depthwise convolution"], rows["live: others, of all kinds"]
    assert (convolution.children, convolution.in_both, others.children, others.in_both) == (1, 1, 2, 0)
    assert convolution.best == pytest.approx(0.5, abs=0.05)


def test_prices_that_were_timed_again_replace_the_first(entries: list[Entry]) -> None:
    timed = Entry("price", "c3", (), (), "", 0, {"outcome": "ok", "relative_step": 1.234})
    children = children_of([*entries, timed], "TRANSFORMER/2")
    assert children.prices[3] == 1.234 and children.prices[4] == entries[4].evaluation["relative_step"]
    assert len(seed_noise([*entries, timed])) == len(seed_noise(entries))


def test_merges_have_the_sums_of_their_parts(entries: list[Entry]) -> None:
    made = [entry("live", "g", 3.5), entry("live", "i", 3.6), entry("merge", "gi", 3.05, ("g", "i"))]
    values = {"g": np.array([-0.5]), "i": np.array([-0.4]), "gi": np.array([-0.95])}
    assert parts_of_merges(made, values, np.zeros(1)) == {"gi": pytest.approx([-0.9])}
    assert parts_of_merges(made, values | {"i": np.array([np.nan])}, np.zeros(1)) == {}


def test_tables_are_printed(entries: list[Entry], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = str(write(tmp_path / "tape.jsonl", entries))
    replay_tape.main([tape, *FEW])
    text = capsys.readouterr().out
    for word in ("value and slope", "exponents", "library", "median of the last 100 at 0.35"):
        assert word in text
    replay_tape.main([tape, *FEW, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["about"]["children"] == 43
    assert {"prediction", "price", "noise", "hurdles", "edits"} < set(found)


def test_an_empty_tape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="record at least 3"):
        replay_tape.main([str(write(tmp_path / "tape.jsonl", []))])
