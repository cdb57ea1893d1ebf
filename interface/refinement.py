"""Analysis and refinement of a trained model: the functions behind the commands `analyze` and `refine`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..search.refinement.analysis_result import ModelAnalysis
from ..search.refinement.refinement_result import Criterion, RefinementResult

if TYPE_CHECKING:  # loads JAX
    from ..models.checkpoint import Weights
    from ..workers.data.dataset import Dataset

__all__ = ["analyze", "refine"]

TOKENS = 65_536
"""Tokens of the validation text that are used."""

ReportSteps = Callable[[int, int], None]
"""A function that receives the number of finished steps and the number of all steps."""


def analyze(
    folder: Path | str,
    *,
    tokens: int = TOKENS,
    data: str | None = None,
    progress: ReportSteps = lambda done, total: None,
) -> ModelAnalysis:
    """Measure how linear each layer of a trained model is, and how the loss changes without it and with a linear map.

    Args:
        folder: folder of saved weights, such as `runs/first/weights/12`.
        tokens: tokens of the validation text to use.
        data: text to use, named as for a search; None: the text of the training.
        progress: called with the number of finished steps and the number of all steps.

    Raises:
        UsageError: the folder holds no weights, the text is missing or too short, or the model has values on it that
            are not finite.
    """
    from ..search.refinement.layer_analysis import analyze_layers

    weights, dataset = _model_and_text(folder, data)
    return analyze_layers(weights, dataset, tokens, str(folder), progress)


def refine(
    folder: Path | str,
    output: Path | str | None = None,
    *,
    criterion: Criterion = "loss",
    shares: Sequence[float] | None = None,
    margin: float | None = None,
    tokens: int = TOKENS,
    data: str | None = None,
    factored: bool = False,
    overwrite: bool = False,
    progress: ReportSteps = lambda done, total: None,
) -> RefinementResult:
    """Lower the rank of each matrix of a trained model if the model then predicts better.

    Args:
        folder: folder of saved weights.
        output: folder to write the refined weights to. Nothing is written if it is None or no reduction helps.
        criterion: score to improve, `loss` or `accuracy`.
        shares: shares of the largest rank to try; None: the default of the command.
        margin: standard errors by which a reduction must help to be kept; None: the default of the command.
        tokens: tokens of the validation text to use; reductions are chosen on a fifth of them.
        data: text to use, named as for a search; None: the text of the training.
        factored: whether to also write factored weights.
        overwrite: whether to replace an existing folder.
        progress: called with the number of scored models and the number of models to score.

    Raises:
        UsageError: the folder holds no weights, the text is missing or too short, the model has values on it that are
            not finite, or the output cannot be written.
    """
    from ..search.refinement.rank_search import MARGIN, SHARES, refine_ranks
    from ..search.refinement.refined_weights import write_refined

    weights, dataset = _model_and_text(folder, data)
    margin = MARGIN if margin is None else margin
    refined = refine_ranks(weights, dataset, tokens, shares or SHARES, criterion, margin, str(folder), progress)
    if output is not None and refined.result.kept:
        write_refined(Path(output), weights, refined, factored=factored, overwrite=overwrite)
    return refined.result


def _model_and_text(folder: Path | str, data: str | None) -> tuple[Weights, Dataset]:
    from ..search.weights.held_out_text import find_text
    from ..search.weights.saved_weights import load_weights_folder

    weights = load_weights_folder(str(folder))
    return weights, find_text(weights, Path(folder), data)
