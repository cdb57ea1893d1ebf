"""The leaderboard: what a run found, ranked against its seed, with the noise of the seed's own trials beside it.

Pure functions over a store. Only candidates that trained the full budget are ranked, by loss; those stopped at a hurdle
follow with the loss they had there, which is never compared with a full one; faults come last. These rows are
*unconfirmed*: one training a candidate, on the validation text that the search itself selected by, so that the best of
many looks better than it is. What was confirmed stands apart (see `confirmation`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from ..workers.evaluation import Evaluation
from .evolution.candidate import SEED_ID, fitness_of
from .evolution.initial_programs import origins_of
from .leak_checks import Checks, checks_of
from .studies.confirmation import Confirmation, confirmations, retrainings_of
from .studies.ladder import Ladder, ladder_of
from .studies.statistics import prediction_interval
from .wall_clock import SHARES, sessions_of, shares_of_wall_clock

if TYPE_CHECKING:  # keeps sqlite3 out of what only formats a leaderboard
    from .records import Ancestor, FinishedTrial
    from .store import Store

__all__ = ["SHARES", "Ancestry", "Checks", "Leaderboard", "Row", "SeedSummary", "Totals", "leaderboard", "lineage"]

ABOUT = ("command", "seed", "budget_seconds", "dataset_hash", "versions", "machine", "config")
"""Of a run's manifest, what its results depend on."""


@dataclass(frozen=True, slots=True)
class Ancestry:
    """One step to a candidate: the mutations that made it from its parent; at a founder, where it came from."""

    candidate_id: int
    mutations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SeedSummary:
    """What the seed's own trials say; their spread is the noise of fitness.

    Attributes:
        trials: how many trained the full budget.
        loss_nats, bits_per_byte, word_perplexity: means over them; the last for text that counts words.
        spread_nats: sample standard deviation; None below two trials.
        noise_nats: how far from their mean one more training of the seed may well end: half of the 95% prediction
            interval (Student's t), which is wide for few trials; None below two.
        lowest_nats, highest_nats: the best and the worst of them.
        step_ms: mean over them.
    """

    trials: int
    loss_nats: float | None
    bits_per_byte: float | None
    word_perplexity: float | None
    spread_nats: float | None
    noise_nats: float | None
    lowest_nats: float | None
    highest_nats: float | None
    step_ms: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One distinct evaluated candidate. Losses are means where it has several trials.

    Attributes:
        rank: by loss among those that trained the full budget, from 1; None for others.
        id, parent: numbers of the candidate and of its parent.
        outcome: as in `OUTCOME_ADVICE`; message: what happened, for outcomes other than `ok`.
        trials: how many gave this outcome.
        loss_nats, bits_per_byte, word_perplexity: after the full budget; None for others.
        stopped_at_hurdle, hurdle_loss_nats: which hurdle (from 1) stopped it, and its loss there.
        delta_nats: loss minus the seed's mean; negative is better.
        delta_bits_per_byte: the same in bits per byte.
        noise_multiple: the same in multiples of the seed's noise; None if that is unknown or nothing.
        inside_noise: whether one more training of the seed could well differ as much; None if unknown.
        steps, tokens, epochs, step_ms: how it trained.
        speed: the seed's time for a step over this one's; above 1 is faster.
        input_wait_share: of its time of training, what went into waiting for batches.
        parameters, block_parameters, flops_per_token: what it costs.
        lineage: the mutations from the seed to here.
        structure_hash: its identity.
        quarantine: why the loss was suspected, and what cleared it; empty for others.
        unconfirmed: until it is trained anew and compared on the test text.
    """

    rank: int | None
    id: int
    parent: int | None
    outcome: str
    message: str
    trials: int
    loss_nats: float | None
    bits_per_byte: float | None
    word_perplexity: float | None
    stopped_at_hurdle: int | None
    hurdle_loss_nats: float | None
    delta_nats: float | None
    delta_bits_per_byte: float | None
    noise_multiple: float | None
    inside_noise: bool | None
    steps: int
    tokens: int
    epochs: float
    step_ms: float | None
    speed: float | None
    input_wait_share: float | None
    parameters: int | None
    block_parameters: int | None
    flops_per_token: float | None
    lineage: tuple[Ancestry, ...]
    structure_hash: str
    quarantine: str = ""
    unconfirmed: bool = True

    @property
    def verdict(self) -> str:
        """The row against the seed, in words."""
        if self.stopped_at_hurdle is not None:
            return f"stopped at hurdle {self.stopped_at_hurdle}, not comparable with a full budget"
        if self.loss_nats is None:
            return self.message or self.outcome
        if self.delta_nats is None:
            return "the seed has no result to compare with yet"
        if self.id == SEED_ID:
            return "the seed"
        if self.inside_noise is None:
            return "the seed's noise is unknown"
        if self.inside_noise:
            return "inside the seed's noise"
        return f"{'better' if self.delta_nats < 0 else 'worse'} than the seed beyond its noise"


@dataclass(frozen=True, slots=True)
class Totals:
    """The run in numbers.

    Attributes:
        candidates: proposed; evaluated: distinct ones with a result; reused: those that took over a known one.
        outcomes: how many distinct candidates had which outcome.
        trials, lost, cancelled: trainings that finished, whose worker died, that were given up.
        proposals: statistics of proposals, summed over all of them.
        elapsed_seconds: wall clock while a controller was at work.
        worker_seconds: the same times the workers.
        shares: of `worker_seconds`, by `SHARES`.
        full_budgets: what all trainings together spent, in full trial budgets.
        checks: what was checked, and what the checks found.
    """

    candidates: int
    evaluated: int
    reused: int
    outcomes: dict[str, int]
    trials: int
    lost: int
    cancelled: int
    proposals: dict[str, Any]
    elapsed_seconds: float
    worker_seconds: float
    shares: dict[str, float]
    full_budgets: float
    checks: Checks


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """A run's result: the seed's noise, the rows in order, and what was confirmed.

    Attributes:
        founders: where each candidate that was imported came from.
        about: what the run was made with: command, device, versions, seed, text and every setting.
    """

    run: str
    seed: SeedSummary
    rows: tuple[Row, ...]
    totals: Totals
    confirmed: tuple[Confirmation, ...] = ()
    ladder: Ladder | None = None
    founders: Mapping[int, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: what `leaderboard --json` prints."""
        rows = [{**asdict(row), "verdict": row.verdict, "origin": self.founders.get(row.id)} for row in self.rows]
        return {
            "run": self.run,
            "unconfirmed": not self.confirmed,
            "confirmed": [row.to_dict() for row in self.confirmed],
            "ladder": None if self.ladder is None else self.ladder.to_dict(),
            "seed": asdict(self.seed),
            "candidates": rows,
            "totals": asdict(self.totals),
            "about": dict(self.about),
        }


