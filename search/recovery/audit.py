"""Audit of a run's store: whether each candidate, trial and result is there once, in a possible order."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...primitives.errors import WorkFailedError
from ..runs.records import END_STATUS, REPAIRED, from_json
from ..runs.store import Store

__all__ = ["audit", "refuse_damaged"]

MOST_FINDINGS = 20
"""Number of findings after which the audit ends, because one damaged page can cause thousands."""


def audit(store: Store) -> list[str]:
    """Return the faults of a store as sentences without a full stop; empty if it is consistent.

    The audit reads the pages and indexes of the file, and compares candidates, trials and results with the events.
    """
    findings: list[str] = []
    try:
        with store.snapshot():
            for finding in _findings(store):
                findings.append(finding)
                if len(findings) == MOST_FINDINGS:
                    break
    except WorkFailedError as error:
        findings.append(f"the file cannot be read: {error.__cause__ or error}")
    return findings


def refuse_damaged(store: Store) -> None:
    """Check a store before writing to it.

    Raises:
        WorkFailedError: the audit finds a fault.
    """
    if findings := audit(store):
        more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
        raise WorkFailedError(
            f"run {store.run.path} is damaged: {findings[0]}{more}; "
            f"`primer-search repair {shlex.quote(str(store.run.path))}` recovers what can be read"
        )


def _findings(store: Store) -> Iterator[str]:
    for (line,) in store._execute(f"PRAGMA integrity_check({MOST_FINDINGS})"):
        if line != "ok":
            yield f"the file is damaged: {line}"
    for table, row, other, _ in store._execute("PRAGMA foreign_key_check"):
        yield f"row {row} of the table {table} refers to a row that {other} does not have"
    log = _Log()
    yield from log.read(store)
    yield from _candidate_findings(store, log)
    yield from _trial_findings(store, log)


@dataclass
class _Log:
    """Events of a store by candidate and trial.

    Attributes:
        lost: candidates that a repair could not recover.
        proposed: sequence numbers of the proposals of each candidate.
        started: sequence number, candidate and seed of each start of a trial.
        ended: sequence number, kind, candidate and payload of each end of a trial.
    """

    lost: set[int] = field(default_factory=set)
    proposed: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    started: defaultdict[int, list[tuple[int, int, int]]] = field(default_factory=lambda: defaultdict(list))
    ended: defaultdict[int, list[tuple[int, str, int, str]]] = field(default_factory=lambda: defaultdict(list))

    def read(self, store: Store) -> Iterator[str]:
        """Read the events of a store, and yield the faults of their numbers."""
        missing: set[int] = set()
        last = 0
        for sequence, kind, candidate, trial, payload in store._execute(
            "SELECT sequence, kind, candidate_id, trial_id, payload FROM events ORDER BY sequence"
        ):
            missing.update(range(last + 1, sequence))
            last = sequence
            if kind == REPAIRED:
                values = from_json(payload)
                self.lost.update(values["candidates"])
                missing.difference_update(values["events"])
            elif kind == "proposed":
                self.proposed[candidate].append(sequence)
            elif kind == "started":
                self.started[trial].append((sequence, candidate, from_json(payload)["seed"]))
            elif kind in END_STATUS and trial is not None:
                self.ended[trial].append((sequence, kind, candidate, payload))
        if missing:
            yield f"{len(missing)} events are missing, the first is number {min(missing)}"


def _candidate_findings(store: Store, log: _Log) -> Iterator[str]:
    previous = 0
    known: set[int] = set()
    for number, parent, same_as in store._execute("SELECT id, parent, same_as FROM candidates ORDER BY id"):
        absent = [each for each in range(len(known), number) if each not in known and each not in log.lost]
        known.update(range(len(known), number + 1))
        yield from (f"candidate {each} is missing" for each in absent)
        for name, other in (("parent", parent), ("equal candidate", same_as)):
            if other is not None and other >= number:
                yield f"the {name} of candidate {number} is {other}, which came later"
        proposals = log.proposed[number]
        if len(proposals) != 1:
            yield f"candidate {number} was proposed {len(proposals)} times"
        elif proposals[0] <= previous:
            yield f"candidate {number} was proposed before its predecessor"
        previous = max(previous, *proposals, 0)


def _trial_findings(store: Store, log: _Log) -> Iterator[str]:
    results = {
        trial: (sequence, candidate, outcome, loss)
        for trial, sequence, candidate, outcome, loss in store._execute(
            "SELECT trial_id, sequence, candidate_id, outcome, loss_nats FROM evaluations"
        )
    }
    trained: Counter[tuple[int, int]] = Counter()
    reused = {number for (number,) in store._execute("SELECT id FROM candidates WHERE same_as IS NOT NULL")}
    for trial, candidate, seed, status in store._execute("SELECT trial_id, candidate_id, seed, status FROM trials"):
        starts, ends, result = log.started[trial], log.ended[trial], results.pop(trial, None)
        named = f"trial {trial} of candidate {candidate}"
        if [start[1:] for start in starts] != [(candidate, seed)]:
            yield f"{named} has {len(starts)} starts, or another candidate or seed in them"
            continue
        if log.proposed[candidate] and starts[0][0] < log.proposed[candidate][0]:
            yield f"{named} was started before the candidate was proposed"
        if [END_STATUS[end[1]] for end in ends] != ([] if status == "running" else [status]):
            yield f"{named} is {status}, and its events say {', '.join(end[1] for end in ends) or 'nothing'}"
            continue
        if any(end[0] < starts[0][0] or end[2] != candidate for end in ends):
            yield f"{named} ended before it was started, or as a trial of another candidate"
        if (result is not None) != (status == "finished"):
            yield f"{named} is {status}, and has {'a' if result else 'no'} result"
        elif result is not None:
            said = from_json(ends[0][3])
            if result != (ends[0][0], candidate, said["outcome"], said["loss_nats"]):
                yield f"the result of {named} differs from its event"
            trained[candidate, seed] += 1
            if candidate in reused:
                yield f"candidate {candidate} was trained, although it equals another"
    yield from (f"the result of trial {trial} has no trial" for trial in results)
    for (candidate, seed), times in trained.items():
        if times > 1:
            yield f"candidate {candidate} was evaluated {times} times with the random seed {seed}"
