"""Runs written by hand: a store with a clock that is moved by hand, and evaluations with known parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from primer_search.primitives.programs.library import TRANSFORMER
from primer_search.search.evolution.candidate import Candidate
from primer_search.search.runs.store import Store
from primer_search.workers.protocol import Evaluation, TrialRequest


class Run:
    """A store with a clock that is moved by hand."""

    def __init__(self, path: Path, workers: int, **manifest: Any):
        self.now = 1000.0
        self.store = Store.create(path, {"workers": workers, **manifest}, clock=lambda: self.now)

    def propose(
        self,
        number: int,
        parent: int | None,
        *mutations: str,
        same_as: int | None = None,
        edits: tuple[int, ...] | None = None,
        parents: tuple[int, ...] | None = None,
    ) -> None:
        child = Candidate(number, TRANSFORMER, parent, mutations, f"hash{number}", same_as)
        statistics = {"tries": number + 1, "refused": {"widths": 2}, "how": "words are no number"}
        known = {key: list(value) for key, value in (("edits", edits), ("parents", parents)) if value is not None}
        self.store.add_candidate(child, statistics | known)

    def train(self, number: int, evaluation: Evaluation, seconds: float = 10.0) -> None:
        trial = self.store.next_trial_id()
        self.store.start_trial(TrialRequest(trial, number, "", seed=trial))
        self.now += seconds
        self.store.finish_trial(trial, evaluation)


def full(loss: float, step_ms: float = 20.0, **rest: Any) -> Evaluation:
    """A full budget: 10 seconds of wall clock, of which 6 training, 2 compiling, 1 evaluating."""
    return Evaluation(
        "ok", loss_nats=loss, bits_per_byte=loss / 2, steps=300, step_ms=step_ms, parameters=1000, wall_seconds=10.0,
        train_seconds=6.0, compile_seconds=2.0, evaluate_seconds=1.0, **rest,
    )  # fmt: skip
