"""The command `simulate`: a search with simulated trainings. It only parses options and prints."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer

from ..system.user_folders import user_path
from .options import FullTrialBudget, Json, Overrides, print_json, say

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(simulate)


def simulate(
    workers: Annotated[int, typer.Option(help="Number of simulated workers.", metavar="N")] = 1000,
    budget: Annotated[str, typer.Option(help="Simulated time of the search.", metavar="DURATION")] = "7d",
    trial_budget: FullTrialBudget = None,
    config: Annotated[str, typer.Option(help="A preset or a .toml file.", metavar="PRESET|FILE")] = "primer_paper",
    set_: Overrides = None,
    strategy: Annotated[
        Literal["evolution", "random", "guided", "guided-random"] | None,
        typer.Option(help="How candidates are proposed.", show_default="the preset's"),
    ] = None,
    proposals: Annotated[
        Literal["real", "copies"],
        typer.Option(
            help="real: mutate and check programs as a search does; copies: copy the parent instead, which is faster."
        ),
    ] = "real",
    overhead: Annotated[
        str | None,
        typer.Option(
            help="Time that a trial takes in addition to training: compilation, checks and validation.",
            metavar="DURATION",
            show_default="as recorded, about 6s",
        ),
    ] = None,
    controller_clock: Annotated[
        Literal["cpu", "wall", "none"],
        typer.Option(
            help="Simulated time that the controller's own work takes while workers wait: its CPU time, its wall-clock "
            "time, or none. With none, the result depends only on --seed."
        ),
    ] = "cpu",
    limit: Annotated[
        str,
        typer.Option(
            help="Real time after which the simulation ends and reports what it has simulated.", metavar="DURATION"
        ),
    ] = "10m",
    seed: Annotated[
        int, typer.Option(help="Random seed of the search and of its simulated trainings.", min=0, metavar="N")
    ] = 0,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder to keep the simulated run in.", metavar="DIR", show_default="none is kept", parser=user_path
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Simulate a search with many workers: print how busy they are, how much the run stores, and what limits its speed.

    The controller, the strategy, the mutations and the store are real. Trainings are drawn from recorded trainings, and
    the workers' time is virtual.
    """
    import json

    from ..configs.load import load
    from ..configs.plan import duration
    from ..search.config import with_trial_budget
    from ..search.reports.console import console_for
    from ..search.runs.run_directory import RunDirectory, create_run_directory
    from ..search.simulation.simulate import SimulationOptions
    from ..search.simulation.simulate import simulate as run_simulation
    from ..search.simulation.simulation_table import print_simulation

    options = SimulationOptions(
        workers,
        duration("--budget", budget),
        seed,
        proposals,
        controller_clock,
        duration("--limit", limit),
        None if overhead is None else duration("--overhead", overhead),
    )
    chosen = [] if strategy is None else [f"search.strategy={json.dumps(strategy)}"]
    settings = load(config, [*(set_ or ()), *chosen])
    if trial_budget is not None:
        settings = replace(settings, trial=with_trial_budget(settings.trial, trial_budget, config))
    options.check(settings)
    with TemporaryDirectory(prefix="primer-search-") if run_dir is None else nullcontext() as folder:
        run = RunDirectory(Path(folder)) if folder is not None else create_run_directory(run_dir or Path())
        summary = run_simulation(settings, options, run, say)
    if json_:
        print_json({"config": config, "proposals": proposals, "seed": seed, **summary.to_dict()})
    else:
        print_simulation(summary, proposals, console_for(sys.stdout))
