"""The commands that question results: parsing and printing only, like `cli`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from .cli_options import Address, Candidate, Json, Run, RunOrName, WorkersPerDevice, pin_to_cpu, print_json, say
from .primitives.errors import UsageError, WorkFailedError

__all__ = ["register"]

UNBOUNDED = "3650d"
"""The wall clock of a study, which takes as long as its trainings do."""


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(confirm)
    app.command()(compare)
    app.command()(ablate)
    app.command()(doctor)
    app.command()(stress)


def confirm(
    run: Run,
    top: Annotated[int, typer.Option(help="Number of the best candidates to retrain.", min=1, metavar="N")] = 10,
    repeats: Annotated[int, typer.Option(help="Trainings of each.", min=1, metavar="N")] = 3,
    beside: Annotated[
        list[str] | None, typer.Option(help="A library program to train for comparison; repeatable.", metavar="NAME")
    ] = None,
    trial_budget: Annotated[
        str | None, typer.Option(help="Training time of each [the run's].", metavar="DURATION")
    ] = None,
    scale: Annotated[
        list[str] | None,
        typer.Option(
            help="Retrain them at another size, too, such as layers=4,unit=16,budget=60s (also: length, batch, "
            "devices, learning_rate); other values stay those of the run; repeatable.",
            metavar="KEY=VALUE,...",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Trainings at the same time [as in the run]; 0: one for each core or device.", min=0, metavar="N"
        ),
    ] = None,
    workers_per_device: WorkersPerDevice = None,
    address: Address = None,
    json_: Json = False,
) -> None:
    """Retrain the best candidates of a run with fresh random seeds, and score them once on test text.

    With --scale, retrain them in larger models, too: a small winner need not win at a larger size.
    """
    from .configs.consistency import refuse_contradictions
    from .configs.plan import duration
    from .configs.scales import parse_scales
    from .search.reports.leaderboard_table import console_for, print_leaderboard
    from .search.reports.progress.study_progress import watched
    from .search.reports.run_page import try_report
    from .search.results.leaderboard import leaderboard
    from .search.runs.run_directory import find_run
    from .search.runs.run_settings import load_config
    from .search.runs.store import Store
    from .search.studies.retrain import confirm as confirmed
    from .workers.devices.discovery import resolve_platform

    seconds = None if trial_budget is None else duration("--trial-budget", trial_budget)
    directory = find_run(run)
    with Store.open(directory.path, read_only=True) as store:
        settings = load_config(store, seconds, workers, workers_per_device)
    refuse_contradictions(settings, f"run {directory.path}")
    scales = parse_scales(scale or (), settings)
    pin_to_cpu(resolve_platform(settings.workers.accel, address=address), settings.workers.executor)
    with watched(directory.path) as display:
        confirmed(
            directory.path,
            top=top,
            repeats=repeats,
            beside=beside or (),
            trial_seconds=seconds,
            workers=workers,
            workers_per_device=workers_per_device,
            scales=scales,
            address=address,
            observe=display.observe,
            tell=display.tell,
        )
    with Store.open(directory.path, read_only=True) as store:
        board = leaderboard(store)
        page = try_report(store)
    if json_:
        print_json(board.to_dict())
        return
    print_leaderboard(board, console_for(sys.stdout), 5)
    typer.echo(f"\nreport  {page}")


def compare(
    what: Annotated[
        list[str],
        typer.Argument(
            help="Library names, RUN:ID (a number, `best` or `baseline`), or files of DNA.", metavar="WHAT..."
        ),
    ],
    trial_budget: Annotated[
        str | None, typer.Option(help="Budget of each training [the preset's].", metavar="DURATION")
    ] = None,
    repeats: Annotated[
        int, typer.Option(help="Trainings of each, with random seeds 0, 1, ...", min=1, metavar="N")
    ] = 3,
    baseline: Annotated[
        str, typer.Option(help="The program that all are compared with.", metavar="WHAT")
    ] = "TRANSFORMER",
    lr_sweep: Annotated[
        int, typer.Option(help="Learning rates tried for each, factors of two apart.", min=1, max=9, metavar="N")
    ] = 1,
    match: Annotated[
        str | None,
        typer.Option(help="params or flops: choose widths so that this cost equals the baseline's.", metavar="COST"),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(help="A preset or a .toml file [by accelerator: laptop, gpu or tpu].", metavar="PRESET|FILE"),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting; repeatable.", metavar="SECTION.KEY=VALUE")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="python-stdlib, text:PATH, lm1b or tfds:NAME (docs/data.md).", metavar="SOURCE")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Trainings at the same time; 0: one for each core or device.", min=0, metavar="N")
    ] = None,
    workers_per_device: WorkersPerDevice = None,
    executor: Annotated[str | None, typer.Option(help="ray, or inline (in this process).", metavar="NAME")] = None,
    accel: Annotated[str | None, typer.Option(help="auto, cpu, gpu or tpu.", metavar="NAME")] = None,
    address: Address = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Output folder; repeat the command to continue [comparisons/...].", metavar="DIR"
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Train blocks side by side with several random seeds: loss, speedup factor and cost, each with its interval."""
    from .configs.plan import make_plan
    from .search.reports.comparison import print_comparison, write_comparison
    from .search.reports.leaderboard_table import console_for
    from .search.reports.progress.study_progress import watched
    from .search.studies.compare import compare as compared
    from .search.studies.compare import default_folder
    from .search.studies.compared_programs import MATCHES, named_programs

    if match not in (None, *MATCHES):
        raise UsageError(f"--match {match} is none of {', '.join(MATCHES)}")
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
    subjects = named_programs(what, baseline, plan.config.model.unit)
    folder = output or default_folder(plan.config, subjects)
    pin_to_cpu(plan.platform, plan.config.workers.executor)
    with watched(folder) as display:
        comparison = compared(
            plan.config,
            subjects,
            seeds=range(repeats),
            record=folder / "record.jsonl",
            sweep=lr_sweep,
            match=match,
            address=address,
            observe=display.observe,
            tell=display.tell,
        )
    # Printed before files are written, which may fail.
    print_json(comparison.to_dict()) if json_ else print_comparison(comparison, console_for(sys.stdout))
    page = write_comparison(comparison, folder)
    if not json_:
        typer.echo(f"\npage  {page}")