def leaderboard(store: Store, top: int | None = None) -> Leaderboard:
    """Rank everything a run has evaluated so far, and keep the first `top` rows; the run may still be going on."""
    with store.snapshot():
        pedigree, finished, events, manifest = store.pedigree(), store.evaluations(), store.events(), store.manifest
    results = _by_candidate(finished)
    seed = _summary(_representative(results.get(SEED_ID, [])))
    rows = sorted((_row(pedigree[number], found, seed) for number, found in results.items()), key=_order)
    confirmed = confirmations(retrainings_of(events))
    known = {row.candidate_id for row in confirmed}
    rows = [replace(row, unconfirmed=row.id not in known) for row in rows]
    kept = [_placed(row, place, pedigree) for place, row in enumerate(rows[:top], start=1)]
    sessions = sessions_of(events, int(manifest.get("workers") or 1))
    shares, worker_seconds = shares_of_wall_clock(sessions, events, finished)
    kinds = Counter(event.kind for event in events)
    totals = Totals(
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
        checks=checks_of([trial.evaluation for trial in finished], len(pedigree)),
    )
    devices = sorted({trial.evaluation.device for trial in finished if trial.evaluation.device})
    about = {name: manifest.get(name) for name in ABOUT}
    return Leaderboard(
        run=str(store.run.path),
        seed=seed,
        rows=tuple(kept),
        totals=totals,
        confirmed=confirmed,
        ladder=ladder_of(manifest, events),
        founders=origins_of(manifest),
        about={**about, "device": ", ".join(devices)},
    )


