"""Commands that train programs again: confirm, compare, ablate and stress. They only parse and print."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..primitives.errors import UsageError
from ..system.signals import interruptible
from ..system.standard_streams import print_line
from ..system.user_folders import user_path
from .options import (
    Accelerator,
    Address,
    Candidate,
    Config,
    Data,
    Executor,
    Json,
    Overrides,
    Quiet,
    Run,
    RunOrName,
    Workers,
    WorkersPerDevice,
    choose_platform,
    pin_to_cpu,
    print_json,
    say_unless,
    share_the_device,
)

__all__ = ["register"]

UNBOUNDED = "3650d"
"""Wall-clock budget of a study. It is never used up: a study ends with its last training."""

LOG = "record.jsonl"
"""File in a study's output folder with the finished trainings."""

TrialBudget = Annotated[
    str | None,
    typer.Option(help="Budget of each training: 5m, or 5000steps [the run's or the preset's].", metavar="BUDGET"),
]
Repeats = Annotated[
    int, typer.Option(help="Trainings of each program, with different random seeds.", min=1, metavar="N")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (confirm, compare, ablate, stress):
        app.command()(command)


def confirm(
    run: Run,
    top: Annotated[int, typer.Option(help="Number of the best candidates to retrain.", min=1, metavar="N")] = 10,
    repeats: Repeats = 3,
    also: Annotated[
        list[str] | None,
        typer.Option(
            help="A program to train for comparison: a library name, RUN:ID (a number, `best` or `baseline`), or a "
            "file of DNA; repeatable.",
            metavar="WHAT",
        ),
    ] = None,
    trial_budget: TrialBudget = None,
    scale: Annotated[
        list[str] | None,
        typer.Option(
            help="Model size to retrain candidates at, such as layers=4,unit=16,budget=60s (also: length, batch, "
            "devices, learning_rate); other values are the run's; repeatable.",
            metavar="KEY=VALUE,...",
        ),
    ] = None,
    workers: Workers = None,
    workers_per_device: WorkersPerDevice = None,
    executor: Executor = None,
    address: Address = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Retrain the best candidates of a run with fresh random seeds, and score them once on test text.

    With --scale, retrain them in larger models as well: a program that is best in a small model may not be best there.
    """
    from ..configs.consistency import refuse_contradictions
    from ..configs.scale_option import parse_scales
    from ..search.reports.console import console_for
    from ..search.reports.pages.run_page import try_report
    from ..search.reports.progress.study_progress import show_study_progress
    from ..search.reports.tables.leaderboard_table import print_leaderboard
    from ..search.results.leaderboard import leaderboard
    from ..search.runs.run_directory import find_run
    from ..search.runs.run_settings import load_config
    from ..search.runs.store import Store
    from ..search.studies.confirm import confirm as run_confirm
    from ..workers.devices.ray_environment import check_address

    directory = find_run(run)
    with Store.open(directory.path, read_only=True) as store:
        settings = load_config(store, trial_budget, workers, workers_per_device, executor)
    refuse_contradictions(settings, f"run {directory.path}")
    check_address(address, settings.workers.executor)
    scales = parse_scales(scale or (), settings)
    choose_platform(settings.workers.accel, settings.workers.executor, address, quiet, run)
    with show_study_progress(directory.path, address, quiet) as options:
        run_confirm(directory.path, options, config=settings, top=top, repeats=repeats, also=also or (), scales=scales)
    with Store.open(directory.path, read_only=True) as store:
        board = leaderboard(store)
        page = try_report(store)
    if json_:
        print_json(board.to_dict())
        return
    print_leaderboard(board, console_for(sys.stdout), 5)
    print_line(f"\nreport  {page}")


def compare(
    what: Annotated[
        list[str],
        typer.Argument(
            help="Library names, RUN:ID (a number, `best` or `baseline`), or files of DNA.", metavar="WHAT..."
        ),
    ],
    trial_budget: TrialBudget = None,
    repeats: Repeats = 3,
    baseline: Annotated[
        str, typer.Option(help="The program that all are compared with.", metavar="WHAT")
    ] = "TRANSFORMER",
    lr_sweep: Annotated[
        int,
        typer.Option(
            help="Number of learning rates to try for each program, a factor of two apart.", min=1, max=9, metavar="N"
        ),
    ] = 1,
    match: Annotated[
        Literal["params", "flops"] | None,
        typer.Option(help="params or flops: choose widths so that this cost equals the baseline's.", metavar="COST"),
    ] = None,
    config: Config = None,
    set_: Overrides = None,
    data: Data = None,
    workers: Workers = None,
    workers_per_device: WorkersPerDevice = None,
    executor: Executor = None,
    accel: Accelerator = None,
    address: Address = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Output folder; repeat the command to resume [comparisons/...].",
            metavar="DIR",
            parser=user_path,
        ),
    ] = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train programs several times and compare their loss, speed and cost with a baseline, with intervals."""
    from ..configs.plan import make_plan
    from ..search.reports.console import console_for
    from ..search.reports.pages.comparison_report import print_comparison, write_comparison
    from ..search.reports.progress.study_progress import show_study_progress
    from ..search.studies.compare import compare as run_compare
    from ..search.studies.compare import default_folder
    from ..search.studies.compared_programs import named_programs

    plan = make_plan(
        budget=UNBOUNDED,
        trial_budget=trial_budget,
        config=config,
        overrides=set_ or (),
        data=data,
        workers=workers,
        workers_per_device=workers_per_device,
        executor=executor,
        accel=accel,
        address=address,
    )
    programs = named_programs(what, baseline, plan.config.model)
    folder = output or default_folder(plan.config, programs)
    pin_to_cpu(plan.platform, plan.config.workers.executor)
    with show_study_progress(folder, address, quiet) as options:
        comparison = run_compare(
            plan.config, programs, options, seeds=range(repeats), log=folder / LOG, sweep=lr_sweep, match=match
        )
    # Printed first, because writing the files may fail.
    print_json(comparison.to_dict()) if json_ else print_comparison(comparison, console_for(sys.stdout))
    page = write_comparison(comparison, folder)
    if not json_:
        print_line(f"\npage  {page}")


def ablate(
    run: Annotated[
        str, typer.Argument(help="A run, or a library program or file of DNA.", metavar="RUN|NAME", show_default=False)
    ],
    candidate: Candidate = None,
    repeats: Repeats = 3,
    trial_budget: TrialBudget = None,
    max_trials: Annotated[
        int | None,
        typer.Option(
            help="Largest number of trainings; variants that add one edit to the baseline are skipped first.",
            min=1,
            metavar="N",
        ),
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="For a NAME: a preset or a .toml file [by accelerator].", metavar="PRESET|FILE")
    ] = None,
    workers: Workers = None,
    workers_per_device: WorkersPerDevice = None,
    executor: Executor = None,
    address: Address = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Output folder [RUN/ablation-ID, ablations/...].", metavar="DIR", parser=user_path
        ),
    ] = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure the effect of each change of a block, and find the smallest program that performs as well.

    A candidate is compared with its run's baseline under the run's settings, a library program with the Transformer.
    """
    from ..configs.consistency import refuse_contradictions
    from ..configs.plan import make_plan
    from ..search.reports.console import console_for
    from ..search.reports.pages.ablation_report import print_ablation, write_ablation
    from ..search.reports.progress.study_progress import show_study_progress
    from ..search.runs.run_settings import load_config
    from ..search.runs.store import Store
    from ..search.studies.ablation import ablate as run_ablate
    from ..search.studies.ablation_programs import pair_from_names, pair_from_run
    from ..workers.devices.ray_environment import check_address

    if candidate is None:
        plan = make_plan(
            budget=UNBOUNDED,
            trial_budget=trial_budget,
            config=config,
            workers=workers,
            workers_per_device=workers_per_device,
            executor=executor,
            address=address,
        )
        pair, settings = pair_from_names(run, plan.config), plan.config
    elif config is not None:
        raise UsageError("--config is for library programs; a candidate is trained with the settings of its run")
    else:
        with Store.open(run, read_only=True) as store, store.snapshot():
            settings = load_config(store, trial_budget, workers, workers_per_device, executor)
            pair = pair_from_run(store, candidate)
        refuse_contradictions(settings, f"run {run}")
    check_address(address, settings.workers.executor)
    choose_platform(settings.workers.accel, settings.workers.executor, address, quiet, run if candidate else "")
    folder = output or pair.folder
    with show_study_progress(folder, address, quiet) as options:
        seeds, log = range(repeats), folder / LOG
        ablation = run_ablate(
            settings, pair.baseline, pair.candidate, options, seeds=seeds, log=log, most_trials=max_trials, run=pair.run
        )
    # Printed first, because writing the files may fail.
    print_json(ablation.to_dict()) if json_ else print_ablation(ablation, console_for(sys.stdout))
    page = write_ablation(ablation, folder)
    if not json_:
        print_line(f"\nminimal program  {folder / 'minimal.json'}\npage             {page}")


def stress(
    run: RunOrName,
    candidate: Candidate = None,
    layers: Annotated[str, typer.Option(help="Numbers of layers to try.", metavar="N,...")] = "12,24",
    length_factor: Annotated[
        str, typer.Option(help="Sequence lengths to try, as multiples of the preset's length.", metavar="N,...")
    ] = "16",
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or both.", metavar="NAME,...")] = "float32,bfloat16",
    steps: Annotated[int, typer.Option(help="Training steps of each model.", min=0, metavar="N")] = 50,
    seed: Annotated[int, typer.Option(help="Random seed of parameters and text.", min=0, metavar="N")] = 0,
    config: Annotated[
        str | None,
        typer.Option(help="A preset or a .toml file [the run's; for a NAME, laptop].", metavar="PRESET|FILE"),
    ] = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure the largest values, scores and gradients of a block in deep, long and low-precision models.

    The command trains a model of the preset's or the run's size, and one for every combination of depth and length,
    each in every precision. It reports failures.
    """
    share_the_device()
    from ..configs import load
    from ..search.reports.console import console_for
    from ..search.reports.tables.stress_table import print_stress
    from ..search.studies.stress import parse_integers, program_and_config, stress_settings
    from ..search.studies.stress import stress as run_stress

    chosen = load(config or "laptop") if config is not None or candidate is None else None
    name, dna, used = program_and_config(run, candidate, chosen)
    depths, factors = parse_integers("--layers", layers), parse_integers("--length-factor", length_factor)
    settings = stress_settings(used, depths, factors, precision.split(","))
    choose_platform()
    results = list(interruptible(run_stress(dna, used, settings, steps, seed, say_unless(quiet))))
    if json_:
        print_json({"program": name, "steps": steps, "seed": seed, "lines": [result.to_dict() for result in results]})
    else:
        print_stress(name, results, console_for(sys.stdout))