def ablate(
    run: Annotated[
        str, typer.Argument(help="A run, or a library program or file of DNA.", metavar="RUN|NAME", show_default=False)
    ],
    candidate: Candidate = None,
    repeats: Annotated[
        int, typer.Option(help="Trainings of each program, with random seeds 0, 1, ...", min=1, metavar="N")
    ] = 3,
    trial_budget: Annotated[
        str | None, typer.Option(help="Budget of each training [the run's].", metavar="DURATION")
    ] = None,
    max_trials: Annotated[
        int | None, typer.Option(help="Limit of trainings; insertions are dropped first.", min=1, metavar="N")
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="For a NAME: a preset or a .toml file [by accelerator].", metavar="PRESET|FILE")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Trainings at the same time; 0: one for each core or device.", min=0, metavar="N")
    ] = None,
    workers_per_device: WorkersPerDevice = None,
    executor: Annotated[str | None, typer.Option(help="ray, or inline (in this process).", metavar="NAME")] = None,
    address: Address = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Output folder [RUN/ablation-ID, ablations/...].", metavar="DIR"),
    ] = None,
    json_: Json = False,
) -> None:
    """Measure the effect of each change of a block, and find the smallest program that is as good.

    A candidate is compared with its run's baseline under the run's settings, a library program with the Transformer.
    """
    from .configs.consistency import refuse_contradictions
    from .configs.plan import duration, make_plan
    from .search.reports.ablation import print_ablation, write_ablation
    from .search.reports.leaderboard_table import console_for
    from .search.reports.progress.study_progress import watched
    from .search.studies.ablation import ablate as ablated
    from .search.studies.ablation_programs import pair_from_names, pair_from_run
    from .workers.devices.discovery import resolve_platform
    from .workers.devices.ray_environment import check_address

    if executor not in (None, "ray", "inline"):
        raise UsageError(f"--executor {executor} is none of ray, inline")
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
        raise UsageError("--config is for library programs; a candidate trains under the settings of its run")
    else:
        seconds = None if trial_budget is None else duration("--trial-budget", trial_budget)
        pair, settings = pair_from_run(
            run,
            candidate,
            trial_seconds=seconds,
            workers=workers,
            workers_per_device=workers_per_device,
            executor=executor,
        )
        refuse_contradictions(settings, f"run {run}")
    check_address(address, settings.workers.executor)
    pin_to_cpu(resolve_platform(settings.workers.accel, address=address), settings.workers.executor)
    folder = output or pair.folder
    with watched(folder) as display:
        ablation = ablated(
            settings,
            pair.baseline,
            pair.candidate,
            seeds=range(repeats),
            record=folder / "record.jsonl",
            most_trials=max_trials,
            address=address,
            observe=display.observe,
            tell=display.tell,
        )
    # Printed before files are written, which may fail.
    print_json(ablation.to_dict()) if json_ else print_ablation(ablation, console_for(sys.stdout))
    page = write_ablation(ablation, folder)
    if not json_:
        typer.echo(f"\nminimal program  {folder / 'minimal.json'}\npage             {page}")