def lineage(store: Store, candidate_id: int) -> tuple[Ancestry, ...]:
    """The steps from the seed (left out), or from a founder, to a candidate.

    Raises:
        UsageError: the run has no such candidate.
    """
    return _lineage(store.pedigree(), store.candidate(candidate_id).id)


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
    return fitness_of(evaluation) if evaluation.kind == "ok" else None


def _values(found: Sequence[Evaluation], read: Callable[[Evaluation], float | None]) -> list[float]:
    return [value for value in map(read, found) if value is not None]


def _mean(found: Sequence[Evaluation], read: Callable[[Evaluation], float | None]) -> float | None:
    values = _values(found, read)
    return fmean(values) if values else None


def _summary(found: Sequence[Evaluation]) -> SeedSummary:
    losses = _values(found, _loss)
    noise = prediction_interval(losses).half_width if losses else None
    return SeedSummary(
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


def _row(candidate: Ancestor, found: Sequence[Evaluation], seed: SeedSummary) -> Row:
    """A candidate's row, but for its rank and its lineage."""
    found = _representative(found)
    last, stopped = found[-1], found[-1].kind == "stopped_at_hurdle"
    loss, step_ms = _mean(found, _loss), _mean(found, lambda trial: trial.step_ms)
    bits = _mean(found, lambda trial: trial.bits_per_byte) if loss is not None else None
    delta = _difference(loss, seed.loss_nats)
    return Row(
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
        hurdle_loss_nats=fitness_of(last) if stopped else None,
        delta_nats=delta,
        delta_bits_per_byte=_difference(bits, seed.bits_per_byte),
        noise_multiple=delta / seed.noise_nats if delta is not None and seed.noise_nats else None,
        inside_noise=_inside(loss, seed),
        steps=last.steps,
        tokens=last.tokens,
        epochs=last.epochs,
        step_ms=step_ms,
        speed=_speed(found, step_ms, seed),
        input_wait_share=_mean(found, lambda trial: trial.input_wait_share),
        parameters=last.parameters,
        block_parameters=last.block_parameters,
        flops_per_token=last.flops_per_token,
        lineage=(),
        structure_hash=candidate.structure_hash,
        quarantine=last.quarantine,
    )


def _speed(found: Sequence[Evaluation], step_ms: float | None, seed: SeedSummary) -> float | None:
    """The seed's time for a step over this one's: timed in turns, where it was; else at different times."""
    relative = _mean(found, lambda trial: trial.relative_step)
    if relative:
        return 1.0 / relative
    return seed.step_ms / step_ms if seed.step_ms and step_ms else None


def _difference(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else value - reference


def _inside(loss: float | None, seed: SeedSummary) -> bool | None:
    """Whether one more training of the seed could well have ended there."""
    if loss is None or seed.noise_nats is None or seed.loss_nats is None:
        return None
    return abs(loss - seed.loss_nats) <= seed.noise_nats


def _order(row: Row) -> tuple[int, int, float, int]:
    if row.loss_nats is not None:
        return (0, 0, row.loss_nats, row.id)
    if row.stopped_at_hurdle is not None and row.hurdle_loss_nats is not None:
        return (1, -row.stopped_at_hurdle, row.hurdle_loss_nats, row.id)
    return (2, 0, 0.0, row.id)


def _placed(row: Row, place: int, pedigree: Mapping[int, Ancestor]) -> Row:
    return replace(row, rank=place if row.loss_nats is not None else None, lineage=_lineage(pedigree, row.id))


def _lineage(pedigree: Mapping[int, Ancestor], candidate_id: int) -> tuple[Ancestry, ...]:
    steps: list[Ancestry] = []
    candidate = pedigree[candidate_id]
    while candidate.id != SEED_ID:
        steps.append(Ancestry(candidate.id, candidate.mutations))
        if candidate.parent is None:  # a founder, or a random program
            break
        candidate = pedigree[candidate.parent]
    return tuple(reversed(steps))


def _summed(statistics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Numbers added up key by key, at any depth; what is no number is left out."""
    totals: dict[str, Any] = {}
    for key in dict.fromkeys(key for each in statistics for key in each):
        values = [each[key] for each in statistics if key in each]
        if nested := [value for value in values if isinstance(value, Mapping)]:
            totals[key] = _summed(nested)
        elif numbers := [value for value in values if isinstance(value, int | float)]:
            totals[key] = sum(numbers)
    return totals
