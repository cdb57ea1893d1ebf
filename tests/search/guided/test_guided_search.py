"""Guided search on a landscape of known effects: proposals, prices, stops, repeated trainings, exact replays."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from primer_search.models.config import ModelConfig
from primer_search.primitives.programs import library
from primer_search.search.config import RunConfig, SearchConfig
from primer_search.search.evolution.candidate import BASELINE_ID, Candidate
from primer_search.search.evolution.proposals import Proposal
from primer_search.search.guided.guided_search import MAX_TRAININGS, GuidedSearch
from primer_search.search.guided.linear_model import Normal
from primer_search.search.guided.stop_rule import MINIMUM_TRAININGS, POINTS
from primer_search.workers.config import TrialConfig
from primer_search.workers.protocol import Evaluation

CONFIG = RunConfig(
    ModelConfig(unit=1, length=16, vocabulary=300),
    TrialConfig(unit="steps", budget_steps=1000, price=True),
    search=SearchConfig(strategy="guided", baseline_trials=2, population=10, tournament=3),
)
COUNTS = (1e9, 1e8, 1e6)
END = 4.0


def start(config: RunConfig = CONFIG, seed: int = 0) -> GuidedSearch:
    return GuidedSearch(config, seed, library.get("TRANSFORMER", 1))


def evaluation(final: float, relative_step: float = 1.0, reached: int = len(POINTS)) -> Evaluation:
    """A training that falls by 0.4 nats per factor e of steps; stopped after `reached` points if those are not all."""
    losses = tuple(final - 0.4 * math.log(point) for point in POINTS[:reached])
    done = reached == len(POINTS)
    return Evaluation(
        "ok" if done else "stopped_at_hurdle",
        loss_nats=final if done else None,
        hurdle_losses=losses,
        relative_step=relative_step,
        step_flops=COUNTS[0] * relative_step,
        step_bytes=COUNTS[1],
        step_transcendentals=COUNTS[2],
    )


def propose(search: GuidedSearch) -> tuple[Candidate, Proposal]:
    candidate, proposal = search.ask()
    search.add(candidate, proposal.function, proposal.edits)
    return candidate, proposal


def train_baseline(search: GuidedSearch, losses: Iterable[float] = (END, END)) -> None:
    for loss in losses:
        search.tell(BASELINE_ID, evaluation(loss))


def effect(edits: Iterable[int]) -> float:
    """Every edit has a fixed effect; about a fifth are good."""
    return sum(float(np.random.default_rng(edit).normal(0.04, 0.05)) for edit in edits)


def evolve(search: GuidedSearch, count: int, noise: float = 0.01) -> None:
    rng = np.random.default_rng(5)
    while search.next_id <= count:
        again = search.next_retest(set())
        number = propose(search)[0].id if again is None else again
        search.tell(number, evaluation(END + effect(search._edits[number]) + noise * rng.standard_normal()))


def test_the_slope_is_the_baselines_decrease_per_factor_e_of_steps() -> None:
    search = start()
    assert search.measurements.baseline.slope == 0.0
    train_baseline(search)
    assert search.measurements.baseline.slope == pytest.approx(0.4)


def test_fitness_is_the_loss_plus_the_price_of_a_slower_step() -> None:
    search = start()
    train_baseline(search, [END] * 10)
    for relative_step in (0.8, 1.2):
        number = propose(search)[0].id
        search.tell(number, evaluation(END, relative_step))
        price = 0.4 * max(0.0, math.log(relative_step))
        assert search.fitness(number) == pytest.approx(END + price, abs=0.03)
    cheap, dear = (search.standings()[number].posterior.mean for number in (1, 2))
    assert dear > max(cheap, 0.03)


def test_the_baseline_has_the_price_0_and_a_program_with_its_counts_that_of_its_timings() -> None:
    search = start()
    train_baseline(search)
    for relative_step in (1.05, 1.3):
        search.tell(0, evaluation(END, relative_step))
    number = propose(search)[0].id
    for _ in range(20):
        search.tell(number, replace(evaluation(END), relative_step=1.6))
    measured = search.measurements
    assert measured.log_price(0) == Normal(0.0, 0.0)
    assert measured.price is not None and measured.price.bias > 0.0
    expected = math.log(1.6) - measured.price.bias
    assert measured.log_price(number).mean == pytest.approx(expected, rel=0.05)


def test_more_timings_of_a_program_change_its_fitness_without_a_new_loss() -> None:
    search = start()
    train_baseline(search)
    number = propose(search)[0].id
    search.tell(number, evaluation(END, 1.1))
    before = search.fitness(number)
    for _ in range(5):
        search.tell(number, replace(evaluation(END, 1.1), relative_step=1.3))
    after = search.fitness(number)
    assert before is not None and after is not None
    assert after > before + 0.02


def test_nothing_stops_before_enough_trainings_have_finished_and_starters_never_do() -> None:
    search = start()
    train_baseline(search)
    number = propose(search)[0].id
    assert all(threshold.loss_nats is None for threshold in search.thresholds(number))
    evolve(search, 30)
    assert search.measurements.predictor.trainings > MINIMUM_TRAININGS
    assert all(threshold.loss_nats is None for threshold in search.thresholds(BASELINE_ID))
    stoppable = [propose(search)[0].id for _ in range(20)]
    stops = [any(threshold.loss_nats is not None for threshold in search.thresholds(number)) for number in stoppable]
    assert 15 <= sum(stops) < 20 or all(stops)


def test_a_training_stops_if_its_predicted_fitness_cannot_reach_the_best_quarter() -> None:
    search = start()
    train_baseline(search)
    evolve(search, 40)
    numbers = (propose(search)[0].id for _ in range(10))
    number = next(each for each in numbers if search.thresholds(each)[2].loss_nats is not None)
    threshold = search.thresholds(number)[2]
    assert threshold.loss_nats is not None
    for shift, stops in ((-0.2, False), (0.4, True)):
        losses = evaluation(END + shift).hurdle_losses[:3]
        assert threshold.score(losses) == pytest.approx(END + shift, abs=0.02)
        assert (threshold.score(losses) >= threshold.loss_nats) == stops
    losses = evaluation(END).hurdle_losses[:3]
    assert threshold.score(losses, 0.5) - threshold.score(losses) == pytest.approx(0.4 * 0.5)
    assert threshold.score(losses, -0.5) == threshold.score(losses)  # no credit for a faster program


def test_a_stopped_training_counts_with_its_predicted_loss() -> None:
    search = start()
    train_baseline(search)
    evolve(search, 40)
    number = propose(search)[0].id
    search.tell(number, evaluation(END + 0.3, reached=3))
    standing = search.standings()[number]
    assert standing.trainings == 0
    assert standing.posterior.mean > 0.02  # results above 0.1 count as 0.1, and the model of edits shrinks them
    assert search.fitness(number) is None
    assert number not in {each.candidate_id for each in search.ranking()}


def test_leaders_are_trained_again_before_they_have_many_children() -> None:
    search = start()
    train_baseline(search)
    evolve(search, 80)
    leaders = [each for each in search.ranking() if each.posterior.mean < 0][:3]
    assert leaders
    assert leaders[0].trainings >= 2
    assert max(each.trainings for each in search.standings().values() if each.candidate_id) <= MAX_TRAININGS
    assert search.next_retest({each.candidate_id for each in search.ranking()}) is None


def test_merges_have_the_edits_of_both_parents_and_reverts_lack_one() -> None:
    search, merges, reverts = start(), 0, 0
    train_baseline(search)
    evolve(search, 10)
    for _ in range(80):
        candidate, proposal = propose(search)
        edits = search._edits[candidate.id]
        assert candidate.parent is not None
        parent = search._edits[candidate.parent]
        if proposal.merged_with is not None:
            assert candidate.mutations == (f"Merge with #{proposal.merged_with}",)
            assert edits == parent | search._edits[proposal.merged_with]
            merges += 1
        elif candidate.mutations[0].startswith("Revert of the edit of #"):
            assert parent - edits == {int(candidate.mutations[0].split("#")[1])}
            reverts += 1
        else:
            assert edits == parent | {candidate.id}
        search.tell(candidate.id, evaluation(END + effect(edits)))
    assert merges > 3
    assert reverts > 0


def test_a_search_finds_more_than_with_random_parents() -> None:
    gains = {}
    for strategy in ("guided", "guided-random"):
        config = replace(CONFIG, search=replace(CONFIG.search, strategy=strategy))
        bests = []
        for seed in range(2):
            search = start(config, seed)
            train_baseline(search)
            evolve(search, 80)
            bests.append(effect(search._edits[search.ranking()[0].candidate_id]))
        gains[strategy] = np.mean(bests)
    assert gains["guided"] < gains["guided-random"] < 0


def test_a_replay_of_the_same_events_gives_the_same_next_child_and_thresholds() -> None:
    search, again = start(), start()
    for each in (search, again):
        train_baseline(each)
        evolve(each, 40)
    assert search.ask()[0] == again.ask()[0]
    number = propose(search)[0].id
    propose(again)
    assert search.thresholds(number) == again.thresholds(number)


def test_failed_candidates_are_never_parents() -> None:
    search = start()
    train_baseline(search)
    failed = set()
    for _ in range(40):
        candidate, _ = propose(search)
        assert candidate.parent not in failed
        if candidate.id % 2:
            search.tell(candidate.id, Evaluation("non_finite"))
            failed.add(candidate.id)
        else:
            search.tell(candidate.id, evaluation(END - 0.01))


def test_a_training_that_diverges_makes_a_program_and_its_relatives_worse_parents() -> None:
    search = start()
    train_baseline(search)
    good = propose(search)[0].id
    search.tell(good, evaluation(END - 0.1))
    before = search.standings()[good].posterior.mean
    search.tell(good, Evaluation("non_finite"))
    after = search.standings()[good].posterior.mean
    assert after > before + 0.04
    relatives = 0
    while relatives < 4:
        candidate, _ = propose(search)
        if good in search._edits[candidate.id]:
            relatives += 1
            search.tell(candidate.id, Evaluation("non_finite"))
        else:
            search.tell(candidate.id, evaluation(END + 0.1))
    assert search.standings()[good].posterior.mean > after + 0.003


def test_merges_that_failed_before_do_not_change_what_a_resumed_search_proposes() -> None:
    search = start()
    train_baseline(search)
    evolve(search, 60)
    before, _ = search.ask()
    search._failed_merges.clear()  # a resumed search does not know them
    assert search.ask()[0] == before
