"""The leaderboard as data: its rows, the baseline's noise, and the run's totals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ..evolution.candidate import BASELINE_ID
from .confirmation import Confirmation
from .leak_check_totals import LeakCheckTotals
from .scale_ladder import Ladder

if TYPE_CHECKING:
    pass
from .lineage import LineageStep

__all__ = ["BaselineSummary", "Leaderboard", "LeaderboardRow", "RunTotals"]


@dataclass(frozen=True, slots=True)
class BaselineSummary:
    """What the baseline's own trials say; their spread is the noise of fitness.

    Attributes:
        trials: how many trained the full budget.
        loss_nats, bits_per_byte, word_perplexity: means over them; the last for text that counts words.
        spread_nats: sample standard deviation; None below two trials.
        noise_nats: how far from their mean one more training of the baseline may well end: half of the 95% prediction
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
class LeaderboardRow:
    """One distinct evaluated candidate. Losses are means where it has several trials.

    Attributes:
        rank: by loss among those that trained the full budget, from 1; None for others.
        id, parent: numbers of the candidate and of its parent.
        outcome: as in `OUTCOME_ADVICE`; message: what happened, for outcomes other than `ok`.
        trials: how many gave this outcome.
        loss_nats, bits_per_byte, word_perplexity: after the full budget; None for others.
        stopped_at_hurdle, hurdle_loss_nats: which hurdle (from 1) stopped it, and its loss there.
        delta_nats: loss minus the baseline's mean; negative is better.
        delta_bits_per_byte: the same in bits per byte.
        noise_multiple: the same in multiples of the baseline's noise; None if that is unknown or nothing.
        inside_noise: whether one more training of the baseline could well differ as much; None if unknown.
        steps, tokens, epochs, step_ms: how it trained.
        speed: the baseline's time for a step over this one's; above 1 is faster.
        input_wait_share: of its time of training, what went into waiting for batches.
        parameters, block_parameters, flops_per_token: what it costs.
        lineage: the mutations from the baseline to here.
        structure_hash: its identity.
        quarantine: why the loss was suspected, and what cleared it; empty for others.
        unconfirmed: whether the candidate still lacks a retraining compared on the test text.
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
    lineage: tuple[LineageStep, ...]
    structure_hash: str
    quarantine: str = ""
    unconfirmed: bool = True

    @property
    def verdict(self) -> str:
        """The row against the baseline, in words."""
        if self.stopped_at_hurdle is not None:
            return f"stopped at hurdle {self.stopped_at_hurdle}, not comparable with a full budget"
        if self.loss_nats is None:
            return self.message or self.outcome
        if self.delta_nats is None:
            return "the baseline has no result to compare with yet"
        if self.id == BASELINE_ID:
            return "the baseline"
        if self.inside_noise is None:
            return "the baseline's noise is unknown"
        if self.inside_noise:
            return "inside the baseline's noise"
        return f"{'better' if self.delta_nats < 0 else 'worse'} than the baseline beyond its noise"


@dataclass(frozen=True, slots=True)
class RunTotals:
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
    checks: LeakCheckTotals


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """A run's result: the baseline's noise, the rows in order, and what was confirmed.

    Attributes:
        initial programs: where each candidate that was imported came from.
        about: what the run was made with: command, device, versions, random seed, text and every setting.
    """

    run: str
    baseline: BaselineSummary
    rows: tuple[LeaderboardRow, ...]
    totals: RunTotals
    confirmed: tuple[Confirmation, ...] = ()
    ladder: Ladder | None = None
    initial_programs: Mapping[int, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: what `leaderboard --json` prints."""
        rows = [
            {**asdict(row), "verdict": row.verdict, "origin": self.initial_programs.get(row.id)} for row in self.rows
        ]
        return {
            "run": self.run,
            "unconfirmed": not self.confirmed,
            "confirmed": [row.to_dict() for row in self.confirmed],
            "ladder": None if self.ladder is None else self.ladder.to_dict(),
            "baseline": asdict(self.baseline),
            "candidates": rows,
            "totals": asdict(self.totals),
            "about": dict(self.about),
        }
