"""Start or resume a run: prepare the data, open the store, start the workers, and search.

The calling process runs the controller. It trains candidates itself only if the executor is `inline`.
"""

from __future__ import annotations

import platform as machine
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...plugins.registry import recorded_plugins
from ...primitives import UsageError
from ...primitives.programs.program_json import dna_from_json, dna_to_json
from ...system.signals import Interrupted
from ...workers.data.dataset import Dataset, prepare_dataset
from ...workers.devices.discovery import resolve_platform
from ...workers.executors.factory import make_executor
from ...workers.executors.inline import InlineExecutor
from ...workers.protocol import Evaluation, Platform
from ...workers.training.ngram_baseline import ngram_loss
from ..config import RunConfig
from ..evolution.initial_programs import InitialProgram, read_initial_programs
from ..evolution.vocabulary import with_named_plugins
from ..recovery.audit import refuse_damaged
from ..results.trust.epoch_warning import epoch_warning
from ..runs.controller import Controller
from ..runs.progress_snapshot import ProgressSnapshot
from ..runs.provenance import command_line, versions
from ..runs.run_directory import RunDirectory
from ..runs.run_settings import prepare_same_dataset, tell_limits
from ..runs.store import Store
from ..runs.time_accounting import find_sessions
from ..runs.trainer_factory import CandidateTrainerFactory
from ..studies.end_of_run import EndOfRun, confirm_at_end
from ..studies.study import StudyOptions
from ..tracking.tracker_process import run_trackers

