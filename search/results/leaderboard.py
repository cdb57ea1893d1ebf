"""The leaderboard: candidates ranked by loss against the baseline, beside the noise of the baseline's own trials.

Pure functions over a store. Only candidates that trained the full budget are ranked, by loss; those stopped at a hurdle
follow with the loss they had there, which is never compared with a full one; faults come last. These rows are
*unconfirmed*: one training a candidate, on the validation text that the search itself selected by, so that the best of
many looks better than it is. What was confirmed stands apart (see `confirmation`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from ...workers.protocol import Evaluation
from ..evolution.candidate import BASELINE_ID, evaluation_fitness
from ..evolution.initial_programs import initial_program_origins
from ..runs.time_accounting import SHARES, find_sessions, shares_of_wall_clock
from .confirmation import confirmations, read_retrainings
from .leaderboard_rows import BaselineSummary, Leaderboard, LeaderboardRow, RunTotals
from .leak_check_totals import LeakCheckTotals, count_leak_checks
from .lineage import trace_lineage
from .scale_ladder import build_ladder
from .statistics import prediction_interval

if TYPE_CHECKING:  # keeps sqlite3 out of what only formats a leaderboard
    from ..runs.records import Ancestor, FinishedTrial
    from ..runs.store import Store

__all__ = ["SHARES", "LeakCheckTotals", "best_row", "leaderboard"]

ABOUT = ("command", "seed", "budget_seconds", "dataset_hash", "versions", "machine", "config")
"""Of a run's manifest, what its results depend on."""


def leaderboard(store: Store, top: int | None = None) -> Leaderboard:
    """Rank everything a run has evaluated so far, and keep the first `top` rows; the run may still be going on."""
    with store.snapshot():
        pedigree, finished, events, manifest = store.pedigree(), store.evaluations(), store.events(), store.manifest
    results = _by_candidate(finished)
    baseline = _summary(_representative(results.get(BASELINE_ID, [])))
    rows = sorted((_row(pedigree[number], found, baseline) for number, found in results.items()), key=_order)
    confirmed = confirmations(read_retrainings(events))
    known = {row.candidate_id for row in confirmed}
    rows = [replace(row, unconfirmed=row.id not in known) for row in rows]
    kept = [_placed(row, place, pedigree) for place, row in enumerate(rows[:top], start=1)]
    sessions = find_sessions(events, int(manifest.get("workers") or 1))
    shares, worker_seconds = shares_of_wall_clock(sessions, events, finished)
    kinds = Counter(event.kind for event in events)
    totals = RunTotals(
        candidates=len(pedigree),
        evaluated=len(rows),
        reused=kinds["reused"],
        outcomes=dict(Counter(row.outcome for row in rows).most_common()),
        trials=len(finished),
        lost=kinds["worker_lost"],
        cancelled=kinds["cancelled"],
        proposals=_summed([event.payload for event in events if event.kind == "proposed"]),
        elapsed_seconds=sum(session.seconds for session in sessions),
        worker_seconds=worker_seconds,
        shares=shares,
        full_budgets=sum(trial.evaluation.spent for trial in finished) / _budget(manifest),
        checks=count_leak_checks([trial.evaluation for trial in finished], len(pedigree)),
    )
    devices = sorted({trial.evaluation.device for trial in finished if trial.evaluation.device})
    about = {name: manifest.get(name) for name in ABOUT}
    return Leaderboard(
        run=str(store.run.path),
        baseline=baseline,
        rows=tuple(kept),
        totals=totals,
        confirmed=confirmed,
        ladder=build_ladder(manifest, events),
        initial_programs=initial_program_origins(manifest),
        about={**about, "device": ", ".join(devices)},
    )


def _budget(manifest: Mapping[str, Any]) -> float:
    """The full budget of a trial, in its unit."""
    trial = manifest.get("config", {}).get("trial", {})
    return float(trial.get("budget_steps" if trial.get("unit") == "steps" else "budget_seconds", 1.0))


def _by_candidate(finished: Sequence[FinishedTrial]) -> dict[int, list[Evaluation]]:
    results: dict[int, list[Evaluation]] = defaultdict(list)
    for trial in finished:
        results[trial.candidate_id].append(trial.evaluation)
    return results


def _representative(found: Sequence[Evaluation]) -> list[Evaluation]:
    """The evaluations that speak for a candidate: its full budgets if any, else those that ended like its last."""
    full = [evaluation for evaluation in found if _loss(evaluation) is not None]
    return full or [evaluation for evaluation in found if evaluation.kind == found[-1].kind]


def _loss(evaluation: Evaluation) -> float | None:
    """The loss after the full budget, if there is one."""
    return evaluation_fitness(evaluation) if evaluation.kind == "ok" else None


