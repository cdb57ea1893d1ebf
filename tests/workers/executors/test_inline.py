"""The inline executor: faults, interrupts and stops."""

from __future__ import annotations

import pytest

from primer_search.tests.support.faulty_trainers import FaultyTrainer, InterruptedTrainer
from primer_search.workers.executors.inline import InlineExecutor
from primer_search.workers.protocol import Evaluation, TrialRequest, WorkerStatus


def request(dna: str, trial: int = 0) -> TrialRequest:
    return TrialRequest(trial_id=trial, candidate_id=100 + trial, dna=dna, seed=7)


def run(inline: InlineExecutor, dna: str) -> Evaluation:
    """Run one trial."""
    inline.submit(request(dna))
    [(_, evaluation)] = inline.wait(0.0)
    return evaluation


def test_inline_runs_a_trial_and_reports_its_progress() -> None:
    seen: list[WorkerStatus] = []

    class Spy(FaultyTrainer):
        def _succeed(self, _: str) -> None:
            seen.extend(inline.status())

    with InlineExecutor(Spy) as inline:
        assert (inline.slots, inline.free) == (1, 1)
        inline.submit(request("succeed", trial=3))
        assert inline.free == 0
        [(trial, evaluation)] = inline.wait(0.0)
        assert (trial.trial_id, evaluation.outcome, evaluation.loss_nats) == (3, "ok", 7.0)
        assert inline.free == 1
    assert (seen[0].trial_id, seen[0].candidate_id, seen[0].phase, seen[0].loss_nats) == (3, 103, "train", 4.25)


def test_a_display_sees_the_trial_while_it_runs() -> None:
    seen: list[tuple[int | None, str]] = []
    with InlineExecutor(FaultyTrainer) as inline:
        inline.watch = lambda: seen.extend((status.candidate_id, status.phase) for status in inline.status())
        inline.submit(request("succeed", trial=3))
        inline.wait(0.0)
    assert seen[0] == (103, "starting") and seen[-1] == (103, "train")


def test_inline_turns_an_unexpected_exception_into_a_failed_trial_and_logs_it(caplog: pytest.LogCaptureFixture) -> None:
    with InlineExecutor(FaultyTrainer) as inline:
        evaluation = run(inline, "fail no such file")
        assert (evaluation.outcome, "no such file" in evaluation.message) == ("failed", True)
        assert "Traceback" in caplog.text
        assert run(inline, "exhaust").outcome == "out_of_memory"
        assert run(inline, "succeed").outcome == "ok"


def test_inline_ends_a_trial_when_a_stop_is_requested() -> None:
    asked: list[bool] = []
    with InlineExecutor(FaultyTrainer) as inline:
        inline.stop_requested = lambda: bool(asked)
        inline.submit(request("succeed", trial=1))
        assert len(inline.wait(0.0)) == 1
        asked.append(True)
        inline.submit(request("sleep", trial=2))
        assert inline.wait(0.0) == []
        assert [trial.trial_id for trial in inline.cancel()] == [2]
        assert inline.free == 1


def test_inline_passes_an_interrupt_on_and_returns_the_interrupted_trial() -> None:
    with InlineExecutor(InterruptedTrainer) as inline:
        inline.submit(request("succeed", trial=5))
        with pytest.raises(KeyboardInterrupt):
            inline.wait(1.0)
        assert [dropped.trial_id for dropped in inline.cancel()] == [5]
        assert inline.free == 1


def test_submitting_to_a_busy_executor_is_refused() -> None:
    with InlineExecutor(FaultyTrainer) as inline:
        inline.submit(request("succeed"))
        with pytest.raises(RuntimeError, match="no worker is free"):
            inline.submit(request("succeed", trial=1))
