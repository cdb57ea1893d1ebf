"""Accounting of a run's wall clock: its sessions, and the uses of its workers' time, from events and evaluations.

A run has one or more sessions. A session lasts from `run_started` or `run_resumed` to its last event; the time between
sessions is not counted. A worker is busy while it runs a trial, and idle otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...workers.protocol import Evaluation
from .records import Event, FinishedTrial

__all__ = ["RETRAININGS", "SHARES", "Session", "TimeAccount", "active_seconds", "find_sessions", "shares_of_wall_clock"]

SHARES = {
    "training": "training steps",
    "compiling": "turning programs into machine code",
    "evaluating": "validation",
    "probing": "checks before training",
    "timing": "steps of the baseline, timed in turns with a candidate's steps",
    "waiting": "time in which trials had no processor, because other programs used it",
    "confirming": "retraining the best at the end of a search",
    "other": "the rest of trials, and trials that were lost or killed, or are not finished yet",
    "idle": "time without a trial",
}
"""Uses of a worker's time. Earlier versions did not measure `timing` and `waiting`; in their runs `other` has both."""

PHASES = {
    "training": "train_seconds",
    "compiling": "compile_seconds",
    "evaluating": "evaluate_seconds",
    "probing": "probe_seconds",
    "timing": "timing_seconds",
    "waiting": "waiting_seconds",
}
"""Fields of an evaluation with the time of each phase of a trial."""

_OPENINGS = ("run_started", "run_resumed")
_CLOSINGS = ("evaluated", "worker_lost", "cancelled")
RETRAININGS = ("confirmed", "retrained_at_scale")
"""Kinds of events of retrainings, at the size of the run and at another scale."""


@dataclass(frozen=True, slots=True)
class Session:
    """Time that one controller spent on a run.

    Attributes:
        first: sequence number of the opening event.
        start, end: times of the first and last event, in seconds since the epoch.
        workers: number of workers.
    """

    first: int
    start: float
    end: float
    workers: int

    @property
    def seconds(self) -> float:
        """Length of the session."""
        return self.end - self.start


def find_sessions(events: Sequence[Event], workers: int = 1) -> list[Session]:
    """Return the sessions of a run; `workers` is the number of workers if an opening event does not give it."""
    openings = [place for place, event in enumerate(events) if event.kind in _OPENINGS]
    sessions = []
    for begin, end in zip(openings, [*openings[1:], len(events)], strict=True):
        opening = events[begin]
        # The latest time, not the last event's, because a clock that is set back must not shorten the session.
        # A later `confirm` belongs to no session. A confirmation at the end of a search is followed by a note.
        last = max(event.wall_time for event in events[begin:end] if event.kind not in RETRAININGS)
        sessions.append(
            Session(opening.sequence, opening.wall_time, last, int(opening.payload.get("workers") or workers))
        )
    return sessions


def active_seconds(sessions: Sequence[Session], sequence: int, wall_time: float) -> float:
    """Return the seconds between the run's start and an event, without the pauses between sessions."""
    seconds = 0.0
    for place, session in enumerate(sessions):
        if place + 1 == len(sessions) or sequence < sessions[place + 1].first:
            return seconds + min(max(wall_time - session.start, 0.0), session.seconds)
        seconds += session.seconds
    return seconds


