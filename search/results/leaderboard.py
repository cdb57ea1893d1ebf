"""The leaderboard: candidates ranked by loss, relative to the baseline and the noise of the baseline's own trials.

Only candidates that trained the full budget are ranked. Those that diverged in another training follow, then those
that a hurdle stopped: their losses are never compared with losses after the full budget. Faults come last. The ranks
are *unconfirmed*: most come from one training, scored on the validation text that the search also selects by, so the
best of many candidates looks better than it is. Results of retraining are listed separately (see `confirmation`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from ...workers.protocol import Evaluation
from ..evolution.candidate import BASELINE_ID, evaluation_fitness
from ..evolution.initial_programs import initial_program_origins
from ..runs.time_accounting import find_sessions, shares_of_wall_clock
from .confirmation import confirmations, read_retrainings, retrained_candidates
from .equal_time import equal_time_deltas
from .leaderboard_rows import BaselineSummary, Leaderboard, LeaderboardRow, RunTotals
from .lineage import trace_lineage
from .scale_ladder import build_ladder
from .statistics import known_mean, prediction_interval
from .trust.leak_check_totals import count_leak_checks
from .trust.prediction_calibration import calibrate_predictions

if TYPE_CHECKING:  # loads SQLite
    from ..runs.records import Ancestor
    from ..runs.store_reader import StoreReader

__all__ = [
    "baseline_summary",
    "best_row",
    "candidate_row",
    "full_budget",
    "leaderboard",
    "leading_candidate",
    "row_order",
    "sum_by_key",
    "with_equal_time",
]

ABOUT = ("command", "seed", "budget_seconds", "dataset_hash", "versions", "machine", "config")
"""Entries of a run's manifest that its results depend on."""


def leaderboard(store: StoreReader, top: int | None = None) -> Leaderboard:
    """Return the leaderboard of a run, which may be in progress, with the first `top` rows; None: all rows."""
    with store.snapshot():
        ancestry, finished, events, manifest = store.ancestry(), store.evaluations(), store.events(), store.manifest
        hurdles = store.hurdles()
    results: dict[int, list[Evaluation]] = defaultdict(list)
    for trial in finished:
        results[trial.candidate_id].append(trial.evaluation)
    baseline = baseline_summary(results.get(BASELINE_ID, []))
    equal_time = equal_time_deltas(manifest, finished)
    rows = (candidate_row(ancestry[number], found, baseline) for number, found in results.items())
    rows = sorted((with_equal_time(row, equal_time.get(row.id), baseline.noise_nats) for row in rows), key=row_order)
    confirmed = confirmations(read_retrainings(events))
    confirmed_ids = {row.candidate_id for row in confirmed}
    top_rows = [
        replace(
            row,
            rank=place if row.comparable else None,
            lineage=trace_lineage(ancestry, row.id),
            unconfirmed=row.id not in confirmed_ids,
        )
        for place, row in enumerate(rows[:top], start=1)
    ]
    workers = int(manifest.get("workers") or 1)
    sessions = find_sessions(events, workers)
    shares, worker_seconds = shares_of_wall_clock(events, finished, workers)
    kinds = Counter(event.kind for event in events)
    totals = RunTotals(
        candidates=len(ancestry),
        evaluated=len(rows),
        reused=kinds["reused"],
        outcomes=dict(Counter(row.outcome for row in rows).most_common()),
        trials=len(finished),
        lost=kinds["worker_lost"],
        cancelled=kinds["cancelled"],
        proposals=sum_by_key([event.payload for event in events if event.kind == "proposed"]),
        elapsed_seconds=sum(session.seconds for session in sessions),
        worker_seconds=worker_seconds,
        shares=shares,
        full_budgets=sum(trial.evaluation.spent for trial in finished) / full_budget(manifest),
        checks=count_leak_checks([trial.evaluation for trial in finished], len(ancestry)),
    )
    devices = sorted({trial.evaluation.device for trial in finished if trial.evaluation.device})
    about = {name: manifest.get(name) for name in ABOUT}
    return Leaderboard(
        run=str(store.run.path),
        baseline=baseline,
        rows=tuple(top_rows),
        totals=totals,
        confirmed=confirmed,
        ladder=build_ladder(manifest, events),
        predictions=calibrate_predictions(manifest, ancestry, events, finished, hurdles),
        initial_programs=initial_program_origins(manifest),
        about={**about, "device": ", ".join(devices)},
    )


def full_budget(manifest: Mapping[str, Any]) -> float:
    """Return the full budget of a trial, in the trial's unit."""
    trial = manifest.get("config", {}).get("trial", {})
    return float(trial.get("budget_steps" if trial.get("unit") == "steps" else "budget_seconds", 1.0))


def _representative(found: Sequence[Evaluation]) -> list[Evaluation]:
    """Return a candidate's evaluations with the full budget, or else those with the same outcome as the last one."""
    full = [evaluation for evaluation in found if _loss(evaluation) is not None]
    return full or [evaluation for evaluation in found if evaluation.kind == found[-1].kind]


def _loss(evaluation: Evaluation) -> float | None:
    """Return the loss after the full budget, or None if the trial did not reach it."""
    return evaluation_fitness(evaluation) if evaluation.kind == "ok" else None


def _mean(found: Sequence[Evaluation], field: str) -> float | None:
    return known_mean(getattr(evaluation, field) for evaluation in found)


