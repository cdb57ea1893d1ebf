"""Commands that analyze and improve a trained model: analyze and refine. They only parse options and print."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..primitives.errors import UsageError
from ..system.standard_streams import print_line
from ..system.user_folders import user_path
from .options import Candidate, Json, Quiet, choose_platform, print_json, say, say_unless, share_the_device
from .weights import trained_or_saved

if TYPE_CHECKING:  # loads JAX
    from ..models.checkpoint import Weights

__all__ = ["register"]

RunOrFolder = Annotated[str, typer.Argument(help="A run, or a folder of saved weights.", metavar="RUN|FOLDER")]
Tokens = Annotated[int, typer.Option(help="Tokens of the validation text to use.", min=1, metavar="N")]
OtherText = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Another text to measure on, named as for a search; it is encoded by the model's tokenizer.",
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
    app.command()(refine)


def analyze(
    run: RunOrFolder,
    candidate: Candidate = None,
    tokens: Tokens = 65_536,
    data: OtherText = None,
    figures: Figures = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how linear each layer of a trained model is, and how much the loss depends on it.

    A candidate without weights is trained first. A linear map of each layer is fitted on one half of the validation
    text. On the other half, the maps are scored, and the loss is measured without each layer and with its map instead.
    The result is stored next to the weights, as analysis.json and analysis.html, and the dashboard shows it on the
    candidate's page.
    """
    weights, folder = _named_weights(run, candidate)
    from ..search.refinement.analysis_result import write_analysis
    from ..search.refinement.layer_analysis import analyze_layers
    from ..search.reports.console import console_for
    from ..search.reports.progress.step_progress import StepProgress
    from ..search.reports.tables.analysis_table import print_analysis, write_analysis_page
    from ..search.weights.held_out_text import find_text

    dataset = find_text(weights, folder, data, say_unless(quiet))
    with StepProgress(sys.stderr, "analyzing", quiet) as progress:
        analysis = analyze_layers(weights, dataset, tokens, str(folder), progress)
    # Printed before files are written, which may fail.
    print_json(analysis.to_dict()) if json_ else print_analysis(analysis, console_for(sys.stdout))
    write_analysis(folder, analysis)
    page = write_analysis_page(analysis, folder)
    if figures is not None:
        from ..search.reports.figures.analysis_figure import analysis_plot
        from ..search.reports.figures.static_style import write_plots

        write_plots({"analysis": analysis_plot(analysis)}, figures)
        say(f"wrote the figure to {figures}")
    if not json_:
        print_line(f"\npage  {page}")


def refine(
    run: RunOrFolder,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder of the refined weights.", metavar="DIR", parser=user_path),
    ],
    candidate: Candidate = None,
    criterion: Annotated[
        Literal["loss", "accuracy"],
        typer.Option(help="Score to improve: loss is less noisy, accuracy is the paper's."),
    ] = "loss",
    shares: Annotated[
        str, typer.Option(help="Shares of the rank to try, above 0 and below 1.", metavar="NUMBER,...")
    ] = "0.9,0.75,0.5,0.25,0.1,0.05,0.01",
    margin: Annotated[
        float,
        typer.Option(
            help="Standard errors by which a reduction must help to be kept; 0: any gain, as in the paper.",
            min=0.0,
            metavar="NUMBER",
        ),
    ] = 3.0,
    tokens: Tokens = 65_536,
    data: OtherText = None,
    factored: Annotated[
        bool, typer.Option("--factored", help="Also write factored.safetensors, with reduced kernels as two factors.")
    ] = False,
    figures: Figures = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing folder.")] = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Lower the rank of each matrix of a trained model if the model then predicts better, and save the model.

    Every layer, matrix and share of the rank is tried on a fifth of the validation text, and the best reductions are
    combined. Loss and accuracy before and after are measured on the rest of the text, also by frequency of the tokens.
    If no reduction helps, nothing is written.
    """
    ranks = _parse_shares(shares)
    if output.exists() and not force:
        raise UsageError(f"{output} exists: choose another folder with -o, or replace it with --force")
    weights, folder = _named_weights(run, candidate)
    from ..search.refinement.rank_search import refine_ranks
    from ..search.refinement.refined_weights import write_refined
    from ..search.reports.console import console_for
    from ..search.reports.progress.step_progress import StepProgress
    from ..search.reports.tables.refinement_table import print_refinement, write_refinement_page
    from ..search.weights.held_out_text import find_text

    dataset = find_text(weights, folder, data, say_unless(quiet))
    with StepProgress(sys.stderr, "reducing ranks", quiet) as progress:
        refined = refine_ranks(weights, dataset, tokens, ranks, criterion, margin, str(folder), progress)
    result = refined.result
    # Printed before files are written, which may fail.
    print_json(result.to_dict()) if json_ else print_refinement(result, console_for(sys.stdout))
    if result.kept:
        write_refined(output, weights, refined, factored=factored, overwrite=force)
        page = write_refinement_page(result, output)
        say(f"wrote the refined weights to {output}; page {page}")
    else:
        say("nothing is written")
    if figures is not None:
        from ..search.reports.figures.refinement_figure import refinement_plot
        from ..search.reports.figures.static_style import write_plots

        write_plots({"refinement": refinement_plot(result)}, figures)
        say(f"wrote the figure to {figures}")


def _parse_shares(text: str) -> tuple[float, ...]:
    """Return the shares of a list with commas.

    Raises:
        UsageError: one of them is not a number between 0 and 1.
    """
    try:
        shares = tuple([float(word) for word in text.split(",")])
    except ValueError:
        shares = ()
    if not shares or not all(0.0 < share < 1.0 for share in shares):
        raise UsageError(f"--shares {text[:40]!r} is not a list of numbers between 0 and 1, such as --shares 0.5,0.1")
    return shares


def _named_weights(run: str, candidate: str | None) -> tuple[Weights, Path]:
    """Return the weights that a command names, and their folder; a candidate without weights is trained."""
    share_the_device()
    from ..search.weights.saved_weights import load_weights_folder
    from ..search.weights.training_job import plan_training

    if candidate is None:
        choose_platform()
        return load_weights_folder(run), user_path(run)
    weights = trained_or_saved(run, candidate)
    return weights, plan_training(run, candidate).folder
