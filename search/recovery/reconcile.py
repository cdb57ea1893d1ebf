"""Make a consistent run from the rows that are left of a damaged store.

If tables contradict each other, the events decide. A fact that two tables hold is taken from the one that still has
it: a trial and its event `started` replace each other, and a result replaces its event `evaluated`. A program, or the
result of a trial, is in one table only and cannot be replaced. A candidate without its results is trained again.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ...primitives.errors import PrimerSearchError
from ...primitives.programs.program_json import dna_from_json
from ..runs.records import END_STATUS, EVENT_KINDS, REPAIRED, to_json
from .page_reader import Row

__all__ = ["Losses", "StoreRows", "reconcile", "sort_rows"]


@dataclass
class StoreRows:
    """Rows of a store's tables by their first column; the rows are without that column."""

    run: dict[str, str] = field(default_factory=dict)
    candidates: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    trials: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    events: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    evaluations: dict[int, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Losses:
    """Candidates, results and events that could not be recovered.

    Attributes:
        candidates: candidates whose program is lost, and those that equal them.
        trials: trials whose result is lost.
        events: numbers of the lost events.
    """

    candidates: list[int]
    trials: list[int]
    events: list[int]

    def __bool__(self) -> bool:
        return bool(self.candidates or self.trials or self.events)


def sort_rows(rows: Iterable[Row]) -> StoreRows:
    """Return the rows of a damaged file by table, recognized by the types of their columns; others are left out."""
    found = StoreRows()
    for number, values in rows:
        match values:
            case (str() as key, str() as text) if _is_json(text):
                found.run[key] = text
            case (None, str() as dna, int() | None, str() as edits, str(), int() | None, *rest) if len(rest) <= 1:
                if _is_program(dna) and _is_json(edits):
                    found.candidates[number] = (*values[1:6], rest[0] if rest else None)
            case (None, int() as candidate, int() as seed, str() as hurdles, str()) if _is_json(hurdles):
                found.trials[number] = (candidate, seed, hurdles)
            case (None, int() | float() as time, str() as kind, candidate, trial, str() as payload):
                if (kind in EVENT_KINDS or kind == "climbed") and _is_json(payload):
                    found.events[number] = (float(time), kind, candidate, trial, payload)
            case (None, int(), int(), str(), int() | float() | None, str() as evaluation) if _is_json(evaluation):
                found.evaluations[number] = values[1:]
            case _:
                pass
    return found


def reconcile(rows: StoreRows, starters: Mapping[int, tuple[Any, ...]], recorded: int = 0) -> tuple[StoreRows, Losses]:
    """Return a consistent run, which ends with the event `repaired`, and what was lost.

    Args:
        rows: rows that are left.
        starters: rows of the baseline and the initial programs, used if the store has lost its rows of them.
        recorded: number of the last event that the disk is known to have had.
    """
    mentioned = {row[2] for row in rows.events.values()} | {row[0] for row in rows.trials.values()}
    mentioned |= {row[0] for row in rows.evaluations.values()}
    known = {number for number in (*mentioned, *rows.candidates, *starters) if isinstance(number, int)}
    kept = StoreRows(run=rows.run, candidates=_candidates(rows, starters, max(known)))
    lost_candidates = sorted(set(range(max(known) + 1)) - kept.candidates.keys())
    for trial in sorted(rows.trials.keys() | {row[3] for row in rows.events.values() if row[1] == "started"}):
        start = rows.trials.get(trial) or _from_start(rows, trial)
        if start[0] in kept.candidates:
            kept.trials[trial] = start
    events = _Events(rows, kept, recorded)
    kept.evaluations = events.take_results(rows.evaluations)
    events.restore_starts(kept)
    events.restore_proposals(kept)
    lost_trials = events.finish(kept)
    lost_events = sorted(set(range(1, events.last + 1)) - events.rows.keys())
    losses = Losses(lost_candidates, lost_trials, lost_events)
    events.append(REPAIRED, None, None, to_json(asdict(losses)))
    kept.events = dict(sorted(events.rows.items()))
    return kept, losses


def _candidates(rows: StoreRows, starters: Mapping[int, tuple[Any, ...]], last: int) -> dict[int, tuple[Any, ...]]:
    kept: dict[int, tuple[Any, ...]] = {}
    for number in range(last + 1):
        row = rows.candidates.get(number) or starters.get(number)
        if row is None or (row[4] is not None and row[4] not in kept):
            continue
        dna, parent, edits, structure, same_as, unit = row
        if parent is not None and parent not in kept:  # its program is whole; only its lineage is lost
            edits = to_json([f"Lost ancestor #{parent}", *json.loads(edits)])
            parent = 0
        kept[number] = (dna, parent, edits, structure, same_as, unit)
    return kept


def _from_start(rows: StoreRows, trial: int) -> tuple[Any, ...]:
    return next(
        (row[2], json.loads(row[4])["seed"], "[]")
        for row in rows.events.values()
        if row[1] == "started" and row[3] == trial
    )


class _Events:
    """The events that are left, and new ones that replace lost ones."""

    def __init__(self, rows: StoreRows, kept: StoreRows, recorded: int):
        self.rows: dict[int, tuple[Any, ...]] = {
            sequence: row
            for sequence, row in sorted(rows.events.items())
            if (row[2] is None or row[2] in kept.candidates) and (row[3] is None or row[3] in kept.trials)
        }
        results = {row[1] for row in rows.evaluations.values()}
        self.last = max(recorded, *rows.events, *results, 0)
        self._free = [
            number for number in range(1, self.last + 1) if number not in rows.events and number not in results
        ]
        self._times = sorted((sequence, row[0]) for sequence, row in rows.events.items())
        self._trials = kept.trials

    def take_results(self, results: Mapping[int, tuple[Any, ...]]) -> dict[int, tuple[Any, ...]]:
        """Keep the results whose trial is known, with their events; events without a result are dropped."""
        kept: dict[int, tuple[Any, ...]] = {}
        for trial, row in sorted(results.items(), key=lambda item: item[1][1]):
            candidate, sequence, outcome, loss, _ = row
            if trial not in self._trials or self._trials[trial][0] != candidate:
                continue
            if sequence not in self.rows:
                self._put(sequence, "evaluated", candidate, trial, to_json({"outcome": outcome, "loss_nats": loss}))
            if self.rows[sequence][1:4] == ("evaluated", candidate, trial):
                kept[trial] = row
        self.rows = {number: row for number, row in self.rows.items() if row[1] != "evaluated" or row[3] in kept}
        return kept

    def restore_starts(self, kept: StoreRows) -> None:
        """Add events `started` that are lost; a trial is left out if no event number before its end is free."""
        started = {row[3] for row in self.rows.values() if row[1] == "started"}
        ends = {row[3]: number for number, row in sorted(self.rows.items(), reverse=True) if row[3] is not None}
        missing = [trial for trial in kept.trials if trial not in started]
        for trial in sorted(missing, key=lambda trial: ends.get(trial, self.last + 1), reverse=True):
            candidate, seed, _ = kept.trials[trial]
            if self._restore(ends.get(trial), "started", candidate, trial, to_json({"seed": seed})) is None:
                del kept.trials[trial]
                kept.evaluations.pop(trial, None)
        self.rows = {number: row for number, row in self.rows.items() if row[3] is None or row[3] in kept.trials}

    def restore_proposals(self, kept: StoreRows) -> None:
        """Add events `proposed` that are lost, in the order of the candidates' ids."""
        proposed: dict[int, int] = {}
        first: dict[int | None, int] = {}
        for number, row in sorted(self.rows.items()):
            first.setdefault(row[2], number)
            if row[1] == "proposed":
                proposed[row[2]] = number
        following: int | None = None
        for candidate in sorted(kept.candidates, reverse=True):
            if candidate not in proposed:
                limits = [limit for limit in (first.get(candidate), following) if limit is not None]
                place = self._restore(min(limits, default=None), "proposed", candidate, None, "{}")
                if place is None:
                    continue  # the audit of the repaired run reports it
                proposed[candidate] = place
            following = min(proposed[candidate], following or self.last)

    def finish(self, kept: StoreRows) -> list[int]:
        """Set the status of each trial, cancel the trials whose result is lost, and return these."""
        status = {
            row[3]: END_STATUS[row[1]] for row in self.rows.values() if row[1] in END_STATUS and row[3] is not None
        }
        lost = [trial for trial in kept.trials if trial not in status]
        for trial in lost:
            self.append("cancelled", kept.trials[trial][0], trial, to_json({"why": "its result was lost"}))
        kept.trials = {trial: (*row, status.get(trial, "cancelled")) for trial, row in kept.trials.items()}
        return lost

    def append(self, kind: str, candidate: int | None, trial: int | None, payload: str) -> None:
        """Add an event at the end."""
        self._put(self.last + 1, kind, candidate, trial, payload)

    def _restore(self, before: int | None, kind: str, candidate: int, trial: int | None, payload: str) -> int | None:
        """Add an event at the last free number below `before`, or at the end without `before`; return it, or None."""
        usable = bisect_left(self._free, self.last + 1 if before is None else before)
        if not usable and before is not None:
            return None
        place = self._free.pop(usable - 1) if usable else self.last + 1
        self._put(place, kind, candidate, trial, payload)
        return place

    def _put(self, sequence: int, kind: str, candidate: int | None, trial: int | None, payload: str) -> None:
        place = bisect_left(self._times, (sequence, 0.0))
        time = self._times[place - 1][1] if place else 0.0
        self.rows[sequence] = (time, kind, candidate, trial, payload)
        self.last = max(self.last, sequence)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_program(text: str) -> bool:
    try:
        dna_from_json(text)
    except PrimerSearchError:
        return False
    return True
