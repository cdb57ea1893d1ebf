"""Random seeds of trials: fresh for each, the same again after a lost trial, and quick for a thousand controls."""

from __future__ import annotations

import time

from primer_search.search.evolution.trial_seeds import TrialSeeds


def test_trials_of_a_candidate_get_different_seeds_that_the_run_seed_decides() -> None:
    first, again, other = TrialSeeds(0), TrialSeeds(0), TrialSeeds(1)
    drawn = [first.draw(3) for _ in range(5)]
    assert len(set(drawn)) == 5 and first.count(3) == 5 and first.count(4) == 0
    assert drawn == [again.draw(3) for _ in range(5)]
    assert not set(drawn) & {other.draw(3) for _ in range(5)} and first.draw(4) not in drawn


def test_a_released_seed_is_drawn_again_first() -> None:
    seeds = TrialSeeds(0)
    drawn = [seeds.draw(0) for _ in range(4)]
    seeds.release(0, drawn[1])
    assert seeds.draw(0) == drawn[1]
    assert seeds.draw(0) not in drawn


def test_seeds_of_stored_trials_are_passed_over() -> None:
    first, resumed = TrialSeeds(0), TrialSeeds(0)
    drawn = [first.draw(0) for _ in range(4)]
    for seed in (drawn[0], drawn[2]):
        resumed.add(0, seed)
    assert [resumed.draw(0) for _ in range(2)] == [drawn[1], drawn[3]]


def test_the_time_of_a_draw_does_not_grow_with_the_trials_of_a_candidate() -> None:
    seeds = TrialSeeds(0)
    start = time.process_time()
    assert len({seeds.draw(0) for _ in range(3000)}) == 3000  # a search from the start would try millions
    assert time.process_time() - start < 5.0
