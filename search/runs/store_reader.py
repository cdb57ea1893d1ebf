"""Reading methods of the run store: candidates, trials, results and events as objects."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ...primitives.errors import UsageError
from ...primitives.programs.program_json import dna_from_json
from ...workers.protocol import Evaluation, HurdleThreshold, TrialRequest
from ..evolution.candidate import Candidate
from .connection import Connection, explain_errors
from .records import Ancestor, Event, FinishedTrial, from_json
from .run_directory import RunDirectory

__all__ = ["StoreReader"]

_EARLIER_MERGE = re.compile(r"Merge with #(\d+)")
"""Description of a merge, which names the second parent; earlier versions did not store the parents in the event."""

_ANCESTOR = "id, parent, mutations, structure_hash, same_as"
"""Columns for the first arguments of `_ancestor`."""


class StoreReader:
    """Reading methods of `Store`.

    Args:
        run: directory of the run.
        connection: connection to the run's store.
    """

    def __init__(self, run: RunDirectory, connection: Connection):
        self.run = run
        self._connection = connection

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Make all reads in the context see one state of the run, even while the controller writes."""
        if self._connection.in_transaction:  # inside another snapshot
            yield
            return
        self._execute("BEGIN")
        try:
            yield
        finally:
            self._execute("ROLLBACK")

    @property
    def manifest(self) -> dict[str, Any]:
        """Description of the run, as JSON values by name."""
        return {key: from_json(value) for key, value in self._execute("SELECT key, value FROM run ORDER BY rowid")}

    def candidates(self) -> list[Candidate]:
        """Return all candidates, in order of proposal."""
        return [_candidate(*row) for row in self._execute("SELECT * FROM candidates ORDER BY id")]

    def candidate(self, candidate_id: int) -> Candidate:
        """Return one candidate.

        Raises:
            UsageError: the run does not have the candidate.
        """
        last = self._execute("SELECT coalesce(max(id), -1) FROM candidates")[0][0]
        known = 0 <= candidate_id <= last  # SQLite refuses integers of more than 64 bits
        rows = self._execute("SELECT * FROM candidates WHERE id = ?", (int(candidate_id),)) if known else []
        if not rows:
            remedy = f"choose one from 0 to {last}" if last >= 0 else "it has none yet"
            raise UsageError(f"run {self.run.path} has no candidate {candidate_id}: {remedy}")
        return _candidate(*rows[0])

    def ancestry(self) -> dict[int, Ancestor]:
        """Return all candidates by id, without their DNA."""
        rows = self._execute(f"SELECT {_ANCESTOR} FROM candidates ORDER BY id")
        proposals = self._execute(
            "SELECT candidate_id, payload FROM events WHERE kind = 'proposed' AND payload LIKE '%\"edits\":%'"
        )
        payloads = {number: from_json(payload) for number, payload in proposals}
        return {row[0]: _ancestor(*row, payload=payloads.get(row[0], {})) for row in rows}

    def evaluations(self, after: int = 0, through: int | None = None, curves: bool = True) -> list[FinishedTrial]:
        """Return finished trials, in order of arrival.

        Args:
            after: number of the last event to leave out.
            through: number of the last event to include; None: all later ones.
            curves: whether to read the learning curves.
        """
        evaluation = "evaluation" if curves else "json_remove(evaluation, '$.curve')"
        rows = self._execute(
            f"SELECT sequence, wall_time, e.trial_id, e.candidate_id, {evaluation}"
            " FROM evaluations AS e JOIN events USING (sequence)"
            " WHERE sequence > ? AND (? IS NULL OR sequence <= ?) ORDER BY sequence",
            (int(after), through, through),
        )
        return [_finished_trial(*row) for row in rows]

    def outcomes(self) -> list[tuple[int, str]]:
        """Return the candidate and the outcome of each finished trial, in order of arrival."""
        return self._execute("SELECT candidate_id, outcome FROM evaluations ORDER BY sequence")

    def evaluations_of(self, candidate_ids: Iterable[int]) -> list[FinishedTrial]:
        """Return the finished trials of some candidates, in order of arrival."""
        rows = self._execute(
            "SELECT sequence, wall_time, e.trial_id, e.candidate_id, evaluation"
            " FROM evaluations AS e JOIN events USING (sequence)"
            " WHERE e.candidate_id IN (SELECT value FROM json_each(?)) ORDER BY sequence",
            (json.dumps(sorted(candidate_ids)),),
        )
        return [_finished_trial(*row) for row in rows]

    def events(
        self,
        after: int = 0,
        through: int | None = None,
        *,
        limit: int | None = None,
        payloads: Collection[str] | None = None,
    ) -> list[Event]:
        """Return events, in order of arrival.

        Args:
            after: number of the last event to leave out.
            through: number of the last event to include; None: all later ones.
            limit: largest number of events.
            payloads: kinds whose payload is read; None: all.
        """
        rows = self._execute(
            "SELECT * FROM events WHERE sequence > ? AND (? IS NULL OR sequence <= ?) ORDER BY sequence LIMIT ?",
            (int(after), through, through, -1 if limit is None else limit),
        )
        if payloads is None:
            return [_event(*row) for row in rows]
        return [_event(*row[:5], payload=row[5] if row[2] in payloads else "{}") for row in rows]

    def candidates_between(self, first: int, last: int) -> list[Ancestor]:
        """Return the candidates from one id to another, without their DNA and without the edits of merges."""
        rows = self._execute(
            f"SELECT {_ANCESTOR} FROM candidates WHERE id BETWEEN ? AND ? ORDER BY id",
            (first, last),
        )
        return [_ancestor(*row, payload={}) for row in rows]

    def ancestor(self, candidate_id: int, payload: Mapping[str, Any]) -> Ancestor:
        """Return a candidate without its DNA; `payload` is the payload of its event `proposed`."""
        rows = self._execute(f"SELECT {_ANCESTOR} FROM candidates WHERE id = ?", (candidate_id,))
        return _ancestor(*rows[0], payload=dict(payload))

    def unfinished_trials(self) -> list[TrialRequest]:
        """Return the requests of trials that were started and have not finished, been cancelled or been lost."""
        rows = self._execute(
            "SELECT trial_id, candidate_id, dna, seed, hurdles FROM trials JOIN candidates ON id = candidate_id"
            " WHERE status = 'running' ORDER BY trial_id"
        )
        return [
            TrialRequest(trial, candidate, dna, seed, tuple(HurdleThreshold(*hurdle) for hurdle in from_json(hurdles)))
            for trial, candidate, dna, seed, hurdles in rows
        ]

    def hurdles(self) -> dict[int, tuple[HurdleThreshold, ...]]:
        """Return the hurdles of each trial, by trial id. Only their positions and thresholds are stored."""
        rows = self._execute("SELECT trial_id, hurdles FROM trials ORDER BY trial_id")
        return {trial: tuple(HurdleThreshold(*hurdle) for hurdle in from_json(text)) for trial, text in rows}

    def trial_counts(self) -> dict[str, int]:
        """Return the number of trials by status: `running`, `finished`, `cancelled`, `lost`."""
        return dict(self._execute("SELECT status, count(*) FROM trials GROUP BY status"))

    def last_sequence(self) -> int:
        """Return the number of the last event, which identifies the state of the run; 0 before the first."""
        return self._execute("SELECT coalesce(max(sequence), 0) FROM events")[0][0]

    def event_count(self, kind: str) -> int:
        """Return the number of events of a kind."""
        return self._execute("SELECT count(*) FROM events WHERE kind = ?", (kind,))[0][0]

    def next_trial_id(self) -> int:
        """Return the first unused trial id, from 0."""
        return self._execute("SELECT coalesce(max(trial_id) + 1, 0) FROM trials")[0][0]

    def _execute(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with explain_errors(self.run):
            return self._connection.execute(statement, values).fetchall()


def _event(
    sequence: int, wall_time: float, kind: str, candidate_id: int | None, trial_id: int | None, payload: str
) -> Event:
    return Event(sequence, wall_time, kind, candidate_id, trial_id, from_json(payload))


def _finished_trial(
    sequence: int, wall_time: float, trial_id: int, candidate_id: int, evaluation: str
) -> FinishedTrial:
    return FinishedTrial(sequence, wall_time, trial_id, candidate_id, Evaluation.from_dict(from_json(evaluation)))


def _ancestor(
    number: int, parent: int | None, mutations: str, structure_hash: str, same_as: int | None, payload: dict[str, Any]
) -> Ancestor:
    """Return a candidate without its DNA; `payload` is the payload of its event `proposed`, if that has `edits`."""
    descriptions, edits, merged_with = tuple(from_json(mutations)), None, None
    if "edits" in payload:
        edits = tuple(payload["edits"])
        earlier = _EARLIER_MERGE.fullmatch(descriptions[0]) if descriptions else None
        merged_with = payload["parents"][1] if "parents" in payload else earlier and int(earlier[1])
    return Ancestor(number, parent, descriptions, structure_hash, same_as, edits, merged_with)


def _candidate(
    number: int,
    dna: str,
    parent: int | None,
    mutations: str,
    structure_hash: str,
    same_as: int | None,
    unit: int | None,
) -> Candidate:
    return Candidate(number, dna_from_json(dna), parent, tuple(from_json(mutations)), structure_hash, same_as, unit)
