"""Start of a search from Python, with the same arguments as the command."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ..configs.plan import make_plan
from ..plugins.loader import load_plugins
from ..primitives import DNA
from ..primitives.programs.program_json import dna_to_json
from ..search.runs.run_directory import create_run_directory, new_run_directory
from ..search.tracking.tracker_names import TrackerName, check_trackers
from .run import Run
from .search_process import SearchProcess

__all__ = ["start_search"]

POLL_SECONDS = 0.2


def start_search(
    *,
    budget: str = "10m",
    config: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    data: str | None = None,
    run_dir: Path | str | None = None,
    seed: int = 0,
    trial_budget: str | None = None,
    init: Sequence[str | DNA] = (),
    strategy: Literal["evolution", "random", "random-init", "guided", "guided-random"] | None = None,
    workers: int | None = None,
    workers_per_device: int | None = None,
    executor: Literal["ray", "inline"] | None = None,
    accel: Literal["auto", "cpu", "gpu", "tpu"] | None = None,
    address: str | None = None,
    track: Sequence[TrackerName] = (),
    plugins: Sequence[str] = (),
) -> Run:
    """Start a search in a separate process, and return its run as soon as the run is stored.

    The arguments are the options of the command `primer-search`. The search continues if this process ends. `Run.stop`
    ends the search, and `open_run` opens its run again.

    Args:
        budget: wall-clock time of the whole search, such as `10m`.
        config: preset or TOML file; None: the preset of the accelerator.
        overrides: settings by name, such as `{"trial.batch": 32}`.
        data: text to train on, such as `text:PATH`; None: the preset's.
        run_dir: folder to store the run in; None: a new one under `runs/`.
        seed: random seed of the search.
        trial_budget: budget of each candidate's full trial, `5m` or `5000steps`; None: the preset's.
        init: programs to start from: DNA, library names, `RUN:CANDIDATE`, or files of DNA.
        strategy: name of the search strategy; None: the preset's.
        workers: trainings that run in parallel; None: the preset's.
        workers_per_device: workers that share one GPU; None: the preset's.
        executor: `ray`, or `inline` to train in the process of the search; None: the preset's.
        accel: accelerator to train on; None: the preset's, or what JAX finds.
        address: Ray cluster to use.
        track: experiment trackers that also log the trials.
        plugins: .py files or importable modules with your own primitives, mutations and programs.

    Raises:
        UsageError: an argument or a setting is invalid, the data is missing, or the folder is not empty.
        WorkFailedError: the search failed before its first trial.

    >>> import primer_search
    >>> primer_search.start_search(config="smoke", overrides={"trial.batch": 0})
    Traceback (most recent call last):
    ...
    primer_search.primitives.errors.UsageError: trial.batch = 0 (from --set) must be at least 1
    """
    load_plugins(plugins)
    settings = [f"{name}={json.dumps(value)}" for name, value in (overrides or {}).items()]
    with tempfile.TemporaryDirectory() as folder:
        programs = [_program_name(program, Path(folder) / f"dna{place}.json") for place, program in enumerate(init)]
        options: dict[str, Any] = {
            "budget": budget,
            "config": None if config is None else str(config),
            "data": data,
            "trial_budget": trial_budget,
            "strategy": strategy,
            "workers": workers,
            "workers_per_device": workers_per_device,
            "executor": executor,
            "accel": accel,
            "address": address,
        }
        make_plan(**options, overrides=settings, init=programs)  # refuses what is invalid, before anything is written
        trackers = check_trackers(track)
        run = new_run_directory(seed, datetime.now()) if run_dir is None else create_run_directory(Path(run_dir))
        words = ["--run-dir", str(run.path), "--seed", str(seed)]
        for name, value in options.items():
            words += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
        for option, values in (("--set", settings), ("--init", programs), ("--track", trackers), ("--plugin", plugins)):
            words += [word for value in values for word in (option, value)]
        process = SearchProcess(words)
        try:
            while process.running and not run.store.exists():
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            process.terminate()
            raise
        if not run.store.exists():
            process.wait()  # raises the error
    return Run(run, process)


def _program_name(program: str | DNA, file: Path) -> str:
    """Return the name by which the command finds a program; DNA is written to the file."""
    if isinstance(program, str):
        return program
    file.write_text(dna_to_json(program), encoding="utf-8")
    return str(file)