def baseline_summary(found: Sequence[Evaluation]) -> BaselineSummary:
    """Return the summary of the baseline's evaluations."""
    found = _representative(found) if found else []
    losses = [loss for evaluation in found if (loss := _loss(evaluation)) is not None]
    return BaselineSummary(
        trials=len(losses),
        loss_nats=fmean(losses) if losses else None,
        bits_per_byte=_mean(found, "bits_per_byte") if losses else None,
        word_perplexity=_mean(found, "word_perplexity") if losses else None,
        spread_nats=stdev(losses) if len(losses) > 1 else None,
        noise_nats=prediction_interval(losses).half_width if losses else None,
        lowest_nats=min(losses, default=None),
        highest_nats=max(losses, default=None),
        step_ms=_mean(found, "step_ms"),
        relative_step=_mean(found, "relative_step"),
    )


def candidate_row(candidate: Ancestor, found: Sequence[Evaluation], baseline: BaselineSummary) -> LeaderboardRow:
    """Return the row of a candidate with evaluations, without its rank, its lineage and its loss at equal time."""
    diverged = sum(evaluation.diverged for evaluation in found)
    found = _representative(found)
    last, stopped = found[-1], found[-1].kind == "stopped_at_hurdle"
    loss, step_ms = known_mean(map(_loss, found)), _mean(found, "step_ms")
    bits = _mean(found, "bits_per_byte") if loss is not None else None
    delta, noise = _difference(loss, baseline.loss_nats), baseline.noise_nats
    return LeaderboardRow(
        rank=None,
        id=candidate.id,
        parent=candidate.parent,
        outcome=last.outcome,
        message=last.message,
        trials=len(found),
        loss_nats=loss,
        bits_per_byte=bits,
        word_perplexity=_mean(found, "word_perplexity") if loss is not None else None,
        stopped_at_hurdle=len(last.hurdle_losses) if stopped else None,
        hurdle_loss_nats=evaluation_fitness(last) if stopped else None,
        delta_nats=delta,
        delta_bits_per_byte=_difference(bits, baseline.bits_per_byte),
        noise_multiple=delta / noise if delta is not None and noise else None,
        inside_noise=abs(delta) <= noise if delta is not None and noise is not None else None,
        steps=last.steps,
        tokens=last.tokens,
        epochs=last.epochs,
        step_ms=step_ms,
        speed=_speed(found, step_ms, baseline),
        input_wait_share=_mean(found, "input_wait_share"),
        parameters=last.parameters,
        block_parameters=last.block_parameters,
        flops_per_token=last.flops_per_token,
        lineage=(),
        structure_hash=candidate.structure_hash,
        quarantine=last.quarantine,
        diverged=diverged if loss is not None else 0,
    )


def with_equal_time(row: LeaderboardRow, delta_nats: float | None, noise_nats: float | None) -> LeaderboardRow:
    """Add the difference at equal time to a row, and compare the worse of the two differences with the noise."""
    if delta_nats is None or row.delta_nats is None or not row.loss_nats:
        return row
    worse = max(delta_nats, row.delta_nats)
    return replace(
        row,
        equal_time_delta_nats=delta_nats,
        equal_time_delta_bits_per_byte=_scaled(row.bits_per_byte, delta_nats / row.loss_nats),
        noise_multiple=worse / noise_nats if noise_nats else None,
        inside_noise=abs(worse) <= noise_nats if noise_nats is not None else None,
    )


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _speed(found: Sequence[Evaluation], step_ms: float | None, baseline: BaselineSummary) -> float | None:
    """Return the baseline's step time divided by the candidate's; steps that were timed in turns are preferred."""
    relative = _mean(found, "relative_step")
    if relative:
        return (baseline.relative_step or 1.0) / relative
    return baseline.step_ms / step_ms if baseline.step_ms and step_ms else None


def _difference(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else value - reference


def row_order(row: LeaderboardRow) -> tuple[int, int, float, int]:
    """Return the key by which rows are ordered: ranked rows from the best, then stopped trainings, then faults."""
    if row.loss_nats is not None:
        return (0, int(row.diverged > 0), row.ranking_nats or row.loss_nats, row.id)
    if row.stopped_at_hurdle is not None and row.hurdle_loss_nats is not None:
        return (1, -row.stopped_at_hurdle, row.hurdle_loss_nats, row.id)
    return (2, 0, 0.0, row.id)


def sum_by_key(statistics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up numbers key by key, at any depth, and leave out other values."""
    totals: dict[str, Any] = {}
    for key in dict.fromkeys(key for each in statistics for key in each):
        values = [each[key] for each in statistics if key in each]
        if nested := [value for value in values if isinstance(value, Mapping)]:
            totals[key] = sum_by_key(nested)
        elif numbers := [value for value in values if isinstance(value, int | float)]:
            totals[key] = sum(numbers)
    return totals


def best_row(rows: Sequence[LeaderboardRow]) -> LeaderboardRow | None:
    """Return the first ranked row that is not the baseline's."""
    return next((row for row in rows if row.rank is not None and row.id != BASELINE_ID), None)


def leading_candidate(board: Leaderboard) -> int | None:
    """Return the id of the best retrained candidate, or else of the best of the search; None without results."""
    best = best_row(board.rows)
    return next(iter(retrained_candidates(board.confirmed)), None if best is None else best.id)
