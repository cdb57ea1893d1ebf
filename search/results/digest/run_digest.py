"""Digest of a run: totals and figures that are kept up to date by reading only what is new.

A leaderboard reads a whole run, which takes seconds at a hundred thousand candidates. The digest reads the events after
the last one it knows, in slices. After each slice it describes the run as it was at the last event that was read. The
results of rows that are shown are read from the store again, and the leaderboard's functions make the rows.
"""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ....workers.protocol import Evaluation
from ...evolution.candidate import BASELINE_ID, reached_loss
from ...evolution.initial_programs import initial_program_origins
from ...runs.records import Event, FinishedTrial
from ...runs.store_reader import StoreReader
from ...runs.time_accounting import RETRAININGS, TimeAccount
from ..confirmation import Confirmation, Retraining, confirmations, read_retraining
from ..equal_time import EqualTime
from ..leaderboard import baseline_summary, candidate_row, full_budget, row_order, sum_by_key, with_equal_time
from ..leaderboard_rows import BaselineSummary, Leaderboard, LeaderboardRow, RunTotals, ranking_loss
from ..trust.leak_check_totals import LeakCheckTotals, count_leak_checks
from .ancestry_cache import AncestryCache
from .candidate_table import RANKED, CandidateTable
from .hurdle_survival import HurdleSurvival
from .loss_history import LossHistory
from .pareto_front import COSTS
from .row_query import SORTS

__all__ = ["RunDigest"]

_SLICE = 2000
"""Number of events that are read at once; a hundred take a few milliseconds."""

_PARSED = ("run_started", "run_resumed", "proposed", *RETRAININGS)
"""Kinds of events whose payload is read."""

_SETTLE_SHARE = 0.05
"""Largest share of the time for computing losses at equal time. Each result of a guided search changes all of them."""

_NO_BASELINE = baseline_summary([])