class TimeAccount:
    """The use of a run's time, from its events and results in order of arrival.

    Args:
        workers: number of workers, if an opening event does not give it.
    """

    def __init__(self, workers: int = 1):
        self._workers = workers
        self._sessions: list[Session] = []
        self._before = 0.0  # seconds of the sessions that are over
        self._latest = 0.0
        self._started: dict[int, float] = {}
        self._interrupted: dict[int, float] = {}
        self._spent = dict.fromkeys(SHARES, 0.0)
        self._retrainings: list[tuple[float, float]] = []

    def record(self, event: Event, evaluation: Evaluation | None = None) -> float:
        """Add an event, with the evaluation if it is a result.

        Returns:
            The seconds between the run's start and the event, without the pauses between sessions.
        """
        if event.kind in _OPENINGS:
            self._open(event)
        elif event.kind in RETRAININGS:
            self._retrainings.append((event.wall_time, event.payload["evaluation"].get("wall_seconds") or 0.0))
        elif self._sessions and event.wall_time > self._sessions[-1].end:
            # The latest time, not the last event's, because a clock that is set back must not shorten the session.
            # A later `confirm` belongs to no session. A confirmation at the end of a search is followed by a note.
            self._sessions[-1] = replace(self._sessions[-1], end=event.wall_time)
        now = self._active(event.wall_time)
        self._latest = max(self._latest, now)
        if event.trial_id is None:
            return now
        if event.kind == "started":
            self._started[event.trial_id] = now
        elif event.kind in _CLOSINGS:
            begun = self._started.pop(event.trial_id, None)
            span = self._interrupted.pop(event.trial_id, 0.0) if begun is None else max(now - begun, 0.0)
            if evaluation is None:
                self._spent["other"] += span
            else:
                self._add_phases(evaluation, span)
        return now

    @property
    def elapsed_seconds(self) -> float:
        """Wall clock during which a controller was running."""
        return sum(session.seconds for session in self._sessions)

    @property
    def worker_seconds(self) -> float:
        """The same time multiplied by the number of workers."""
        return sum(session.workers * session.seconds for session in self._sessions)

    @property
    def session(self) -> Session | None:
        """The last session; None before the first."""
        return self._sessions[-1] if self._sessions else None

    def shares(self) -> dict[str, float]:
        """Return the uses of the workers' time (keys of `SHARES`) as shares of the whole; they sum to 1."""
        spent = dict(self._spent)
        open_spans = (self._latest - at for at in self._started.values())
        spent["other"] += sum(open_spans) + sum(self._interrupted.values())
        spent["confirming"] = sum(
            seconds for at, seconds in self._retrainings if any(each.start <= at <= each.end for each in self._sessions)
        )
        available, busy = self.worker_seconds, sum(spent.values())
        spent["idle"] = max(available - busy, 0.0)
        whole = max(available, busy)
        return {name: seconds / whole if whole else 0.0 for name, seconds in spent.items()}

    def _open(self, event: Event) -> None:
        self._interrupted.update({trial: self._latest - at for trial, at in self._started.items()})
        self._started.clear()
        self._before = self.elapsed_seconds
        workers = int(event.payload.get("workers") or self._workers)
        self._sessions.append(Session(event.sequence, event.wall_time, event.wall_time, workers))

    def _active(self, wall_time: float) -> float:
        if not self._sessions:
            return 0.0
        session = self._sessions[-1]
        return self._before + min(max(wall_time - session.start, 0.0), session.seconds)

    def _add_phases(self, result: Evaluation, span: float) -> None:
        """Add a trial with a result; `span` is its time by the events, used if the result does not give its time."""
        wall = result.wall_seconds or span
        parts = [getattr(result, field) for field in PHASES.values()]
        # On several cores, the phases can add up to more than the wall clock.
        scale = min(1.0, wall / sum(parts)) if sum(parts) > 0.0 else 0.0
        for name, seconds in zip(PHASES, parts, strict=True):
            self._spent[name] += seconds * scale
        self._spent["other"] += max(wall - sum(parts), 0.0)


def shares_of_wall_clock(
    events: Sequence[Event], finished: Sequence[FinishedTrial], workers: int = 1
) -> tuple[dict[str, float], float]:
    """Return the workers' time as shares (keys of `SHARES`, sum 1), and in seconds (workers times elapsed)."""
    account, results = TimeAccount(workers), {trial.sequence: trial.evaluation for trial in finished}
    for event in events:
        account.record(event, results.get(event.sequence))
    return account.shares(), account.worker_seconds
