"""Look inside a trained model and improve it: what the commands `analyze` and `refine` do."""

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
"""Function of the number of finished steps and of all."""


def analyze(
    folder: Path | str,
    *,
    tokens: int = TOKENS,
    data: str | None = None,
    progress: ReportSteps = lambda done, total: None,
) -> ModelAnalysis:
    """Measure how linear the layers of a trained model are, and what removing or linearizing each costs.

    Args:
        folder: folder of saved weights, such as `runs/first/weights/12`.
        tokens: tokens of the validation text to use.
        data: text to use, named as for a search; None: the text of the training.
        progress: called with the number of finished steps and of all.

    Raises:
        UsageError: the folder holds no weights, the text is missing or too short, or the model is not finite on it.
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
    """Lower the ranks of a trained model's matrices where it then predicts better.

    Args:
        folder: folder of saved weights.
        output: folder of the refined weights; None, or if no reduction helps: nothing is written.
        criterion: score to improve, `loss` or `accuracy`.
        shares: shares of the largest rank to try; None: those of the command.
        margin: standard errors by which a reduction must help to be kept; None: that of the command.
        tokens: tokens of the validation text to use, a fifth of them to choose on.
        data: text to use, named as for a search; None: the text of the training.
        factored: whether to also write factored weights.
        overwrite: whether to replace an existing folder.
        progress: called with the number of scored models and of all.

    Raises:
        UsageError: the folder holds no weights, the text is missing or too short, the model is not finite on it, or the
            output cannot be written.
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
