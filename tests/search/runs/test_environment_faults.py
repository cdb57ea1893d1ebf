"""Searches in an environment where nothing trains: they stop with the reason, and no candidate is blamed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from primer_search.primitives.errors import WorkFailedError
from primer_search.search.evolution.candidate import BASELINE_ID
from primer_search.search.runs.run_directory import RunDirectory
from primer_search.search.runs.store import Store
from primer_search.tests.search.runs.test_controller import SyntheticTrainer, check_consistent, run_synthetic_search
from primer_search.workers.protocol import Evaluation, Progress, TrialRequest


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


def stopped_with(message: str, run: RunDirectory, trainer: SyntheticTrainer) -> Store:
    """Search, which must end with this message; return the store, open for reading."""
    with pytest.raises(WorkFailedError, match=message):
        run_synthetic_search(run, trainer)
    return Store.open(run.path, read_only=True)


def test_a_search_whose_baseline_raises_stops_with_its_message(run: RunDirectory) -> None:
    everyone = SyntheticTrainer(dict.fromkeys(range(100), 9))
    with stopped_with("baseline cannot train here.*failed: .*no such device.*run.log", run, everyone) as store:
        assert len(store.candidates()) == 1 and store.evaluations() == []
        assert "baseline cannot train" in store.events()[-1].payload["why"]
    # What was broken can be fixed, and the search continues.
    ending, store = run_synthetic_search(run, SyntheticTrainer())
    with store:
        assert ending == "stopped"
        check_consistent(store)


class FailingTrainer(SyntheticTrainer):
    """Every trial ends with the outcome."""

    def __init__(self, outcome: str):
        super().__init__()
        self.outcome = outcome

    def run(self, request: TrialRequest, progress: Callable[[Progress], None]) -> Evaluation:
        return Evaluation(self.outcome, "it was over the limit")


@pytest.mark.parametrize(
    ("outcome", "remedy"),
    [("out_of_memory", "workers.memory_gib"), ("timeout", "trial.slack"), ("non_finite", "run.log")],
)
def test_a_search_whose_baseline_fails_stops_with_a_remedy(outcome: str, remedy: str, run: RunDirectory) -> None:
    message = f"cannot train here.*{outcome}: it was over.*{remedy}"
    with stopped_with(message, run, FailingTrainer(outcome)) as store:
        assert {result.candidate_id for result in store.evaluations()} == {BASELINE_ID}


def test_where_nothing_succeeds_any_more_the_search_stops_and_no_candidate_is_blamed(run: RunDirectory) -> None:
    healthy = 4
    broken = SyntheticTrainer(dict.fromkeys(range(healthy, 100), 9))
    with stopped_with("last 6 trials in a row gave no result.*no such device", run, broken) as store:
        assert max(result.candidate_id for result in store.evaluations()) < healthy
        lost = Counter(event.candidate_id for event in store.events() if event.kind == "worker_lost")
        cancelled = [event.candidate_id for event in store.events() if event.kind == "cancelled"]
        assert (lost, cancelled) == ({4: 1, 5: 1, 6: 1}, [4, 5, 6])
    ending, store = run_synthetic_search(run, SyntheticTrainer())
    with store:
        assert ending == "stopped"
        check_consistent(store)
        assert {result.evaluation.outcome for result in store.evaluations()} == {"ok"}
