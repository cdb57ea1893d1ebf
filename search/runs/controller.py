"""The search loop: keep every worker busy until the budget is spent, and record every result.

    calibrate: time the baseline's steps, if budgets are in reference seconds
    queue: the trials of the baseline, then the trials of the initial programs
    while time is left:
        give each free worker a trial: a queued one, a control trial of the baseline, or one of a new candidate
        record each result, and update the strategy with it

Every event is written to the store before the controller acts on it, so a run can resume after this process is killed
at any moment. Only one controller at a time writes a run.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from itertools import count

from ...models.parameter_range import dna_at_unit
from ...primitives import DNA, PrimerSearchError
from ...primitives.programs.program_json import dna_to_json
from ...workers.protocol import INFRASTRUCTURE_FAULTS, Evaluation, Executor, TrialRequest, WorkerStatus
from ..config import RunConfig
from ..evolution.best_candidate import BestSoFar
from ..evolution.candidate import BASELINE_ID
from ..evolution.initial_programs import InitialProgram
from ..evolution.search_strategy import SearchStrategy
from ..evolution.trial_seeds import TrialSeeds
from ..guided.make_strategy import make_strategy
from .calibration import Calibration
from .controller_time import ControllerTime
from .loss_floor import loss_floor_nats
from .lost_trials import EnvironmentCheck, LostTrials
from .progress_snapshot import ProgressSnapshot, SearchHistory
from .records import storable
from .store import Store

__all__ = ["Controller"]

TICK_SECONDS = 0.25
"""Longest wait for a result before the clock and the stop request are checked again."""

STATUS_SECONDS = 0.1
"""Shortest time between two reads of the workers' status for displays; a read is slow with many workers."""


