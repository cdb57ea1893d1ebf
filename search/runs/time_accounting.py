"""Accounting of a run's wall clock: its sessions, and the shares of its workers' time, computed from events alone.

A run has one or more sessions. A session lasts from `run_started` or `run_resumed` to its last event; the time between
sessions is not counted. A worker is busy while it runs a trial, and idle otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .records import Event, FinishedTrial

__all__ = ["SHARES", "Session", "active_seconds", "find_sessions", "shares_of_wall_clock"]

SHARES = {
    "training": "training steps",
    "compiling": "turning programs into machine code",
    "evaluating": "validation",
    "probing": "checks before training",
    "timing": "steps of the baseline, timed in turns with those of a candidate",
    "waiting": "trials had no processor, because other programs used it",
    "confirming": "retraining the best at the end of a search",
    "other": "the rest of trials, and trials that were lost or killed, or are not finished yet",
    "idle": "time without a trial",
}
"""Uses of a worker's time. Earlier versions did not measure `timing` and `waiting`; their `other` holds both."""

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
_RETRAININGS = ("confirmed", "retrained_at_scale")


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
    """Return the sessions of a run; `workers` is the number if an opening event does not give one."""
    openings = [place for place, event in enumerate(events) if event.kind in _OPENINGS]
    sessions = []
    for begin, end in zip(openings, [*openings[1:], len(events)], strict=True):
        opening = events[begin]
        # The latest time, not the last event's: a clock set back must not shorten the session.
        # A later confirmation belongs to no session; one at the end of a search closes with a note.
        last = max(event.wall_time for event in events[begin:end] if event.kind not in _RETRAININGS)
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


def shares_of_wall_clock(
    sessions: Sequence[Session], events: Sequence[Event], finished: Sequence[FinishedTrial]
) -> tuple[dict[str, float], float]:
    """Return the workers' time as shares (keys of `SHARES`, sum 1), and in seconds (workers times elapsed)."""
    available = sum(session.workers * session.seconds for session in sessions)
    spans = _spans(sessions, events)
    spent = dict.fromkeys(SHARES, 0.0)
    for trial in finished:
        result = trial.evaluation
        wall = result.wall_seconds or spans.get(trial.trial_id, 0.0)
        parts = [getattr(result, field) for field in PHASES.values()]
        # Several cores can use more seconds than the wall clock shows.
        scale = min(1.0, wall / sum(parts)) if sum(parts) > 0.0 else 0.0
        for name, seconds in zip(PHASES, parts, strict=True):
            spent[name] += seconds * scale
        spent["other"] += max(wall - sum(parts), 0.0)
        spans.pop(trial.trial_id, None)
    spent["other"] += sum(spans.values())
    spent["confirming"] = sum(
        event.payload["evaluation"].get("wall_seconds") or 0.0
        for event in events
        if event.kind in _RETRAININGS and any(each.start <= event.wall_time <= each.end for each in sessions)
    )
    busy = sum(spent.values())
    spent["idle"] = max(available - busy, 0.0)
    whole = max(available, busy)
    return {name: seconds / whole if whole else 0.0 for name, seconds in spent.items()}, available


def _spans(sessions: Sequence[Session], events: Sequence[Event]) -> dict[int, float]:
    """Return each trial's seconds from its start to its end, or to the end of its session if it has no result."""
    spans: dict[int, float] = {}
    started: dict[int, float] = {}
    over = 0.0
    for event in events:
        if event.kind in _OPENINGS:
            spans.update({trial: over - at for trial, at in started.items()})
            started.clear()
        now = active_seconds(sessions, event.sequence, event.wall_time)
        over = max(over, now)
        if event.trial_id is None:
            continue
        if event.kind == "started":
            started[event.trial_id] = now
        elif event.kind in _CLOSINGS and event.trial_id in started:
            spans[event.trial_id] = max(now - started.pop(event.trial_id), 0.0)
    spans.update({trial: over - at for trial, at in started.items()})
    return spans
