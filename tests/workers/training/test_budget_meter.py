"""Budget meters: reference seconds cancel the speed of the machine, and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest

from primer_search.workers.training.budget_meter import ClockMeter, ReferenceMeter, StepMeter
from primer_search.workers.training.relative_timer import RelativeTimer

BASELINE_SECONDS = 0.01
ALLOWANCE = 0.02


class Reference:
    """The baseline's step on a machine whose slowness the test sets."""

    def __init__(self) -> None:
        self.slowness = 1.0
        self.seconds = 0.0  # of a step in the last timing
        self.total = 0.0

    def time(self, seconds: float) -> tuple[float, int]:
        self.seconds = BASELINE_SECONDS * self.slowness
        count = max(1, int(seconds / self.seconds))
        self.total += count * self.seconds
        return count * self.seconds, count


def train(meter: ReferenceMeter, reference: Reference, relative: float, slownesses: list[float]) -> None:
    """Charge chunks of ten steps of a candidate `relative` times as slow as the baseline, after a slow first step."""
    meter.charge(1, 5.0)
    for slowness in slownesses:
        reference.slowness = slowness
        meter.charge(10, 10 * BASELINE_SECONDS * relative * slowness)


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


def test_a_disturbed_machine_costs_little() -> None:
    """Three of ten tenths of a second are three times as slow; 19 timings of eight steps meet them by chance."""
    rng = np.random.default_rng(0)
    spent = []
    for _ in range(100):
        reference = Reference()
        meter = ReferenceMeter(RelativeTimer(reference), ALLOWANCE)  # type: ignore[arg-type]
        train(meter, reference, 1.0, [1 + 2 * float(rng.random() < 0.3) for _ in range(300)])
        spent.append(meter.spent)
    assert np.mean(spent) == pytest.approx(3001 * ALLOWANCE, rel=0.05)
    assert np.std(spent) < 0.15 * np.mean(spent)


@pytest.mark.parametrize(("chunks", "share"), [(15, 0.1), (400, 0.05 / math.sqrt(3)), (2400, 0.05 / math.sqrt(18))])
def test_timing_takes_a_tenth_of_five_seconds_and_then_grows_as_the_root(chunks: int, share: float) -> None:
    reference = Reference()
    meter = ReferenceMeter(RelativeTimer(reference), ALLOWANCE)  # type: ignore[arg-type]
    seconds = before = 0.0
    for slowness in np.random.default_rng(1).uniform(1, 2, chunks):
        reference.slowness = float(slowness)
        meter.charge(10, 10 * BASELINE_SECONDS * float(slowness))
        seconds += 10 * BASELINE_SECONDS * float(slowness)
        assert meter.spent >= before
        before = meter.spent
    assert reference.total == pytest.approx(share * seconds, rel=0.2)


def test_a_machine_that_slows_down_changes_no_cost_though_timings_become_rarer() -> None:
    steady, slowing = Reference(), Reference()
    meters = [ReferenceMeter(RelativeTimer(each), ALLOWANCE) for each in (steady, slowing)]  # type: ignore[arg-type]
    train(meters[0], steady, 1.5, [1.0] * 2000)
    train(meters[1], slowing, 1.5, [1.0] * 1000 + [3.0] * 1000)
    assert meters[1].spent == pytest.approx(meters[0].spent, rel=0.02)


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
