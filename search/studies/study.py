"""Engine of `compare`, `confirm` and `ablate`: train every program with the same random seeds.

    for each seed: for each arm: train, append to the log

Arms with the same seed read the same text in the same order and draw their parameters from the same seed, so their
losses are paired. The outer loop is over seeds, so if a study is interrupted, no arm has more than one training more
than another. A study resumes from its log. Hurdles do not stop a training. If the budget is in reference seconds,
the baseline's step is timed once before the first training, and all trainings are charged by that time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...primitives import DNA, UsageError
from ...primitives.programs.program_json import dna_to_json
from ...system.signals import Interrupted
from ...workers.devices.discovery import resolve_platform
from ...workers.executors.factory import make_executor
from ...workers.protocol import Executor, HurdleThreshold, Platform, TrialRequest
from ..config import RunConfig
from ..runs.calibration import Calibration
from ..runs.run_settings import prepare_same_dataset
from ..runs.trainer_factory import CandidateTrainerFactory
from .study_log import StudyLog
from .study_queue import Arm, StudyQueue, StudyState, Training

__all__ = ["QUIET", "Study", "StudyOptions"]

TICK_SECONDS = 0.25
"""Longest wait for a result before the callback `observe` is called again."""


@dataclass(frozen=True, slots=True)
class StudyOptions:
    """Options of how a study runs; they do not change its results.

    Attributes:
        address: address of a running Ray cluster; None uses this machine.
        deadline: time by `time.monotonic` at which the study must end; trainings that do not fit are left out.
        observe: callback that receives the state after every change and at least every `TICK_SECONDS`.
        tell: callback that receives messages about slow preparations.
    """

    address: str | None = None
    deadline: float | None = None
    observe: Callable[[StudyState], None] = lambda state: None
    tell: Callable[[str], None] = lambda line: None


QUIET = StudyOptions()
"""Options of a study on this machine, without deadline and callbacks."""


class Study:
    """Context manager that trains arms. `train` may be called again with other arms; the workers keep running.

    Args:
        config: configuration of every training; of the section `search`, only `retries` is used.
        baseline: baseline program, whose step time is the unit of reference seconds.
        log: path of the log of finished trainings; None keeps them in memory only.
        options: options of the study.
        points: points of the budget, in the trial's unit, at which the validation loss is measured (`hurdle_losses`,
            `hurdle_steps`). They must rise and be below the full budget.
        run: manifest of the run whose dataset is used; None prepares the dataset of the configuration.
        allowance_seconds: known step time of the baseline; None measures it if the budget is in reference seconds.

    Raises:
        UsageError: the data or the accelerator is missing, the text has changed, or the log belongs to another study.

    Attributes:
        dataset_hash: hash of the dataset that the study trains on.
    """

    def __init__(
        self,
        config: RunConfig,
        baseline: DNA,
        log: Path | None,
        options: StudyOptions = QUIET,
        *,
        points: Sequence[float] = (),
        run: Mapping[str, Any] | None = None,
        allowance_seconds: float | None = None,
    ):
        _check_points(points, config.trial.budget)
        self.config = config
        self.points = tuple(points)
        self.options = options
        self._baseline_json = dna_to_json(baseline)
        self._calibration = Calibration(config, baseline, allowance_seconds)
        self._platform: Platform = resolve_platform(config.workers.accel, address=self.options.address)
        dataset = prepare_same_dataset(config, run, options.tell)
        self.dataset_hash, self._dataset = dataset.dataset_hash, str(dataset.path)
        self._log = StudyLog(log, self._identity())
        self._calibration.allowance_seconds = self._calibration.allowance_seconds or self._log.calibration_seconds
        self._stack = ExitStack()
        self._stack.callback(self._log.close)
        self._executor: Executor | None = None
        self._next_trial = 1

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def allowance_seconds(self) -> float | None:
        """Time charged for a step of the baseline; None if it is not known, or the budget is in another unit."""
        return self._calibration.allowance_seconds if self.config.trial.unit == "reference_seconds" else None

    def train(self, arms: Sequence[Arm], seeds: Sequence[int]) -> list[Training]:
        """Train every arm with every random seed, except where the log has the result.

        Returns:
            The trainings, ordered by seed and then by arm. A training that was repeatedly lost with its worker has the
            outcome `worker_lost` or `failed`; it is not logged, so a resumed study repeats it.

        Raises:
            Interrupted: Ctrl-C; finished trainings are in the log.
            WorkFailedError: no worker could be started, or the log cannot be written.
        """
        queue = StudyQueue(arms, seeds, self._log, self.config.search.retries)
        try:
            if queue.waiting:
                self._train(queue, self._started_executor())
        except KeyboardInterrupt:
            saved = (
                f"{queue.done} of {queue.total} trainings are saved in {self._log.path}; repeat the command to continue"
            )
            raise Interrupted(f"interrupted: {saved if self._log.path else 'nothing was saved'}") from None
        return queue.trainings()

    def _train(self, queue: StudyQueue, executor: Executor) -> None:
        self._calibrate(executor)
        start = time.monotonic()
        durations: list[float] = []
        running: dict[int, tuple[Arm, int]] = {}
        try:
            while running or (queue.waiting and not self._too_late(durations)):
                while queue.waiting and executor.free > 0 and not self._too_late(durations):
                    arm, seed = queue.waiting.popleft()
                    request = self._request(queue.positions[arm.key], arm, seed)
                    running[request.trial_id] = arm, seed
                    executor.submit(request)
                self.options.observe(queue.state(start, durations, executor.status()))
                if self._too_late():
                    executor.cancel()
                    return
                for request, evaluation in executor.wait(TICK_SECONDS):
                    durations.append(evaluation.wall_seconds)
                    queue.finish(*running.pop(request.trial_id), evaluation)
            self.options.observe(queue.state(start, durations, executor.status()))
        except BaseException:
            executor.cancel()
            raise

    def _too_late(self, durations: Sequence[float] = ()) -> bool:
        """Return whether a training that takes the longest of `durations` would miss the deadline."""
        deadline = self.options.deadline
        return deadline is not None and time.monotonic() + max(durations, default=0.0) > deadline

    def _request(self, position: int, arm: Arm, seed: int) -> TrialRequest:
        request = TrialRequest(
            self._next_trial,
            position,
            dna_to_json(arm.dna),
            seed,
            tuple(HurdleThreshold(point, None) for point in self.points),
            allowance_seconds=self.allowance_seconds,
            learning_rate_factor=arm.learning_rate_factor,
            unit=arm.unit,
            test=True,
        )
        self._next_trial += 1
        return request

    def _calibrate(self, executor: Executor) -> None:
        calibration = self._calibration
        if not calibration.needed:
            return
        self.options.tell("timing the baseline")
        while calibration.needed:
            while executor.free == 0:
                executor.wait(TICK_SECONDS)
            executor.submit(calibration.request())
            while not (ended := executor.wait(TICK_SECONDS)):
                pass
            calibration.record(ended[0][1])
        assert calibration.allowance_seconds is not None
        self._log.calibrate(calibration.allowance_seconds)

    def _started_executor(self) -> Executor:
        """Return the executor, which the first call starts. A study with all results in its log needs no workers."""
        if self._executor is None:
            trial = self.config.trial
            self.options.tell("starting the workers")
            executor = make_executor(
                self.config.workers,
                CandidateTrainerFactory(self.config, self._dataset, reference=self._baseline_json),
                # A study with points evaluates more often than a trial of a search.
                wall_limit_seconds=trial.wall_limit_seconds + (trial.overhead_seconds if self.points else 0.0),
                preparation_seconds=trial.preparation_seconds,
                platform=self._platform,
                address=self.options.address,
                devices=trial.devices,
                dataset=self._dataset,
                tell=self.options.tell,
            )
            self._executor = self._stack.enter_context(executor)
        return self._executor

    def _identity(self) -> dict[str, Any]:
        """Return everything that determines results, except the arms (with their units) and the seeds."""
        return {
            **{section: asdict(getattr(self.config, section)) for section in ("model", "trial", "optimizer", "data")},
            "model": {name: value for name, value in asdict(self.config.model).items() if name != "parameter_range"},
            "dataset": self.dataset_hash,
            "platform": self._platform,
            "reference": self._baseline_json,
            "points": list(self.points),
            "test": True,
            "allowance_seconds": self._calibration.allowance_seconds,
        }


def _check_points(points: Sequence[float], budget: float) -> None:
    rising = all(before < after for before, after in zip((0.0, *points), (*points, budget), strict=True))
    if points and not rising:
        raise UsageError(f"the points {points} must rise and lie between 0 and the budget {budget:g}")
