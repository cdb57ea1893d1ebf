"""The leaderboard as data: its rows, the baseline's noise, and the run's totals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ...workers.protocol import loss_unit
from ..evolution.candidate import BASELINE_ID
from .confirmation import Confirmation
from .lineage import LineageStep
from .scale_ladder import Ladder
from .trust.leak_check_totals import LeakCheckTotals
from .trust.prediction_calibration import PredictionCalibration

__all__ = ["BaselineSummary", "Leaderboard", "LeaderboardRow", "RunTotals", "ranking_loss"]


@dataclass(frozen=True, slots=True)
class BaselineSummary:
    """Results of the baseline's trials; their spread is the noise of a loss.

    Attributes:
        trials: number of trials with the full budget.
        loss_nats, bits_per_byte: mean over these trials.
        word_perplexity: mean over these trials; None unless the text counts words.
        spread_nats: sample standard deviation of the losses; None below two trials.
        noise_nats: half width of the 95% prediction interval (Student's t) for one more trial; None below two trials.
        lowest_nats, highest_nats: lowest and highest loss.
        step_ms: mean time of a step.
        relative_step: relative step time of the baseline itself, which differs from 1 only by a bias of the timing.
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
    relative_step: float | None = None


@dataclass(frozen=True, slots=True)
class LeaderboardRow:
    """One distinct evaluated candidate. Values of several trials are averaged.

    Attributes:
        rank: rank by `ranking_nats`, from 1; None without a full trial, or if another trial diverged.
        id, parent: ids of the candidate and of its parent.
        outcome: outcome of the last trial, a key of `OUTCOME_ADVICE`.
        message: explanation of an outcome other than `ok`.
        trials: number of trials that the row averages.
        loss_nats, bits_per_byte, word_perplexity: results after the full budget; None without a full trial.
        stopped_at_hurdle: hurdle that stopped the candidate, from 1; None if none did.
        hurdle_loss_nats: loss at that hurdle.
        delta_nats: loss minus the baseline's mean; negative is better.
        delta_bits_per_byte: the same difference in bits per byte.
        equal_time_delta_nats: estimated difference after the same time, where trainings are counted in steps; None for
            other runs.
        equal_time_delta_bits_per_byte: the same difference in bits per byte.
        noise_multiple: the worse of these two differences, in multiples of the baseline's noise; None if the noise is
            unknown or zero.
        inside_noise: whether that difference is within the baseline's noise; None if unknown.
        steps, tokens, epochs: amount of training.
        step_ms: time of a step.
        speed: the baseline's step time divided by the candidate's; above 1 is faster.
        input_wait_share: share of the training time spent waiting for batches.
        parameters, block_parameters, flops_per_token: size and cost of the model.
        lineage: edits that lead from the baseline to the candidate.
        structure_hash: hash of the canonical dataflow graph.
        quarantine: why the loss was suspicious, and what cleared it; empty if it was not.
        unconfirmed: whether the candidate has not been retrained and scored on the test text.
        diverged: number of trials that diverged, if the candidate also has full trials; otherwise 0.
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
    equal_time_delta_nats: float | None = None
    equal_time_delta_bits_per_byte: float | None = None
    diverged: int = 0

    @property
    def comparable(self) -> bool:
        """Whether the candidate trained its full budget and never diverged; only such rows have a rank."""
        return self.loss_nats is not None and not self.diverged

    @property
    def ranking_nats(self) -> float | None:
        """The loss by which the row is ranked: after equal steps or after equal time, whichever is worse."""
        if self.loss_nats is None or self.delta_nats is None or self.equal_time_delta_nats is None:
            return self.loss_nats
        return ranking_loss(self.loss_nats, self.delta_nats, self.equal_time_delta_nats)

    @property
    def ranking_delta_bits_per_byte(self) -> float | None:
        """The worse of the differences to the baseline after equal steps and equal time, in bits per byte."""
        known = (self.delta_bits_per_byte, self.equal_time_delta_bits_per_byte)
        return max((each for each in known if each is not None), default=None)

    @property
    def price(self) -> float | None:
        """The step time relative to the baseline's; below 1 is faster."""
        return 1.0 / self.speed if self.speed else None

    @property
    def better(self) -> bool | None:
        """Whether the candidate is better by more than the noise, at equal steps and at equal time; None if unknown."""
        if self.delta_nats is None or self.inside_noise is None:
            return None
        return max(self._deltas(self.delta_nats)) < 0 and not self.inside_noise and not self.diverged

    @property
    def verdict(self) -> str:
        """The comparison with the baseline as text."""
        if self.stopped_at_hurdle is not None:
            return f"stopped at hurdle {self.stopped_at_hurdle}, not comparable with a full budget"
        if self.loss_nats is None:
            return self.message or self.outcome
        if self.diverged:
            return f"unstable: {self.diverged} of {self.diverged + self.trials} trainings diverged"
        if self.delta_nats is None:
            return "the baseline has no result to compare with yet"
        if self.id == BASELINE_ID:
            return "the baseline"
        if self.inside_noise is None:
            return "the baseline's noise is unknown"
        if self.inside_noise:
            return "inside the baseline's noise"
        steps, time = ("better" if delta < 0 else "worse" for delta in self._deltas(self.delta_nats))
        if steps == time:
            return f"{steps} than the baseline beyond its noise"
        return f"{steps} at equal steps, {time} at equal time"

    def _deltas(self, delta_nats: float) -> tuple[float, float]:
        """Return the differences at equal steps and at equal time; without the second, the first twice."""
        at_equal_time = self.equal_time_delta_nats
        return delta_nats, delta_nats if at_equal_time is None else at_equal_time


def ranking_loss(loss_nats: float, delta_nats: float, equal_time_delta_nats: float) -> float:
    """Return the loss by which a candidate is ranked, from its differences at equal steps and at equal time."""
    return loss_nats + max(0.0, equal_time_delta_nats - delta_nats)


@dataclass(frozen=True, slots=True)
class RunTotals:
    """Totals of a run.

    Attributes:
        candidates: number of proposed candidates.
        evaluated: number of distinct candidates with a result.
        reused: number of candidates that reuse the result of an equivalent one.
        outcomes: number of distinct candidates by outcome.
        trials, lost, cancelled: number of trials that ended, that lost their worker, and that were cancelled.
        proposals: statistics summed over all proposals.
        elapsed_seconds: wall clock during which a controller was running.
        worker_seconds: the same time multiplied by the number of workers.
        shares: shares of `worker_seconds` by use, a key of `SHARES`.
        full_budgets: training of all trials together, in full trial budgets.
        checks: totals of the leak checks.
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
    """The ranked candidates of a run, and its totals.

    Attributes:
        run: path of the run.
        baseline: results of the baseline.
        rows: candidates, best first.
        totals: totals of the run.
        confirmed: results of retraining, best first; empty if no candidate was retrained.
        ladder: results of retraining at other scales; None if there are none.
        predictions: calibration of the predictions that stop trainings; None for runs without predictions.
        initial_programs: origin of each imported initial program, by candidate id.
        about: conditions of the results: command, device, versions, random seed, text and every setting.
    """

    run: str
    baseline: BaselineSummary
    rows: tuple[LeaderboardRow, ...]
    totals: RunTotals
    confirmed: tuple[Confirmation, ...] = ()
    ladder: Ladder | None = None
    predictions: PredictionCalibration | None = None
    initial_programs: Mapping[int, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def loss_unit(self) -> str:
        """Unit of differences between losses: `bits/byte`, or `nats` for ids without text."""
        return loss_unit((row.loss_nats, row.bits_per_byte) for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, as `leaderboard --json` prints them."""
        rows = [
            {
                **asdict(row),
                "price": row.price,
                "better": row.better,
                "verdict": row.verdict,
                "origin": self.initial_programs.get(row.id),
            }
            for row in self.rows
        ]
        return {
            "run": self.run,
            "unconfirmed": not self.confirmed,
            "confirmed": [row.to_dict() for row in self.confirmed],
            "ladder": None if self.ladder is None else self.ladder.to_dict(),
            "predictions": None if self.predictions is None else self.predictions.to_dict(),
            "baseline": asdict(self.baseline),
            "candidates": rows,
            "totals": asdict(self.totals),
            "about": dict(self.about),
        }
