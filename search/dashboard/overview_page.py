"""The overview of a run, its progress figure, the state that pages poll, and the start page."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable
from typing import Any

from ...system.durations import format_duration
from ..evolution.candidate import candidate_name
from ..reports.formatting import format_number
from ..reports.phrases import PROPOSAL_WORDS, UNCONFIRMED, headline, run_facts, search_leader
from ..reports.progress.search_progress import OUTCOME_WORDS
from ..results.confirmation import retrained_candidates
from ..results.digest.proposal_counts import count_proposals
from ..results.digest.row_query import count_better
from ..results.digest.run_digest import RunDigest
from ..results.leaderboard import best_row, leading_candidate
from ..results.leaderboard_rows import Leaderboard
from ..runs.time_accounting import SHARES
from .progress_curve import AXES, overview_figure
from .rendering import render
from .requests import Request, Response, Route, json_response

__all__ = ["routes"]

_FACTS = ("baseline", "words", "initial programs", "checks", "cost")
"""Facts of `run_facts` that need only the best rows. The page shows the other facts as tables."""

_QUESTIONS = {
    "program": "what it changed",
    "checks": "whether to believe it",
    "ancestry": "where its gain comes from",
    "use": "how to use it",
}
"""Questions about the best candidate, by the section of its page that answers them."""


def routes() -> list[Route]:
    """Return the start page, the overview of each run with its figure, and the state that pages poll."""
    return [
        Route("/", _start),
        Route("/runs/{run}", _overview),
        Route("/runs/{run}/progress.json", _progress),
        Route("/runs/{run}/state.json", _state),
    ]


def _start(request: Request) -> Response:
    """Redirect to the only run, or to the comparison of several runs."""
    location = "/compare" if len(request.runs) > 1 else f"/runs/{next(iter(request.runs))}"
    return Response("", status=307, headers={"Location": location})


def _overview(request: Request) -> Response:
    axis, running = request.choice("x", AXES, "time"), request.run.running
    with request.run.digest() as (digest, store):
        board, better = digest.board(store), count_better(digest.table, digest.baseline)
        values: dict[str, Any] = {
            "headline": headline(board),
            "leader": search_leader(board),
            "warning": "" if board.confirmed else UNCONFIRMED,
            "best": leading_candidate(board),
            "priced": digest.priced,
            "tiles": _tiles(board, digest, running, better),
            "facts": [(name, text) for name, text in run_facts(board) if name in _FACTS],
            "survival": _survival(digest),
            "outcomes": _bars(board.totals.outcomes.items(), board.totals.evaluated),
            "funnel": _funnel(board, better),
            "refused": _refused(board),
            "merges": board.totals.evaluated - 1 > count_proposals(board.totals.proposals).new,
            "shares": [(name, share, SHARES[name]) for name, share in board.totals.shares.items() if share >= 0.0005],
            "settings": _settings(digest),
            "read": digest.share_read(store),
        }
    values["confirm"] = f"primer-search confirm {shlex.quote(str(request.run.directory.path))} --top 3"
    return render(request, "overview.html.j2", "Overview", axis=axis, axes=tuple(AXES), questions=_QUESTIONS, **values)


def _progress(request: Request) -> Response:
    axis = request.choice("x", AXES, "time")
    with request.run.digest() as (digest, _):
        return json_response(overview_figure(digest, axis))


def _state(request: Request) -> Response:
    """Return the state by which a page notices changes of the run. It costs one look-up."""
    with request.run.read() as store:
        last = store.last_sequence()
    return json_response({"last": last, "read": request.run.events_read, "running": request.run.running})


def _tiles(board: Leaderboard, digest: RunDigest, running: bool, better: int) -> list[tuple[str, str, str]]:
    """Return name, value and remark of each key figure at the top of the page."""
    totals, best, baseline = board.totals, best_row(board.rows), board.baseline
    noise = "" if baseline.noise_nats is None else f"± {baseline.noise_nats:.4f} noise, n={baseline.trials}"
    tiles = [("baseline, nats", format_number(baseline.loss_nats), noise)]
    if best is not None:
        difference = best.delta_bits_per_byte
        equal_time = best.equal_time_delta_bits_per_byte
        timed = "" if equal_time is None else f" ({equal_time:+.4f} at equal time)"
        remark = f"{format_number(difference, '+.4f')} bits/byte{timed}, {best.verdict}"
        tiles.insert(0, (f"best of the search {candidate_name(best.id)}, nats", format_number(best.loss_nats), remark))
    full = totals.outcomes.get("ok", 0)
    tiles += [
        ("candidates", f"{totals.candidates:,}", f"{totals.evaluated:,} evaluated, {full:,} in full"),
        ("better than the baseline", f"{better:,}", f"beyond its noise in the search; {_confirmed(board)}"),
        ("search time", format_duration(totals.elapsed_seconds), f"{totals.trials:,} trainings"),
    ]
    return [*tiles, _time_left(digest, running)]


def _confirmed(board: Leaderboard) -> str:
    """Return how many of the retrained candidates are confirmed to be better than the baseline."""
    retrained = retrained_candidates(board.confirmed)
    better = sum(row.better for row in retrained.values())
    return f"{better:,} of {len(retrained):,} retrained confirmed" if retrained else "unconfirmed"


def _time_left(digest: RunDigest, running: bool) -> tuple[str, str, str]:
    budget, session = float(digest.manifest.get("budget_seconds") or 0.0), digest.account.session
    if session is None or not budget:
        return ("time left", "–", "the run has no time budget")
    since = max(time.time() - session.end, 0.0) if running else 0.0
    left = max(budget - digest.account.elapsed_seconds - since, 0.0)
    return (
        "time left",
        format_duration(left) if running else "–",
        f"of {format_duration(budget)}" if running else "not running",
    )


def _bars(counts: Iterable[tuple[str, int]], total: int) -> list[tuple[str, int, float]]:
    """Return name, count and share of the total of each outcome."""
    return [
        (OUTCOME_WORDS.get(name, name.replace("_", " ").replace(":", ": ")), count, count / max(total, 1))
        for name, count in counts
    ]


def _survival(digest: RunDigest) -> list[tuple[str, int, float, int]]:
    """Return for each hurdle: name, trainings that reached it, their share of all, and trainings that it stopped."""
    whole = max(digest.survival.trainings, 1)
    return [
        (
            "trained in full" if step.hurdle is None else f"hurdle {step.hurdle}",
            step.reached,
            step.reached / whole,
            step.stopped,
        )
        for step in digest.survival.steps()
    ]


def _funnel(board: Leaderboard, better: int) -> list[tuple[str, int, float]]:
    """Return the steps from a mutation to a candidate better than the baseline, each as a share of the first."""
    counts, totals = count_proposals(board.totals.proposals), board.totals
    if not counts.tried:
        return []
    steps = [
        ("random programs" if counts.random else "mutations tried", counts.tried),
        ("valid programs", counts.tried - sum(counts.invalid.values())),
        ("new programs", counts.new),
        ("evaluated", totals.evaluated),
        ("trained in full", totals.outcomes.get("ok", 0)),
        ("better beyond noise", better),
    ]
    return [(name, count, count / counts.tried) for name, count in steps]


def _refused(board: Leaderboard) -> list[tuple[str, int]]:
    """Return the reasons why mutations gave no new program, with counts, most frequent first."""
    counts = count_proposals(board.totals.proposals)
    invalid = {f"invalid: {name.replace('_', ' ')}": count for name, count in counts.invalid.items()}
    known = {PROPOSAL_WORDS.get(name, name.replace("_", " ")): count for name, count in counts.known.items()}
    return sorted((invalid | known).items(), key=lambda item: -item[1])


def _settings(digest: RunDigest) -> list[tuple[str, str]]:
    manifest = digest.manifest
    config = manifest.get("config", {})
    facts = {
        "command": manifest.get("command"),
        "strategy": config.get("search", {}).get("strategy"),
        "random seed": manifest.get("seed"),
        "workers": manifest.get("workers"),
        "text": config.get("data", {}).get("source"),
        "machine": manifest.get("machine"),
    }
    return [(name, str(value)) for name, value in facts.items() if value is not None]
