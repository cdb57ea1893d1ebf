"""Budget meters: reference seconds cancel the speed of the machine, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import zip_longest

import numpy as np
import pytest

from primer_search.workers.training.budget_meter import ClockMeter, ReferenceMeter, StepMeter
from primer_search.workers.training.relative_timer import RelativeTimer

BASELINE_SECONDS = 0.01
ALLOWANCE = 0.02


class Reference:
    """The baseline's step on a machine whose slowness the test sets. As the real one, it counts by its last timing."""

    def __init__(self) -> None:
        self.slowness = 1.0
        self.seconds = BASELINE_SECONDS  # of a step in the last timing
        self.total = 0.0

    def time(self, seconds: float) -> tuple[float, int]:
        count = max(1, int(seconds / self.seconds))
        self.seconds = BASELINE_SECONDS * self.slowness
        self.total += count * self.seconds
        return count * self.seconds, count


def train(
    meter: ReferenceMeter,
    reference: Reference,
    relative: float,
    slownesses: Iterable[float],
    timed: Iterable[float] = (),
) -> list[float]:
    """Charge chunks of ten steps of a candidate `relative` times as slow as the baseline, after a slow first step.

    Args:
        meter: meter to charge.
        reference: step of the baseline.
        relative: time of a step relative to the baseline's.
        slownesses: slowness of the machine during each chunk.
        timed: slowness during a timing after each chunk; empty: that of the chunk.

    Returns:
        What is spent after each chunk.
    """
    meter.charge(1, 5.0)
    spent = []
    for slowness, later in zip_longest(slownesses, timed):
        reference.slowness = slowness if later is None else later
        meter.charge(10, 10 * BASELINE_SECONDS * relative * slowness)
        spent.append(meter.spent)
    return spent


@pytest.mark.parametrize("relative", [0.5, 1.0, 3.0])
def test_a_step_costs_its_time_relative_to_the_baseline_times_the_allowance(relative: float) -> None:
    reference = Reference()
    meter = ReferenceMeter(RelativeTimer(reference), ALLOWANCE)  # type: ignore[arg-type]
    train(meter, reference, relative, [1.0] * 50)
    assert meter.timer.relative_step == pytest.approx(relative)
    assert meter.spent == pytest.approx(501 * relative * ALLOWANCE)


def test_a_slow_machine_slows_both_programs_and_changes_no_cost() -> None:
    quiet, busy = Reference(), Reference()
    meters = [ReferenceMeter(RelativeTimer(each), ALLOWANCE) for each in (quiet, busy)]  # type: ignore[arg-type]
    train(meters[0], quiet, 1.5, [1.0] * 60)
    train(meters[1], busy, 1.5, [4.0] * 60)
    assert meters[1].spent == pytest.approx(meters[0].spent)


@pytest.mark.parametrize(("chunks", "spread"), [(300, 0.25), (1200, 0.2)])
def test_a_disturbed_machine_changes_little(chunks: int, spread: float) -> None:
    """Three tenths of all chunks and timings are three times as slow, independently of each other."""
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(100):
        reference = Reference()
        meter = ReferenceMeter(RelativeTimer(reference), ALLOWANCE)  # type: ignore[arg-type]
        chunk, timing = 1 + 2.0 * (rng.random((2, chunks)) < 0.3)
        train(meter, reference, 1.0, chunk.tolist(), timing.tolist())
        ratios.append(meter.timer.relative_step)
    assert np.mean(np.log(ratios)) == pytest.approx(0.0, abs=0.06)
    assert np.std(ratios) < spread


@pytest.mark.parametrize(("chunks", "share"), [(15, 0.1), (400, 0.05 / math.sqrt(3)), (2400, 0.05 / math.sqrt(18))])
def test_timing_takes_a_tenth_of_five_seconds_and_then_grows_as_the_root(chunks: int, share: float) -> None:
    reference = Reference()
    meter = ReferenceMeter(RelativeTimer(reference), ALLOWANCE)  # type: ignore[arg-type]
    slownesses = np.random.default_rng(1).uniform(1, 2, chunks)
    train(meter, reference, 1.0, slownesses.tolist())
    assert reference.total == pytest.approx(share * 10 * BASELINE_SECONDS * slownesses.sum(), rel=0.2)


def test_the_spent_budget_never_falls() -> None:
    reference = Reference()
    meter = ReferenceMeter(RelativeTimer(reference), ALLOWANCE)  # type: ignore[arg-type]
    chunk, timing = np.random.default_rng(1).uniform(1, 5, (2, 400))
    spent = train(meter, reference, 1.0, chunk.tolist(), timing.tolist())
    assert spent == sorted(spent) and spent[0] > 0


def test_a_machine_that_slows_down_changes_no_cost_though_timings_become_rarer() -> None:
    steady, slowing = Reference(), Reference()
    meters = [ReferenceMeter(RelativeTimer(each), ALLOWANCE) for each in (steady, slowing)]  # type: ignore[arg-type]
    train(meters[0], steady, 1.5, [1.0] * 2000)
    train(meters[1], slowing, 1.5, [1.0] * 1000 + [3.0] * 1000)
    assert meters[1].spent == pytest.approx(meters[0].spent, rel=0.03)


def test_the_slow_first_step_is_charged_as_one_of_the_baseline() -> None:
    reference = Reference()
    meter = ReferenceMeter(RelativeTimer(reference), ALLOWANCE)  # type: ignore[arg-type]
    meter.charge(1, 60.0)
    assert meter.spent == ALLOWANCE


def test_plain_meters_count_steps_and_seconds() -> None:
    steps, clock = StepMeter(), ClockMeter()
    for meter in (steps, clock):
        meter.charge(3, 0.5)
        meter.charge(2, 0.25)
    assert (steps.spent, clock.spent) == (5.0, 0.75)
