"""The simulated executor and its clock: trials end in order, at their time, and none is lost."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from primer_search.workers.executors.simulated import SimulatedExecutor, VirtualClock
from primer_search.workers.protocol import Evaluation, Progress, TrialRequest


class TimedTrainer:
    """Trials whose DNA is their length in seconds."""

    def run(self, request: TrialRequest, progress: Callable[[Progress], None]) -> Evaluation:
        return Evaluation("ok", wall_seconds=float(request.dna), spent=1.0)


def executor(slots: int) -> tuple[SimulatedExecutor, VirtualClock]:
    clock = VirtualClock(epoch=1000.0)
    return SimulatedExecutor(TimedTrainer(), slots, clock), clock


def request(trial: int, seconds: float) -> TrialRequest:
    return TrialRequest(trial, trial, str(seconds), 0)


def test_wait_advances_the_clock_to_the_next_end_and_returns_what_ended() -> None:
    simulated, clock = executor(3)
    for trial, seconds in enumerate((30.1, 10.1, 10.1)):
        simulated.submit(request(trial, seconds))
    assert simulated.free == 0
    assert [trial.trial_id for trial, _ in simulated.wait(math.inf)] == [1, 2]
    assert (clock.monotonic(), clock.time(), simulated.free) == (10.1, 1010.1, 2)
    simulated.submit(request(3, 5.0))
    assert [trial.trial_id for trial, _ in simulated.wait(math.inf)] == [3]
    assert clock.monotonic() == pytest.approx(15.1)


def test_wait_ends_at_the_timeout() -> None:
    simulated, clock = executor(1)
    assert simulated.wait(2.5) == [] and clock.monotonic() == 2.5
    simulated.submit(request(0, 10.0))
    assert simulated.wait(4.0) == [] and clock.monotonic() == 6.5
    assert len(simulated.wait(6.0)) == 1 and clock.monotonic() == 12.5


def test_time_of_finished_and_of_cancelled_trials_is_counted() -> None:
    simulated, _ = executor(2)
    simulated.submit(request(0, 10.0))
    simulated.submit(request(1, 100.0))
    simulated.wait(math.inf)
    assert [trial.trial_id for trial in simulated.cancel()] == [1]
    assert (simulated.started, simulated.finished, simulated.cancelled) == (2, 1, 1)
    assert (simulated.busy_seconds, simulated.finished_seconds, simulated.spent) == (20.0, 10.0, 1.0)
    assert simulated.free == 2


def test_a_trial_without_a_free_worker_is_refused() -> None:
    simulated, _ = executor(1)
    simulated.submit(request(0, 1.0))
    with pytest.raises(RuntimeError, match="no worker is free"):
        simulated.submit(request(1, 1.0))


def test_the_clock_runs_on_with_the_time_of_the_process_unless_it_is_paused() -> None:
    own = [100.0]
    clock = VirtualClock(lambda: own[0], epoch=0.0)
    own[0] += 2.0
    assert clock.monotonic() == 2.0
    with clock.paused():
        own[0] += 50.0
    assert clock.monotonic() == 2.0
    clock.advance_to(10.0)
    clock.advance_to(5.0)  # a clock does not go back
    own[0] += 1.0
    assert clock.monotonic() == 11.0


def test_trials_that_end_while_the_controller_works_are_returned_together() -> None:
    own = [0.0]
    clock = VirtualClock(lambda: own[0])
    simulated = SimulatedExecutor(TimedTrainer(), 3, clock)
    for trial in range(3):
        simulated.submit(request(trial, 1.0 + trial))
    own[0] = 2.5
    assert [trial.trial_id for trial, _ in simulated.wait(math.inf)] == [0, 1]
    assert clock.monotonic() == 2.5