class RunDigest:
    """The digest of one run. It has no lock: let only one thread at a time use it.

    Args:
        manifest: manifest of the run.

    Attributes:
        manifest: manifest of the run.
        last: number of the last event that was read.
        complete: whether all events that the run had at the last call of `update` have been read.
        table: one row of numbers for each candidate.
        account: use of the run's time.
        survival: trainings by the hurdles that they passed.
        kinds: number of events by kind.
        ancestry: parents and edits of the candidates.
        losses: every training with a loss, in order of arrival.
        proposals: statistics summed over all proposals.
        retrainings: retrainings at the size of the run, in order of arrival.
        ladder_events: events of all retrainings, from which `build_ladder` makes the ladder.
    """

    def __init__(self, manifest: Mapping[str, Any]):
        self.manifest = manifest
        self.last = 0
        self.complete = False
        self.table = CandidateTable()
        self.account = TimeAccount(int(manifest.get("workers") or 1))
        self.survival = HurdleSurvival()
        self.kinds: Counter[str] = Counter()
        self.losses = LossHistory()
        self.proposals: dict[str, Any] = {}
        self.retrainings: list[Retraining] = []
        self.ladder_events: list[Event] = []
        self._budgets = 0.0
        self._checks = LeakCheckTotals(0, 0, 0, None, 0, {})
        self._devices: set[str] = set()
        self._baseline_results: list[Evaluation] = []
        self.ancestry = AncestryCache()
        self._equal_time = EqualTime(manifest)
        self._deltas: dict[int, float] = {}
        self._settled, self._settled_at, self._settling_seconds = 0, 0.0, 0.0
        self._ranking: list[tuple[float, int]] | None = None

    def update(self, store: StoreReader, seconds: float) -> bool:
        """Read new events for about this number of seconds, and return whether all were read."""
        deadline, end = time.monotonic() + seconds, store.last_sequence()
        while self.last < end and time.monotonic() < deadline:
            until = min(self.last + _SLICE, end)
            self._read(store, until)
            self.last = until
        self.complete = self.last >= end
        if self.complete:
            self._settle()
        return self.complete

    def preparations(self) -> list[Callable[[], object]]:
        """Return functions that build in advance what the first page of each kind needs; each takes about 0.05 s."""
        ranked = [partial(self.table.index, column, ranked=True) for column in ("loss", *COSTS.values())]
        return [*(partial(self.table.index, column) for column in SORTS.values()), *ranked, partial(self._ranks, ())]

    def share_read(self, store: StoreReader) -> float:
        """Return the share of the run's events that have been read; 1 if nothing is left."""
        return self.last / max(store.last_sequence(), 1)

    @property
    def baseline(self) -> BaselineSummary:
        """Results of the baseline so far."""
        return baseline_summary(self._baseline_results)

    @property
    def confirmed(self) -> tuple[Confirmation, ...]:
        """Results of retraining, best first."""
        return confirmations(self.retrainings)

    @property
    def initial_programs(self) -> Mapping[int, str]:
        """Origin of each imported initial program, by candidate id."""
        return initial_program_origins(self.manifest)

    @property
    def priced(self) -> bool:
        """Whether the run also compares programs at equal time."""
        return self._equal_time.known

    def rows(self, store: StoreReader, candidate_ids: Sequence[int], newest: int | None = None) -> list[LeaderboardRow]:
        """Return the leaderboard's rows of candidates in the given order; those without a known result are left out.

        Args:
            store: store of the run.
            candidate_ids: candidates.
            newest: number of newest edits in each lineage; None: all edits. The lineage of a merge always has all.
        """
        results = _by_candidate(store.evaluations_of(candidate_ids))
        baseline, ranks = self.baseline, self._ranks(candidate_ids)
        confirmed = {row.candidate_id for row in self.confirmed}
        ancestry = self.ancestry.reader(store)
        rows = []
        for number in candidate_ids:
            if number not in results or number not in ancestry:
                continue
            row = candidate_row(ancestry[number], results[number], baseline)
            row = with_equal_time(row, self._deltas.get(number), baseline.noise_nats)
            lineage = ancestry.lineage(number, newest)
            rows.append(replace(row, rank=ranks.get(number), lineage=lineage, unconfirmed=number not in confirmed))
        return rows

    def _ranks(self, candidate_ids: Sequence[int]) -> dict[int, int]:
        """Return the ranks of those candidates that have one."""
        if self._ranking is None:
            self._ranking = self.table.query(f"SELECT ranking, id FROM candidates WHERE {RANKED} ORDER BY ranking, id")
        losses = self.table.query(f"SELECT ranking, id FROM candidates WHERE {RANKED} AND {_among(candidate_ids)}")
        return {number: bisect_left(self._ranking, (loss, number)) + 1 for loss, number in losses}

    def board(self, store: StoreReader) -> Leaderboard:
        """Return the leaderboard with only the rows that its headline needs: the best, baseline, initial programs."""
        best = self.table.ids(
            f"WHERE {RANKED} AND id != ? ORDER BY class, subclass, ranking, id LIMIT 1", (BASELINE_ID,)
        )
        rows = self.rows(store, list(dict.fromkeys([*best, BASELINE_ID, *self.initial_programs])))
        rows.sort(key=lambda row: (row.rank is None, row.rank or 0, row.id))
        return Leaderboard(
            run=str(store.run.path),
            baseline=self.baseline,
            rows=tuple(rows),
            totals=self.totals(),
            confirmed=self.confirmed,
            initial_programs=self.initial_programs,
            about={"device": ", ".join(sorted(self._devices))},
        )

    def totals(self) -> RunTotals:
        """Return the totals of the run so far."""
        outcomes = self.table.query(
            "SELECT outcome, count(*) FROM candidates WHERE outcome IS NOT NULL GROUP BY outcome ORDER BY 2 DESC"
        )
        return RunTotals(
            candidates=self.kinds["proposed"],
            evaluated=sum(count for _, count in outcomes),
            reused=self.kinds["reused"],
            outcomes=dict(outcomes),
            trials=self.kinds["evaluated"],
            lost=self.kinds["worker_lost"],
            cancelled=self.kinds["cancelled"],
            proposals=self.proposals,
            elapsed_seconds=self.account.elapsed_seconds,
            worker_seconds=self.account.worker_seconds,
            shares=self.account.shares(),
            full_budgets=self._budgets / full_budget(self.manifest),
            checks=replace(self._checks, proved=self.kinds["proposed"]),
        )

    def _read(self, store: StoreReader, until: int) -> None:
        events = store.events(self.last, until, payloads=_PARSED)
        finished = store.evaluations(self.last, until, curves=False)
        results = {trial.sequence: trial.evaluation for trial in finished}
        proposed = [event for event in events if event.kind == "proposed"]
        if proposed:
            numbers = [event.candidate_id for event in proposed if event.candidate_id is not None]
            candidates = store.candidates_between(min(numbers), max(numbers))
            self.table.add(candidates)
            self.ancestry.add(candidates, {event.candidate_id: event.payload for event in proposed})
            self.proposals = sum_by_key([self.proposals, *(event.payload for event in proposed)])
        for event in events:
            self._record(event, results.get(event.sequence))
        self._checks += count_leak_checks([trial.evaluation for trial in finished], 0)
        self._set_results(store, finished)

    def _record(self, event: Event, result: Evaluation | None) -> None:
        self.kinds[event.kind] += 1
        at = self.account.record(event, result)
        if event.kind in RETRAININGS:
            self.ladder_events.append(event)
        if event.kind == "confirmed":
            self.retrainings.append(read_retraining(event))
        if result is None or event.candidate_id is None:
            return
        self._equal_time.record(event.candidate_id, result)
        self._budgets += result.spent
        self._devices |= {result.device} - {""}
        if event.candidate_id == BASELINE_ID:
            self._baseline_results.append(result)
        else:
            self.survival.record(result)
        if (loss := reached_loss(result)) is not None:
            hurdle = len(result.hurdle_losses) if result.kind == "stopped_at_hurdle" else 0
            self.losses.append(at, self.survival.trainings, event.candidate_id, loss, hurdle)

    def _set_results(self, store: StoreReader, finished: Sequence[FinishedTrial]) -> None:
        new = _by_candidate(finished)
        known = self.table.ids(f"WHERE trials > 0 AND {_among(new)}")
        earlier = _by_candidate(store.evaluations_of(known)) if known else {}
        rows, ancestry = [], self.ancestry.reader(store)
        for number, found in new.items():
            found = earlier.get(number, found)
            row = candidate_row(ancestry[number], found, _NO_BASELINE)
            rows.append((row, found[-1].peak_memory_bytes))
        if BASELINE_ID in new:
            self.table.set_baseline_step(self.baseline.step_ms)
        self.table.set_results(rows)
        if known or not self.complete:
            self._ranking = None
        elif self._ranking is not None:
            for row, _ in rows:
                place = row_order(row)
                if place[:2] == (0, 0):
                    insort(self._ranking, place[2:])

    def _settle(self) -> None:
        """Compute the losses at equal time again, unless this would take more than `_SETTLE_SHARE` of the time."""
        trials = self.kinds["evaluated"]
        waited = time.monotonic() - self._settled_at
        if not self.priced or trials == self._settled or waited * _SETTLE_SHARE < self._settling_seconds:
            return
        begun = time.monotonic()
        self._deltas, mean = self._equal_time.deltas(), self.baseline.loss_nats
        if mean is not None:
            losses = dict(self.table.query("SELECT id, loss FROM candidates WHERE class = 0"))
            self.table.set_rankings(
                {
                    number: ranking_loss(loss, loss - mean, self._deltas[number])
                    for number, loss in losses.items()
                    if number in self._deltas
                }
            )
        self._ranking = None
        self._settled, self._settled_at = trials, time.monotonic()
        self._settling_seconds = self._settled_at - begun


def _among(candidate_ids: Iterable[int]) -> str:
    """Return the SQL condition that a row is of one of these candidates."""
    return f"id IN ({','.join(map(str, map(int, candidate_ids)))})"


def _by_candidate(finished: Iterable[FinishedTrial]) -> dict[int, list[Evaluation]]:
    found: defaultdict[int, list[Evaluation]] = defaultdict(list)
    for trial in finished:
        found[trial.candidate_id].append(trial.evaluation)
    return dict(found)
