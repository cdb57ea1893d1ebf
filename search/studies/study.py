"""The engine of `compare`, `confirm` and `ablate`: every program trained with the same random seeds.

    for each seed: for each arm: train, append to the record

Arms with the same seed see the same text in the same order and draw their parameters from the same seed, so that
their differences are paired. Seeds are the outer loop: an interrupted study has trained all arms equally often,
and resumes from its record. No training is stopped at a hurdle. Where the budget counts reference seconds, the step of
the reference program is timed once, before anything trains, and every training is charged by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...primitives import DNA, UsageError, WorkFailedError
from ...primitives.program_json import dna_to_json
from ...system.signals import Interrupted
from ...workers.data.dataset import Dataset, prepare
from ...workers.devices.discovery import resolve_platform
from ...workers.executors.factory import make_executor
from ...workers.protocol import (
    INFRASTRUCTURE_FAULTS,
    Executor,
    HurdleThreshold,
    Platform,
    TrialRequest,
)
from ..config import RunConfig
from ..runs.trainer_factory import CandidateTrainerFactory
from .study_log import StudyLog
from .study_queue import Arm, StudyQueue, StudyState, Training

__all__ = ["Study", "run_study"]

TICK_SECONDS = 0.25
"""How long a study waits for a result before it tells its observer again."""


def run_study(
    config: RunConfig,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    *,
    points: Sequence[float] = (),
    test: bool = True,
    reference: DNA,
    record: Path | None,
    address: str | None = None,
    dataset_hash: str | None = None,
    allowance_seconds: float | None = None,
    deadline: float | None = None,
    observe: Callable[[StudyState], None] = lambda state: None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Training]:
    """Train every arm with every seed; `Study` documents the arguments and the errors."""
    with Study(
        config,
        points=points,
        test=test,
        reference=reference,
        record=record,
        address=address,
        dataset_hash=dataset_hash,
        allowance_seconds=allowance_seconds,
        deadline=deadline,
        observe=observe,
        tell=tell,
    ) as study:
        return study.train(arms, seeds)


class Study:
    """A context in which arms can be trained, more of them after results are seen; workers stay warm in between.

    Args:
        config: settings of every training; hurdles and the section `search` are ignored, except `retries`.
        points: of the budget, in the trial's unit, rising and below the full budget, at which the validation loss is
            measured (`hurdle_losses`, `hurdle_steps`); no training stops there.
        test: whether each trained model is scored on the test split, too.
        reference: the program whose step is the measure of reference seconds.
        record: file that keeps finished trainings (see `record`); None keeps them nowhere.
        address: of a running Ray cluster.
        dataset_hash: of the text that the programs come from, where results must be of the same.
        allowance_seconds: what a step of the reference program is charged, where the budget counts reference seconds;
            measured before the first training, if not given.
        deadline: by `time.monotonic`, when all has to be done: what is not, is left out.
        observe: called with the state after every change and every tick.
        tell: called with lines about slow preparations.

    Raises:
        UsageError: data or accelerator are not there, the text is another one, or the record is of another study.

    Attributes:
        dataset_hash: of the text that is trained on.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        points: Sequence[float] = (),
        test: bool = True,
        reference: DNA,
        record: Path | None,
        address: str | None = None,
        dataset_hash: str | None = None,
        allowance_seconds: float | None = None,
        deadline: float | None = None,
        observe: Callable[[StudyState], None] = lambda state: None,
        tell: Callable[[str], None] = lambda line: None,
    ):
        _check_points(points, config.trial.budget)
        self.config = config
        self.points = tuple(points)
        self.test = test
        self.reference = reference
        self._address = address
        self._allowance_seconds = allowance_seconds or config.trial.allowance_ms / 1000 or None
        self._deadline = deadline
        self._observe = observe
        self._tell = tell
        self._platform: Platform = resolve_platform(config.workers.accel, address=address)
        self._dataset = prepare(config.data, config.model.vocabulary, progress=tell)
        self.dataset_hash = Dataset.open(self._dataset, verify=False).dataset_hash
        if dataset_hash not in (None, self.dataset_hash):
            raise UsageError(
                f"the text of {config.data.source} is another one than that of the search "
                f"(hash {self.dataset_hash[:12]}, was {dataset_hash[:12]}), and results would not compare: restore it."
            )
        self._record = StudyLog(record, self._description())
        self._stack = ExitStack()
        self._stack.callback(self._record.close)
        self._executor: Executor | None = None
        self._next_trial = 1

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def allowance_seconds(self) -> float | None:
        """What a step of the reference program is charged; None where that plays no part, or is not known yet."""
        if self.config.trial.unit != "reference_seconds":
            return None
        return self._record.calibration_seconds if self._allowance_seconds is None else self._allowance_seconds

    def train(self, arms: Sequence[Arm], seeds: Sequence[int]) -> list[Training]:
        """Train every arm with every random seed, except what the record holds; arms of one key train once.

        Returns:
            The trainings, seed by seed, in each in the order of the arms. One whose worker died again and again has the
            outcome `worker_lost`, and is tried again when the study resumes.

        Raises:
            Interrupted: Ctrl-C; the record keeps what is finished.
            WorkFailedError: no worker could be started, or the record cannot be written.
        """
        work = StudyQueue(arms, seeds, self._record)
        try:
            if work.queue:
                self._train(work, self._started())
        except KeyboardInterrupt:
            raise Interrupted(self._how_to_go_on(work)) from None
        return work.trainings()

    def _train(self, work: StudyQueue, executor: Executor) -> None:
        self._calibrate(executor)
        start = time.monotonic()
        spent: list[float] = []
        running: dict[int, tuple[Arm, int]] = {}
        try:
            while running or (work.queue and not self._too_late(spent)):
                while work.queue and executor.free > 0 and not self._too_late(spent):
                    arm, seed = work.queue.popleft()
                    request = self._request(work, arm, seed)
                    running[request.trial_id] = arm, seed
                    executor.submit(request)
                self._observe(work.state(start, spent, executor.status()))
                if self._too_late():
                    executor.cancel()
                    return
                for request, evaluation in executor.wait(TICK_SECONDS):
                    arm, seed = running.pop(request.trial_id)
                    spent.append(evaluation.wall_seconds)
                    work.finish(arm, seed, evaluation, self.config.search.retries)
            self._observe(work.state(start, spent, executor.status()))
        except BaseException:
            executor.cancel()
            raise

    def _too_late(self, spent: Sequence[float] = ()) -> bool:
        """Whether a training that takes as long as the longest of `spent` would miss the deadline."""
        return self._deadline is not None and time.monotonic() + max(spent, default=0.0) > self._deadline

    def _request(self, work: StudyQueue, arm: Arm, seed: int) -> TrialRequest:
        request = TrialRequest(
            self._next_trial,
            work.place[arm.key],
            dna_to_json(arm.dna),
            seed,
            tuple(HurdleThreshold(point, None) for point in self.points),
            allowance_seconds=self.allowance_seconds,
            learning_rate_factor=arm.learning_rate_factor,
            unit=arm.unit,
            test=self.test,
        )
        self._next_trial += 1
        return request

    def _calibrate(self, executor: Executor) -> None:
        """Time the reference program's step, where budgets are charged by it and it is not known."""
        if self.config.trial.unit != "reference_seconds" or self.allowance_seconds is not None:
            return
        self._tell("timing the reference program")
        message = ""
        for _ in range(1 + self.config.search.retries):
            request = TrialRequest(self._next_trial, 0, dna_to_json(self.reference), 0, calibrate=True)
            self._next_trial += 1
            while executor.free == 0:
                executor.wait(TICK_SECONDS)
            executor.submit(request)
            while not (ended := executor.wait(TICK_SECONDS)):
                pass
            evaluation = ended[0][1]
            if evaluation.outcome == "ok" and evaluation.step_ms:
                self._record.calibrate(evaluation.step_ms / 1000.0)
                return
            message = evaluation.message
            if evaluation.kind not in INFRASTRUCTURE_FAULTS:
                break
        raise WorkFailedError(f"the reference program's step could not be timed: {message}")

    def _started(self) -> Executor:
        """The workers, started when they are first needed: a study that its record completes needs none."""
        if self._executor is None:
            trial = self.config.trial
            self._tell("starting the workers")
            executor = make_executor(
                self.config.workers,
                CandidateTrainerFactory(self.config, str(self._dataset), reference=dna_to_json(self.reference)),
                # Many evaluations come on top of what a trial of a search has.
                wall_limit_seconds=trial.wall_limit_seconds + (trial.overhead_seconds if self.points else 0.0),
                platform=self._platform,
                address=self._address,
                devices=trial.devices,
                dataset=str(self._dataset),
            )
            self._executor = self._stack.enter_context(executor)
        return self._executor

    def _how_to_go_on(self, work: StudyQueue) -> str:
        if self._record.path is None:
            return "interrupted: nothing was kept"
        return (
            f"interrupted after {work.done} of {work.total} trainings, which {self._record.path} keeps: "
            "the same command goes on from there"
        )

    def _description(self) -> dict[str, Any]:
        """Everything that determines results, apart from the arms and seeds."""
        return {
            **{section: asdict(getattr(self.config, section)) for section in ("model", "trial", "optimizer", "data")},
            "dataset": self.dataset_hash,
            "platform": self._platform,
            "reference": dna_to_json(self.reference),
            "points": list(self.points),
            "test": self.test,
            "allowance_seconds": self._allowance_seconds,
        }


def _check_points(points: Sequence[float], budget: float) -> None:
    rising = all(before < after for before, after in zip((0.0, *points), (*points, budget), strict=True))
    if points and not rising:
        raise UsageError(f"the points of the curve must rise and lie between 0 and the budget {budget:g}.")