class Controller:
    """One search that writes one store.

    Args:
        config: run configuration.
        run_seed: random seed from which all others derive.
        baseline_dna: baseline program; without initial programs, the search also starts from it.
        store: store opened for writing; its events are replayed.
        executor: started executor.
        ngram_nats: loss of an n-gram model on the validation text, a lower bound on credible losses; None if unknown.
        observe: callback that receives a snapshot after each pass of the loop.
        tell: callback that receives messages.
        initial_programs: programs to start from instead of the baseline.
        strategy: search strategy that has not seen any event yet; None: the configured one.
        clock: clock of the budget, in seconds.
        tick_seconds: longest wait for a result before the clock and the stop request are checked again.

    Attributes:
        phases: time that this process spent in each phase.
    """

    def __init__(
        self,
        config: RunConfig,
        run_seed: int,
        baseline_dna: DNA,
        store: Store,
        executor: Executor,
        ngram_nats: float | None = None,
        observe: Callable[[ProgressSnapshot], None] = lambda state: None,
        tell: Callable[[str], None] = lambda line: None,
        initial_programs: Sequence[InitialProgram] = (),
        strategy: SearchStrategy | None = None,
        clock: Callable[[], float] = time.monotonic,
        tick_seconds: float = TICK_SECONDS,
    ):
        self.config = config
        self.run_seed = run_seed
        self.store = store
        self.executor = executor
        self.ngram_nats = ngram_nats
        self.observe = observe
        self.tell = tell
        self.evolution = strategy or make_strategy(config, run_seed, baseline_dna, initial_programs)
        self.phases = ControllerTime()
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._starters = {candidate.id for candidate, _ in self.evolution.starters}
        self._started_at = clock()
        self._budget_seconds = 0.0
        self._queue: deque[int] = deque()
        self._running: Counter[int] = Counter()
        self._awaited: set[int] = set()
        self._lost = LostTrials(config.search.retries)
        self._environment = EnvironmentCheck(executor.slots, config.search.baseline_trials, str(store.run.log))
        self._seeds = TrialSeeds(run_seed)
        self._outcomes: Counter[str] = Counter()
        self._baseline_trials: list[Evaluation] = []
        self._baseline_failures: list[Evaluation] = []
        self._baseline_losses: tuple[float, ...] = ()
        self._workers: tuple[WorkerStatus, ...] = ()
        self._status_at = -math.inf
        self._originals = 0
        self._controls = 0
        self._calibration = Calibration(config, self.evolution.baseline.dna)
        self._suspicious_nats: float | None = None
        self._best = BestSoFar(self.evolution.fitness, self.evolution.fitness_changes)
        self._last: tuple[int, Evaluation] | None = None
        self._history = SearchHistory()
        self._replay()
        self._trial_ids = count(store.next_trial_id())

    def run(
        self,
        budget_seconds: float,
        started_at: float | None = None,
        reserve: Callable[[Sequence[Evaluation]], float] = lambda baseline: 0.0,
    ) -> str:
        """Search until the budget is spent or a stop is requested.

        Args:
            budget_seconds: wall clock of this session.
            started_at: start of the session, by the clock; None means now.
            reserve: function from the baseline's full trainings so far to the seconds of the budget to keep for the end
                of the run; called again after each of these trainings.

        Returns:
            `ended` if the budget is spent, `stopped` if a stop was requested.

        Raises:
            WorkFailedError: the baseline cannot train, or no trial succeeds any more.
        """
        self._started_at = self._clock() if started_at is None else started_at
        trained = None
        self._budget_seconds = budget_seconds
        try:
            self.observe(self.state())
            while True:
                self._environment.raise_if_broken([*self._baseline_trials, *self._baseline_failures])
                if trained != len(self._baseline_trials):
                    trained = len(self._baseline_trials)
                    self._budget_seconds = budget_seconds - reserve(self._baseline_trials)
                if self.is_over:
                    return self._finish("run_ended", "the budget is spent")
                if self.store.stop_requested():
                    return self._finish("run_stopped", "asked to stop")
                self._calibrate() if self._calibration.needed else self._dispatch()
                finished = self.executor.wait(self._wait_seconds())
                if finished:
                    self._record(finished)
                self.observe(self.state())
        except BaseException as error:
            why = f"{error}" if isinstance(error, PrimerSearchError) else repr(error)
            self._finish("run_stopped", "interrupted" if isinstance(error, KeyboardInterrupt) else why)
            raise

    @property
    def is_over(self) -> bool:
        """Whether the budget of this session is spent."""
        return self._elapsed() >= self._budget_seconds

    def state(self) -> ProgressSnapshot:
        """Return a snapshot for progress displays."""
        return ProgressSnapshot(
            self._elapsed(),
            self._budget_seconds,
            self.evolution.next_id,
            dict(self._outcomes),
            self._baseline_losses,
            self._best.best(),
            self._latest_status(),
            self._last,
            self._history.trials,
            tuple(self._history.improvements),
            self._history.hurdles(),
        )

    def _calibrate(self) -> None:
        """Let one worker time the baseline's steps."""
        if self.executor.free and not self._calibration.running:
            self.executor.submit(self._calibration.request())

    def _dispatch(self) -> None:
        """Give trials to free workers for at most `TICK_SECONDS`.

        Because of this limit, results do not wait until thousands of workers have a trial.
        """
        until = min(self._elapsed() + TICK_SECONDS, self._budget_seconds)
        while self.executor.free > 0 and self._elapsed() < until:
            request = self._next_request()
            if request is None:
                return  # look at the workers and the clock before the next attempt
            self.executor.submit(request)

    def _next_request(self) -> TrialRequest | None:
        """Record and return the next trial; None if `_new_candidate` returns None."""
        if self._queue:
            candidate_id = self._queue.popleft()
        elif self._control_is_due:
            candidate_id = BASELINE_ID
            self._controls += 1
        else:
            with self.phases.phase("propose"):
                candidate_id = self.evolution.next_retest(self._running.keys())
            if candidate_id is None:
                return self._new_candidate()
        request = self._request(candidate_id)
        with self.phases.phase("store"), self.store.transaction(durable=False):
            self.store.start_trial(request)
        return request

    @property
    def _control_is_due(self) -> bool:
        every = self.config.search.control_every
        return bool(every) and self._originals // every > self._controls

    def _new_candidate(self) -> TrialRequest | None:
        """Propose a candidate, record it, and return its trial.

        None if no parent is available yet or the program needs no training.
        """
        if not self.evolution.ready:
            return None
        with self.phases.phase("propose"):
            candidate, proposal = self.evolution.ask()
            self.evolution.add(candidate, proposal.function, proposal.edits)
        statistics = {**proposal.statistics, "fingerprint": proposal.function}
        if proposal.kinds:
            statistics["kinds"] = proposal.kinds
        if proposal.edits is not None:
            statistics["edits"] = list(proposal.edits)
        if proposal.merged_with is not None:
            statistics["parents"] = [candidate.parent, proposal.merged_with]
        is_new = candidate.same_as is None
        self._originals += is_new
        request = self._request(candidate.id) if is_new else None
        with self.phases.phase("store"), self.store.transaction(durable=False):
            text = request.dna if request is not None and candidate.unit is None else None
            self.store.add_candidate(candidate, statistics, text)
            if request is None:
                self.store.add_event("reused", {"same_as": candidate.same_as}, candidate.id)
            else:
                self.store.start_trial(request)
        return request

    def _request(self, candidate_id: int) -> TrialRequest:
        """Return a trial of a candidate."""
        with self.phases.phase("dispatch"):
            candidate = self.evolution.candidate(candidate_id)
            self._running[candidate_id] += 1
            self._awaited.add(trial_id := next(self._trial_ids))
            return TrialRequest(
                trial_id,
                candidate_id,
                dna_to_json(dna_at_unit(candidate.dna, self.config.model, candidate.unit)),
                self._seeds.draw(candidate_id),
                self.evolution.thresholds(candidate_id),
                allowance_seconds=self._calibration.allowance_seconds,
                suspicious_nats=self._suspicious_nats if candidate_id != BASELINE_ID else None,
                unit=candidate.unit,
                price_prior=self.evolution.price_prior,
            )

    def _record(self, finished: Sequence[tuple[TrialRequest, Evaluation]]) -> None:
        """Store the results together, then update the strategy with them."""
        with self.phases.phase("store"), self.store.transaction():
            results = [self._write(request, evaluation) for request, evaluation in finished]
            for request, evaluation in self._environment.take_suspects(self._lost.counts):
                self.store.finish_trial(request.trial_id, evaluation)
                results.append((request.candidate_id, evaluation))
        if slow := self.phases.slow_disk(self._elapsed()):
            self.tell(f"note: {slow}")
        with self.phases.phase("learn"):
            for result in results:
                if result is not None:
                    self._tell(*result)

    def _write(self, request: TrialRequest, evaluation: Evaluation) -> tuple[int, Evaluation] | None:
        """Store a result, and return it with its candidate; None if the result says nothing about the candidate."""
        if request.calibrate:
            self._calibration.record(evaluation)
            if not self._calibration.needed:
                self.store.add_event("calibrated", {"allowance_seconds": self._calibration.allowance_seconds})
            return None
        if request.trial_id not in self._awaited:  # its result has already arrived
            return None
        self._awaited.remove(request.trial_id)
        candidate_id = request.candidate_id
        self._running[candidate_id] -= 1
        if not self._running[candidate_id]:
            del self._running[candidate_id]
        self._environment.count(evaluation)
        if self._lost.should_repeat(candidate_id, evaluation):
            self.store.finish_trial(request.trial_id, evaluation)
            self._seeds.release(candidate_id, request.seed)
            self._queue.append(candidate_id)
            return None
        if evaluation.kind in INFRASTRUCTURE_FAULTS:
            self._environment.suspects.append((request, evaluation))
            return None
        evaluation = storable(evaluation)  # the same values as a replay reads
        self.store.finish_trial(request.trial_id, evaluation)
        return candidate_id, evaluation

    def _tell(self, candidate_id: int, evaluation: Evaluation) -> None:
        self.evolution.tell(candidate_id, evaluation)
        self._outcomes[evaluation.outcome] += 1
        self._last = (candidate_id, evaluation)
        self._best.record(candidate_id, evaluation)
        self._history.record(candidate_id, evaluation)
        if candidate_id == BASELINE_ID and evaluation.kind != "ok":
            self._baseline_failures.append(evaluation)
        elif candidate_id == BASELINE_ID and evaluation.loss_nats is not None:
            self._baseline_trials.append(evaluation)
            self._baseline_losses = (*self._baseline_losses, evaluation.loss_nats)
            if BASELINE_ID not in self.evolution.trials_left and self._suspicious_nats is None:
                self._suspicious_nats = loss_floor_nats(self._baseline_trials, self.ngram_nats)

    def _finish(self, kind: str, why: str) -> str:
        unjudged = [request for request, _ in self._environment.suspects]
        cancelled = [*self.executor.cancel(), *unjudged]
        with self.store.transaction():  # one wait for the disk
            for request in cancelled:
                if not request.calibrate:
                    self.store.cancel_trial(request.trial_id, why)
            self.store.add_event(kind, {"why": why})
        self.store.run.clear_stop()
        return "ended" if kind == "run_ended" else "stopped"

    def _replay(self) -> None:
        """Replay the stored events in order of arrival, then queue the trials that did not end."""
        candidates = {candidate.id: candidate for candidate in self.store.candidates()}
        with self.store.transaction(durable=False):
            for starter, function in self.evolution.starters:
                if starter.id not in candidates:
                    self.store.add_candidate(starter, {"fingerprint": function})
        results = {finished.sequence: finished for finished in self.store.evaluations()}
        evaluated = set(self._starters)
        seeds: dict[int | None, int] = {}
        for event in self.store.events():
            number = event.candidate_id
            if event.kind == "started":
                seeds[event.trial_id] = event.payload["seed"]
            elif event.kind == "calibrated":
                self._calibration.allowance_seconds = event.payload["allowance_seconds"]
            elif event.kind == "proposed" and number is not None and number not in self._starters:
                self.evolution.add(candidates[number], event.payload.get("fingerprint"), event.payload.get("edits"))
                self._originals += candidates[number].same_as is None
            elif event.kind == "evaluated" and number is not None:
                evaluated.add(number)
                self._seeds.add(number, seeds[event.trial_id])
                self._tell(number, results[event.sequence].evaluation)
        with self.store.transaction():  # one wait for the disk
            for request in self.store.unfinished_trials():
                self.store.cancel_trial(request.trial_id, "its controller died")
        interrupted = [c.id for c in candidates.values() if c.id not in evaluated and c.same_as is None]
        self._queue.extend([*self.evolution.trials_left, *interrupted])
        self._controls = max(0, self._seeds.count(BASELINE_ID) - self.config.search.baseline_trials)

    def _latest_status(self) -> tuple[WorkerStatus, ...]:
        """Return the status of the workers, at most `STATUS_SECONDS` old by the real clock."""
        now = time.monotonic()
        if now - self._status_at >= STATUS_SECONDS:
            self._workers, self._status_at = tuple(self.executor.status()), now
        return self._workers

    def _elapsed(self) -> float:
        return self._clock() - self._started_at

    def _wait_seconds(self) -> float:
        tick = 0.01 if self.executor.free else self._tick_seconds
        return max(0.01, min(tick, self._budget_seconds - self._elapsed()))
