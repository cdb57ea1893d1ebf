"""The figures of a run as files, SVG and PNG, for papers and READMEs. No browser is needed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from ....workers.protocol import Evaluation
from ...evolution.candidate import BASELINE_ID, candidate_name
from ...results.digest.run_digest import RunDigest
from ...results.edits.edit_kind_totals import edit_kind_totals
from ...results.edits.lineage_tree import lineage_tree
from ...results.leaderboard import leaderboard, leading_candidate
from ...results.leaderboard_rows import Leaderboard
from .lineage_graph import lineage_graph
from .program_drawing import draw_program
from .static_figures import confirmation_plot, curve_plot, kinds_plot, prediction_plot, progress_plot
from .static_style import plot_files, write_files
from .training_points import training_points

if TYPE_CHECKING:  # loads SQLite
    from ...runs.store_reader import StoreReader

__all__ = ["write_figures"]

BEST_CANDIDATES = 8
"""Number of best candidates in the drawing of the lineage."""


def write_figures(store: StoreReader, folder: Path) -> list[Path]:
    """Write the figures of a run into a folder, which is created if it does not exist, and return their paths.

    Plots are written as SVG and PNG. The drawings of the best program and of the lineage of the best candidates are
    written as SVG. A figure without data is left out.

    Raises:
        UsageError: matplotlib is not installed, or the folder cannot be written.
    """
    with store.snapshot():
        digest = RunDigest(store.manifest)
        digest.update(store, math.inf)
        board = leaderboard(store)
        files = {**_plots(store, digest, board), **_drawings(store, digest, leading_candidate(board))}
    return write_files(files, folder)


def _plots(store: StoreReader, digest: RunDigest, board: Leaderboard) -> dict[str, bytes]:
    best = leading_candidate(board)
    trainings: dict[str, list[Evaluation]] = {}
    for trial in store.evaluations_of({BASELINE_ID, *([] if best is None else [best])}):
        trainings.setdefault(candidate_name(trial.candidate_id), []).append(trial.evaluation)
    predictions = board.predictions
    plots = {
        "search": progress_plot(training_points(store), board.baseline),
        "curves": curve_plot(trainings),
        "confirmed": confirmation_plot(board.confirmed),
        "predictions": None if predictions is None else prediction_plot(predictions.checked),
        "edits": kinds_plot(edit_kind_totals(digest)),
    }
    return plot_files(plots)


def _drawings(store: StoreReader, digest: RunDigest, best: int | None) -> dict[str, bytes]:
    if best is None:
        return {}
    tree = lineage_tree(digest, store, BEST_CANDIDATES)
    dna, baseline = store.candidate(best).dna, store.candidate(BASELINE_ID).dna
    title = f"Program of {candidate_name(best)}, differences from the baseline marked"
    return {
        "program.svg": draw_program(dna, baseline, title=title, standalone=True).encode(),
        "lineage.svg": lineage_graph(tree, standalone=True).encode(),
    }