def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Skip the checks in the language model, which need compilation.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")] = False,
) -> None:
    """Check that cheating programs are refused, that honest ones are not, and that the machine can run a search.

    Exits 0 (all checks passed) or 1 (a cheat was accepted, an honest program was refused, or something is missing).
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a search may be using the same device
    from .search.doctor.checks import examine, report
    from .search.reports.doctor_table import print_findings
    from .search.reports.leaderboard_table import console_for

    findings = list(examine(quick, progress=say))
    facts = report(findings)
    print_json(facts) if json_ else print_findings(findings, console_for(sys.stdout))
    if facts["failed"]:
        raise WorkFailedError(f"{len(facts['failed'])} of {len(findings)} checks failed: {', '.join(facts['failed'])}")


def stress(
    run: RunOrName,
    candidate: Candidate = None,
    layers: Annotated[str, typer.Option(help="Depths to try.", metavar="N,...")] = "12,24",
    length_factor: Annotated[
        str, typer.Option(help="Lengths to try, in multiples of the preset's.", metavar="N,...")
    ] = "16",
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or both.", metavar="NAME,...")] = "float32,bfloat16",
    steps: Annotated[int, typer.Option(help="Training steps in each model.", min=0, metavar="N")] = 50,
    seed: Annotated[int, typer.Option(help="Random seed of parameters and text.", min=0, metavar="N")] = 0,
    config: Annotated[
        str | None,
        typer.Option(help="A preset or a .toml file [the run's own; for a NAME laptop].", metavar="PRESET|FILE"),
    ] = None,
    json_: Json = False,
) -> None:
    """Measure a block at depth, at length and in low precision: largest values and scores, gradients, where it fails.

    First the preset's own size, then every depth at every length, all in each precision, one after the other.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a search may be using the same device
    from .configs import load
    from .search.reports.leaderboard_table import console_for
    from .search.reports.stress_table import print_stress
    from .search.studies.stress import numbers, program_and_config, stress_settings
    from .search.studies.stress import stress as stressed

    chosen = load(config or "laptop") if config is not None or candidate is None else None
    name, dna, settled = program_and_config(run, candidate, chosen)
    depths, factors = numbers("--layers", layers), numbers("--length-factor", length_factor)
    settings = stress_settings(settled, depths, factors, precision.split(","))
    lines = list(stressed(dna, settled, settings, steps, seed, say))
    if json_:
        print_json({"program": name, "steps": steps, "seed": seed, "lines": [line.to_dict() for line in lines]})
    else:
        print_stress(name, lines, console_for(sys.stdout))