__all__ = ["SearchResult", "SessionOptions", "resume", "start"]


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """Options of one session of a search; they do not change its candidates.

    Attributes:
        address: address of a running Ray cluster.
        started_at: start of the session, by `time.monotonic`; by default, the time at which this object is created.
        observe: callback that receives the run's state several times a second.
        tell: callback that receives messages about slow preparations.
        warn: callback that receives messages about trackers.
        larger: configuration of the larger size, `search.scale_up`, for the end of the run; None: no larger size.
        track: names of trackers that log the search.
    """

    address: str | None = None
    started_at: float = field(default_factory=time.monotonic)
    observe: Callable[[ProgressSnapshot], None] = lambda state: None
    tell: Callable[[str], None] = lambda line: None
    warn: Callable[[str], None] = lambda line: None
    larger: RunConfig | None = None
    track: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Result of a session.

    Attributes:
        run: directory of the run.
        ending: `ended` if the budget is spent, `stopped` if a stop was requested.
        unfinished: message about what the confirmation at the end could not finish in time; empty if it finished.
    """

    run: RunDirectory
    ending: str
    unfinished: str = ""


def start(
    config: RunConfig,
    run: RunDirectory,
    *,
    seed: int,
    budget_seconds: float,
    initial_programs: Sequence[InitialProgram] = (),
    options: SessionOptions | None = None,
) -> SearchResult:
    """Start a run in an empty directory and search until the budget is spent.

    Args:
        config: run configuration.
        run: existing empty directory of the run.
        seed: random seed from which all others derive.
        budget_seconds: wall-clock time of the search, counted from the start of the session.
        initial_programs: programs that the population starts from; the baseline if empty.
        options: options of the session.

    Raises:
        UsageError: the data, the accelerator or the baseline is missing, or the baseline is not valid at the larger
            size.
        WorkFailedError: no worker could be started, or the store cannot be written.
    """
    options = options or SessionOptions()
    config = replace(config, search=replace(config.search, vocabulary=with_named_plugins(config.search.vocabulary)))
    baseline_dna = config.model.library_program(config.search.baseline)
    platform = resolve_platform(config.workers.accel, address=options.address)
    dataset = prepare_dataset(config.data, config.model.vocabulary, progress=options.tell)
    text = Dataset.open(dataset, verify=False)
    tell_limits(text, config, options.tell)
    if note := epoch_warning(config, baseline_dna, len(text.train), platform):
        options.tell(f"note: {note}")
    manifest = {
        "command": command_line(),
        "config": config.to_dict(),
        "seed": seed,
        "baseline_dna": dna_to_json(baseline_dna),
        "initial_programs": [initial_program.to_dict() for initial_program in initial_programs],
        "budget_seconds": budget_seconds,
        "dataset": str(dataset),
        "dataset_hash": text.dataset_hash,
        "plugins": recorded_plugins(),
        "versions": versions(),
        "machine": machine.platform(),
    }
    with Store.create(run.path, manifest) as store, run_trackers(options.track, store, options.warn) as trackers:
        options = replace(options, observe=trackers.check_before(options.observe))
        return _search(store, platform, budget_seconds, options)


def resume(
    path: Path | str, *, budget_seconds: float | None = None, options: SessionOptions | None = None
) -> SearchResult:
    """Resume a run where it stopped.

    Args:
        path: name or path of the run.
        budget_seconds: wall-clock time of this session; None: what is left of the run's budget.
        options: options of the session.

    Raises:
        UsageError: the run does not exist, another controller writes it, its budget is spent, or its data changed.
        WorkFailedError: its store is damaged.
    """
    options = options or SessionOptions()
    with Store.open(path) as store:
        refuse_damaged(store)
        manifest = store.manifest
        config = RunConfig.from_dict(manifest["config"])
        platform = resolve_platform(config.workers.accel, address=options.address)
        if budget_seconds is None:
            budget_seconds = _budget_left(store)
        dataset = prepare_same_dataset(config, manifest, options.tell)
        store.set_manifest({"dataset": str(dataset.path)})
        store.run.clear_stop()
        with run_trackers(options.track, store, options.warn) as trackers:
            options = replace(options, observe=trackers.check_before(options.observe))
            return _search(store, platform, budget_seconds, options, resumed=True)


def _budget_left(store: Store) -> float:
    spent = sum(session.seconds for session in find_sessions(store.events()))
    left = float(store.manifest["budget_seconds"]) - spent
    if left < 1:
        raise UsageError(f"run {store.run.path} has spent its budget: give it more, such as `--budget 10m`")
    return left


def _search(
    store: Store, platform: Platform, budget_seconds: float, options: SessionOptions, resumed: bool = False
) -> SearchResult:
    manifest = store.manifest
    config = RunConfig.from_dict(manifest["config"])
    executor = make_executor(
        config.workers,
        CandidateTrainerFactory(config, manifest["dataset"], manifest["baseline_dna"]),
        wall_limit_seconds=config.trial.wall_limit_seconds,
        preparation_seconds=config.trial.preparation_seconds,
        platform=platform,
        address=options.address,
        devices=config.trial.devices,
        dataset=manifest["dataset"],
        tell=options.tell,
    )
    options.tell("starting the workers")
    with executor:
        if resumed:
            store.add_event("run_resumed", {"workers": executor.slots})
        else:
            store.set_manifest({"workers": executor.slots})
        if "ngram_nats" not in manifest:
            manifest["ngram_nats"] = ngram_loss(Dataset.open(manifest["dataset"], verify=False))
            store.set_manifest({"ngram_nats": manifest["ngram_nats"]})
        baseline = dna_from_json(manifest["baseline_dna"])
        end = EndOfRun.of(config, baseline, options.larger, budget_seconds, executor.slots)
        controller = Controller(
            config,
            manifest["seed"],
            baseline,
            store,
            executor,
            manifest["ngram_nats"],
            options.observe,
            options.tell,
            read_initial_programs(manifest),
        )
        if isinstance(executor, InlineExecutor):  # the controller waits while a trial runs in this process
            executor.watch = lambda: options.observe(controller.state())
            executor.stop_requested = lambda: controller.is_over or store.run.stop_requested()
        ending = controller.run(budget_seconds, options.started_at, _reserve(end, options))
    unfinished = ""
    if ending == "ended":
        deadline = options.started_at + budget_seconds
        unfinished = _confirm(store, end, StudyOptions(options.address, deadline, tell=options.tell))
    return SearchResult(store.run, ending, unfinished)


def _reserve(end: EndOfRun, options: SessionOptions) -> Callable[[Sequence[Evaluation]], float]:
    """Return `EndOfRun.reserve` with a message, after the first training of the baseline, if the budget is short."""
    told = False

    def reserve(baseline: Sequence[Evaluation]) -> float:
        nonlocal told
        kept = end.reserve(baseline)
        if baseline and not told:
            told = True
            left = options.started_at + end.budget_seconds - kept - time.monotonic()
            if note := end.short_budget(baseline, left):
                options.tell(f"note: {note}")
        return kept

    return reserve


def _confirm(store: Store, end: EndOfRun, options: StudyOptions) -> str:
    """Retrain the best candidates in the time left, and return a message about what could not be finished."""
    try:
        return confirm_at_end(store, end, options)
    except Interrupted:
        raise Interrupted(
            "interrupted while confirming; the search is saved: "
            f"continue with `primer-search confirm {shlex.quote(str(store.run.path))}`"
        ) from None
