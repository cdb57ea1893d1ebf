"""The controller: keeps every worker busy with the next trial until the budget is spent, and records what happens.

    calibrate: time the baseline's steps, where budgets are in reference seconds
    queue: the baseline's trials, then those of imported initial programs
    while time is left:
        give each free worker a trial: one that is queued, one of the baseline's as a control, or of a new candidate
        record what came back, and tell evolution

Everything that happens is an event in the store before it has consequences, so that a run can be taken up again after
any death of this process. Only one controller writes a run.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from ...primitives import DNA
from ...primitives.errors import WorkFailedError
from ...primitives.program_json import dna_to_json
from ...workers.protocol import INFRASTRUCTURE_FAULTS, Evaluation, Executor, TrialRequest, WorkerStatus
from ..config import RunConfig
from ..evolution.candidate import BASELINE_ID
from ..evolution.evolution import Evolution
from ..evolution.initial_programs import InitialProgram
from .loss_floor import loss_floor_nats
from .store import Store

__all__ = ["Controller", "RunState"]

CALIBRATION = -1
"""Trial id of the calibration run, which only times the baseline."""

TICK_SECONDS = 0.25
"""How long the controller waits for a result before it looks at the clock again."""


@dataclass(frozen=True, slots=True)
class RunState:
    """What a run looks like from outside, for progress displays.

    Attributes:
        elapsed_seconds, budget_seconds: of this session.
        candidates: proposed so far, the baseline included.
        outcomes: how many trials ended how.
        baseline_losses: of the baseline's finished trials, in nats per token.
        best: candidate and loss of the best full training so far, None before the first.
        best_bits_per_byte: the same loss in bits per byte.
        workers: what each worker does.
        last: the trial that ended last, None before the first.
    """

    elapsed_seconds: float
    budget_seconds: float
    candidates: int
    outcomes: dict[str, int]
    baseline_losses: tuple[float, ...]
    best: tuple[int, float] | None
    best_bits_per_byte: float | None
    workers: tuple[WorkerStatus, ...]
    last: tuple[int, Evaluation] | None


class Controller:
    """Runs one search in one store.

    Args:
        config: of the run.
        run_seed: source of all randomness.
        baseline_dna: the baseline; the program to start from, unless there are initial_programs.
        store: open for writing; what it already holds is replayed.
        executor: started.
        ngram_nats: loss of an n-gram model on the validation text, the floor below which results are suspected.
        observe: called with the state after every change and every tick.
        initial programs: what to start from instead.
    """

    def __init__(
        self,
        config: RunConfig,
        run_seed: int,
        baseline_dna: DNA,
        store: Store,
        executor: Executor,
        ngram_nats: float | None = None,
        observe: Callable[[RunState], None] = lambda state: None,
        initial_programs: Sequence[InitialProgram] = (),
    ):
        self.config = config
        self.run_seed = run_seed
        self.store = store
        self.executor = executor
        self.ngram_nats = ngram_nats
        self.observe = observe
        self.evolution = Evolution(config, run_seed, baseline_dna, initial_programs)
        self._starters = {candidate.id for candidate, _ in self.evolution.starters}
        self._started_at = time.monotonic()
        self._budget_seconds = 0.0
        self._queue: deque[int] = deque()
        self._losses: Counter[int] = Counter()
        self._seeds: defaultdict[int, set[int]] = defaultdict(set)
        self._outcomes: Counter[str] = Counter()
        self._baseline_trials: list[Evaluation] = []
        self._originals = 0
        self._controls = 0
        self._allowance_seconds: float | None = config.trial.allowance_ms / 1000 or None
        self._suspicious_nats: float | None = None
        self._calibrating = False
        self._failed_calibrations = 0
        self._best: tuple[int, float] | None = None
        self._best_bits_per_byte: float | None = None
        self._last: tuple[int, Evaluation] | None = None
        self._replay()
        self._next_trial = store.next_trial_id()

    def run(self, budget_seconds: float, started_at: float | None = None) -> str:
        """Search until the budget is spent or somebody asks to stop.

        Args:
            budget_seconds: wall clock for this session.
            started_at: when it began, by `time.monotonic`; now, if not given.

        Returns:
            `ended` when the budget is spent, `stopped` when the run's stop file asked for it.
        """
        self._started_at = time.monotonic() if started_at is None else started_at
        self._budget_seconds = budget_seconds
        try:
            while self._elapsed() < budget_seconds:
                if self.store.run.stop_requested():
                    return self._finish("run_stopped", "asked to stop")
                self._calibrate() if self._uncalibrated else self._dispatch()
                for request, evaluation in self.executor.wait(self._patience()):
                    self._record(request, evaluation)
                self.observe(self.state())
            return self._finish("run_ended", "the budget is spent")
        except BaseException as error:
            self._finish("run_stopped", "interrupted" if isinstance(error, KeyboardInterrupt) else repr(error))
            raise

    def state(self) -> RunState:
        """A snapshot for progress displays."""
        return RunState(
            self._elapsed(),
            self._budget_seconds,
            self.evolution.next_id,
            dict(self._outcomes),
            tuple(trial.loss_nats for trial in self._baseline_trials if trial.loss_nats is not None),
            self._best,
            self._best_bits_per_byte,
            tuple(self.executor.status()),
            self._last,
        )

    # --- one turn of the loop ---

    @property
    def _uncalibrated(self) -> bool:
        return self.config.trial.unit == "reference_seconds" and self._allowance_seconds is None

    def _calibrate(self) -> None:
        """Let one worker time the baseline. This is not a trial of the run; after a failure it is tried again."""
        if self._calibrating or not self.executor.free:
            return
        self._calibrating = True
        self.executor.submit(
            TrialRequest(CALIBRATION, BASELINE_ID, dna_to_json(self.evolution.baseline.dna), 0, calibrate=True)
        )

    def _calibrated(self, evaluation: Evaluation) -> None:
        self._calibrating = False
        if evaluation.step_ms:
            self._allowance_seconds = evaluation.step_ms / 1000
            self.store.add_event("calibrated", {"allowance_seconds": self._allowance_seconds})
            return
        self._failed_calibrations += 1
        if self._failed_calibrations > self.config.search.retries:
            raise WorkFailedError(
                f"the baseline's steps could not be timed: {evaluation.message or evaluation.outcome}"
            )

    def _dispatch(self) -> None:
        while self.executor.free > 0 and self._elapsed() < self._budget_seconds:
            if self._queue:
                candidate_id = self._queue.popleft()
            else:
                candidate_id = self._due_control() if self._control_is_due else self._new_candidate()
            if candidate_id is None:
                return  # look at the workers and the clock before the next attempt
            self._start(candidate_id)

    @property
    def _control_is_due(self) -> bool:
        every = self.config.search.control_every
        return bool(every) and self._originals // every > self._controls

    def _due_control(self) -> int:
        self._controls += 1
        return BASELINE_ID

    def _new_candidate(self) -> int | None:
        """Propose a candidate and record it; None if no parent is available yet or the program needs no training."""
        if not self.evolution.ready:
            return None
        candidate, proposal = self.evolution.ask()
        statistics = {**proposal.statistics, "fingerprint": proposal.function}
        self.store.add_candidate(candidate, statistics)
        self.evolution.add(candidate, proposal.function)
        if candidate.same_as is None:
            self._originals += 1
            return candidate.id
        self.store.add_event("reused", {"same_as": candidate.same_as}, candidate.id)
        return None

    def _start(self, candidate_id: int) -> None:
        request = TrialRequest(
            self._next_trial,
            candidate_id,
            dna_to_json(self.evolution.candidate(candidate_id).dna),
            self._trial_seed(candidate_id),
            self._open_hurdles() if candidate_id in self._starters else self.evolution.hurdles.thresholds(),
            allowance_seconds=self._allowance_seconds,
            suspicious_nats=self._suspicious_nats if candidate_id != BASELINE_ID else None,
        )
        self._next_trial += 1
        self._seeds[candidate_id].add(request.seed)
        self.store.start_trial(request)
        self.executor.submit(request)

    def _record(self, request: TrialRequest, evaluation: Evaluation) -> None:
        if request.calibrate:
            self._calibrated(evaluation)
            return
        candidate_id = request.candidate_id
        if evaluation.kind in INFRASTRUCTURE_FAULTS:
            self._losses[candidate_id] += 1
            if self._losses[candidate_id] <= self.config.search.retries:
                self.store.finish_trial(request.trial_id, evaluation)
                self._seeds[candidate_id].discard(request.seed)
                self._queue.append(candidate_id)
                return
            times = self._losses[candidate_id]
            message = f"its worker died {times} times: {evaluation.message}"
            evaluation = replace(evaluation, outcome="rejected:worker_lost", message=message)
        self.store.finish_trial(request.trial_id, evaluation)
        self._tell(candidate_id, evaluation)

    def _tell(self, candidate_id: int, evaluation: Evaluation) -> None:
        self.evolution.tell(candidate_id, evaluation)
        self._outcomes[evaluation.outcome] += 1
        self._last = (candidate_id, evaluation)
        loss = evaluation.loss_nats
        if evaluation.kind != "ok" or loss is None:
            return
        if candidate_id == BASELINE_ID:
            self._baseline_trials.append(evaluation)
            if BASELINE_ID not in self.evolution.trials_left and self._suspicious_nats is None:
                self._suspicious_nats = loss_floor_nats(self._baseline_trials, self.ngram_nats)
            return
        mean = self.evolution.fitness(candidate_id)  # of a initial program's trials, once all are in
        if mean is not None and (self._best is None or mean < self._best[1]):
            bits = evaluation.bits_per_byte
            self._best = (candidate_id, mean)
            self._best_bits_per_byte = bits * (mean / loss) if bits and loss else bits

    def _finish(self, kind: str, why: str) -> str:
        for request in self.executor.cancel():
            if not request.calibrate:
                self.store.cancel_trial(request.trial_id, why)
        self.store.add_event(kind, {"why": why})
        self.store.run.clear_stop()
        return "ended" if kind == "run_ended" else "stopped"

    # --- beginning and resuming ---

    def _replay(self) -> None:
        """Take in what the store holds, in order of arrival; then queue what has begun and not ended."""
        candidates = {candidate.id: candidate for candidate in self.store.candidates()}
        for starter, function in self.evolution.starters:
            if starter.id not in candidates:
                self.store.add_candidate(starter, {"fingerprint": function})
        results = {finished.sequence: finished for finished in self.store.evaluations()}
        evaluated: set[int] = set()
        seeds: dict[int | None, int] = {}
        for event in self.store.events():
            number = event.candidate_id
            if event.kind == "started":
                seeds[event.trial_id] = event.payload["seed"]
            elif event.kind == "calibrated":
                self._allowance_seconds = event.payload["allowance_seconds"]
            elif event.kind == "proposed" and number is not None and number not in self._starters:
                self.evolution.add(candidates[number], event.payload.get("fingerprint"))
                self._originals += candidates[number].same_as is None
            elif event.kind == "evaluated" and number is not None:
                evaluated.add(number)
                self._seeds[number].add(seeds[event.trial_id])
                self._tell(number, results[event.sequence].evaluation)
        for request in self.store.unfinished_trials():
            self.store.cancel_trial(request.trial_id, "its controller died")
        evaluated |= self._starters
        interrupted = [c.id for c in candidates.values() if c.id not in evaluated and c.same_as is None]
        self._queue.extend([*self.evolution.trials_left, *interrupted])
        self._controls = max(0, len(self._seeds[BASELINE_ID]) - self.config.search.baseline_trials)

    def _open_hurdles(self) -> tuple:
        """Trials of the baseline and of initial programs pass every hurdle: they are what others are measured by."""
        return tuple(replace(hurdle, loss_nats=None) for hurdle in self.evolution.hurdles.thresholds())

    # --- small things ---

    def _elapsed(self) -> float:
        return time.monotonic() - self._started_at

    def _patience(self) -> float:
        tick = 0.01 if self.executor.free else TICK_SECONDS
        return max(0.01, min(tick, self._budget_seconds - self._elapsed()))

    def _trial_seed(self, candidate_id: int) -> int:
        """The first of the candidate's own seeds that no finished or running trial of it has.

        A trial that is repeated after an interruption or a fault gets the baseline it had, so that where trials are
        exact (in steps, inline) an interrupted search makes the same candidates as one that was not.
        """
        sources = (np.random.SeedSequence((self.run_seed, 1, candidate_id, place)) for place in count())
        seeds = (int(source.generate_state(1)[0]) for source in sources)
        return next(seed for seed in seeds if seed not in self._seeds[candidate_id])
