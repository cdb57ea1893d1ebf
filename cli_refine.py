"""Commands that look inside a trained model and improve it: analyze and refine. They only parse options and print."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_options import Candidate, Json, Quiet, choose_platform, print_json, say, say_unless
from .cli_weights import share_the_device, trained_or_saved
from .system.user_folders import user_path

if TYPE_CHECKING:  # loads JAX
    from .models.checkpoint import Weights

__all__ = ["register"]

RunOrFolder = Annotated[str, typer.Argument(help="A run, or a folder of saved weights.", metavar="RUN|FOLDER")]
Tokens = Annotated[int, typer.Option(help="Tokens of the validation text to use.", min=1, metavar="N")]
OtherText = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Another text to measure on, as a search names it; the model's tokenizer reads it.",
        metavar="SOURCE",
        show_default="the text of the training",
    ),
]
Figures = Annotated[
    Path | None,
    typer.Option(
        help="Also write the figure to this folder, as SVG and PNG; needs matplotlib.", metavar="DIR", parser=user_path
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(analyze)


def analyze(
    run: RunOrFolder,
    candidate: Candidate = None,
    tokens: Tokens = 65_536,
    data: OtherText = None,
    figures: Figures = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how linear the layers of a trained model are, and what it costs to remove or to linearize each.

    A candidate without weights is trained first. The validation text is in two halves: linear maps are fitted on the
    first, and scored on the second. The result is stored beside the weights, as analysis.json and analysis.html, and
    the candidate's page of the dashboard shows it.
    """
    weights, folder = _named_weights(run, candidate)
    from .search.refinement.analysis_result import write_analysis
    from .search.refinement.held_out_text import find_text
    from .search.refinement.layer_analysis import analyze_layers
    from .search.reports.console import console_for
    from .search.reports.progress.step_progress import StepProgress
    from .search.reports.tables.analysis_table import print_analysis, write_analysis_page

    dataset = find_text(weights, folder, data, say_unless(quiet))
    with StepProgress(sys.stderr, "analyzing", quiet) as progress:
        analysis = analyze_layers(weights, dataset, tokens, str(folder), progress)
    # Printed before files are written, which may fail.
    print_json(analysis.to_dict()) if json_ else print_analysis(analysis, console_for(sys.stdout))
    write_analysis(folder, analysis)
    page = write_analysis_page(analysis, folder)
    if figures is not None:
        from .search.reports.figures.analysis_figure import analysis_plot
        from .search.reports.figures.static_style import write_plots

        write_plots({"analysis": analysis_plot(analysis)}, figures)
        say(f"wrote the figure to {figures}")
    if not json_:
        typer.echo(f"\npage  {page}")


def _named_weights(run: str, candidate: str | None) -> tuple[Weights, Path]:
    """Return the weights that a command names, and their folder; a candidate without weights is trained."""
    share_the_device()
    from .search.refinement.train_weights import load_weights_folder
    from .search.refinement.training_job import plan_training

    if candidate is None:
        choose_platform()
        return load_weights_folder(run), user_path(run)
    weights = trained_or_saved(run, candidate)
    return weights, plan_training(run, candidate).folder