def _values(found: Sequence[Evaluation], read: Callable[[Evaluation], float | None]) -> list[float]:
    return [value for value in map(read, found) if value is not None]


def _mean(found: Sequence[Evaluation], read: Callable[[Evaluation], float | None]) -> float | None:
    values = _values(found, read)
    return fmean(values) if values else None


def _summary(found: Sequence[Evaluation]) -> BaselineSummary:
    losses = _values(found, _loss)
    noise = prediction_interval(losses).half_width if losses else None
    return BaselineSummary(
        trials=len(losses),
        loss_nats=fmean(losses) if losses else None,
        bits_per_byte=_mean(found, lambda trial: trial.bits_per_byte) if losses else None,
        word_perplexity=_mean(found, lambda trial: trial.word_perplexity) if losses else None,
        spread_nats=stdev(losses) if len(losses) > 1 else None,
        noise_nats=noise,
        lowest_nats=min(losses, default=None),
        highest_nats=max(losses, default=None),
        step_ms=_mean(found, lambda trial: trial.step_ms),
    )


def _row(candidate: Ancestor, found: Sequence[Evaluation], baseline: BaselineSummary) -> LeaderboardRow:
    """Build a candidate's row without rank and lineage."""
    found = _representative(found)
    last, stopped = found[-1], found[-1].kind == "stopped_at_hurdle"
    loss, step_ms = _mean(found, _loss), _mean(found, lambda trial: trial.step_ms)
    bits = _mean(found, lambda trial: trial.bits_per_byte) if loss is not None else None
    delta = _difference(loss, baseline.loss_nats)
    return LeaderboardRow(
        rank=None,
        id=candidate.id,
        parent=candidate.parent,
        outcome=last.outcome,
        message=last.message,
        trials=len(found),
        loss_nats=loss,
        bits_per_byte=bits,
        word_perplexity=_mean(found, lambda trial: trial.word_perplexity) if loss is not None else None,
        stopped_at_hurdle=len(last.hurdle_losses) if stopped else None,
        hurdle_loss_nats=evaluation_fitness(last) if stopped else None,
        delta_nats=delta,
        delta_bits_per_byte=_difference(bits, baseline.bits_per_byte),
        noise_multiple=delta / baseline.noise_nats if delta is not None and baseline.noise_nats else None,
        inside_noise=_inside(loss, baseline),
        steps=last.steps,
        tokens=last.tokens,
        epochs=last.epochs,
        step_ms=step_ms,
        speed=_speed(found, step_ms, baseline),
        input_wait_share=_mean(found, lambda trial: trial.input_wait_share),
        parameters=last.parameters,
        block_parameters=last.block_parameters,
        flops_per_token=last.flops_per_token,
        lineage=(),
        structure_hash=candidate.structure_hash,
        quarantine=last.quarantine,
    )


def _speed(found: Sequence[Evaluation], step_ms: float | None, baseline: BaselineSummary) -> float | None:
    """The baseline's time for a step over this one's: timed in turns, where it was; else at different times."""
    relative = _mean(found, lambda trial: trial.relative_step)
    if relative:
        return 1.0 / relative
    return baseline.step_ms / step_ms if baseline.step_ms and step_ms else None


def _difference(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else value - reference


def _inside(loss: float | None, baseline: BaselineSummary) -> bool | None:
    """Whether one more training of the baseline could well have ended there."""
    if loss is None or baseline.noise_nats is None or baseline.loss_nats is None:
        return None
    return abs(loss - baseline.loss_nats) <= baseline.noise_nats


def _order(row: LeaderboardRow) -> tuple[int, int, float, int]:
    if row.loss_nats is not None:
        return (0, 0, row.loss_nats, row.id)
    if row.stopped_at_hurdle is not None and row.hurdle_loss_nats is not None:
        return (1, -row.stopped_at_hurdle, row.hurdle_loss_nats, row.id)
    return (2, 0, 0.0, row.id)


def _placed(row: LeaderboardRow, place: int, pedigree: Mapping[int, Ancestor]) -> LeaderboardRow:
    return replace(row, rank=place if row.loss_nats is not None else None, lineage=trace_lineage(pedigree, row.id))


def _summed(statistics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up numbers key by key, at any depth; leave out other values."""
    totals: dict[str, Any] = {}
    for key in dict.fromkeys(key for each in statistics for key in each):
        values = [each[key] for each in statistics if key in each]
        if nested := [value for value in values if isinstance(value, Mapping)]:
            totals[key] = _summed(nested)
        elif numbers := [value for value in values if isinstance(value, int | float)]:
            totals[key] = sum(numbers)
    return totals


def best_row(rows: Sequence[LeaderboardRow]) -> LeaderboardRow | None:
    """The first candidate other than the baseline that trained its full budget."""
    return next((row for row in rows if row.rank is not None and row.id != BASELINE_ID), None)
