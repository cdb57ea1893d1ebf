"""The best candidate of a running search, after repeated trainings and changed prices."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from statistics import fmean

from primer_search.search.evolution.best_candidate import BestCandidate, BestSoFar
from primer_search.search.evolution.candidate import BASELINE_ID
from primer_search.workers.protocol import Evaluation


def trained(loss: float) -> Evaluation:
    return Evaluation("ok", loss_nats=loss, bits_per_byte=loss / 2)


def test_a_lucky_first_training_is_corrected_by_the_second() -> None:
    losses: dict[int, list[float]] = {}
    best = BestSoFar(lambda number: fmean(losses[number]))
    for number, loss in ((1, 3.0), (2, 2.5), (3, 2.9)):
        losses.setdefault(number, []).append(loss)
        best.record(number, trained(loss))
    assert best.best() == BestCandidate(2, 2.5, 1.25, 2.5)
    losses[2].append(2.7)
    best.record(2, trained(2.7))
    assert best.best() == BestCandidate(2, 2.6, 1.3, 2.6)
    losses[2].append(3.8)
    best.record(2, trained(3.8))
    assert best.best() == BestCandidate(3, 2.9, 1.45, 2.9)


def test_a_price_that_changes_with_another_trial_changes_the_best() -> None:
    prices = {1: 0.0, 2: 0.1}
    best = BestSoFar(lambda number: 3.0 + prices[number])
    best.record(1, trained(3.0))
    best.record(2, trained(3.0))
    assert best.best() == BestCandidate(1, 3.0, 1.5, 3.0)
    prices[1] = 0.2
    best.record(4, Evaluation("stopped_at_hurdle", hurdle_losses=(3.5,)))
    assert best.best() == BestCandidate(2, 3.0, 1.5, 3.1)


def test_the_baseline_and_candidates_without_a_fitness_are_not_the_best() -> None:
    best = BestSoFar(lambda number: None if number == 1 else 1.0)
    assert best.best() is None
    best.record(BASELINE_ID, trained(2.0))
    best.record(1, trained(2.0))
    assert best.best() is None


def test_a_candidate_that_diverged_in_one_training_is_not_the_best() -> None:
    best = BestSoFar(lambda number: float(number))
    best.record(1, trained(1.0))
    best.record(2, trained(2.0))
    assert best.best() == BestCandidate(1, 1.0, 0.5, 1.0)
    best.record(1, Evaluation("non_finite"))
    assert best.best() == BestCandidate(2, 2.0, 1.0, 2.0)


def test_a_fitness_that_only_its_own_results_change_is_looked_at_once_a_result() -> None:
    draw, losses, looks = random.Random(0), defaultdict[int, list[float]](list), Counter[int]()

    def fitness(number: int) -> float:
        looks[number] += 1
        return fmean(losses[number])

    fast, slow = BestSoFar(fitness, others_change=False), BestSoFar(lambda number: fmean(losses[number]))
    for step in range(600):
        number = 1 + step if draw.random() < 0.9 else 1 + draw.randrange(step + 1)
        evaluation = trained(draw.uniform(2.0, 4.0)) if draw.random() < 0.9 else Evaluation("non_finite")
        if evaluation.loss_nats is not None:
            losses[number].append(evaluation.loss_nats)
        fast.record(number, evaluation)
        slow.record(number, evaluation)
        assert fast.best() == slow.best()
    assert looks.total() < 600 * 20, "600 results and a few new looks at all candidates, not 600 * 600 / 2"
