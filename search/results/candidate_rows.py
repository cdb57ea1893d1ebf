"""Rows and losses of some candidates, without the leaderboard of the whole run.

A run can have a hundred thousand candidates, a page shows a few. A row depends on the candidate's own trainings and the
baseline's. Only the losses at equal time of a guided search depend on all trainings (see `equal_time`); such a search
has hundreds of candidates, so its rows are taken from the leaderboard.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from ...workers.protocol import Evaluation
from ..evolution.candidate import BASELINE_ID
from ..evolution.initial_programs import initial_program_origins
from ..guided.make_strategy import GUIDED_STRATEGIES
from .confirmation import Confirmation, Retraining, confirmations, read_retrainings
from .leaderboard import baseline_summary, candidate_row, leaderboard
from .leaderboard_rows import BaselineSummary, LeaderboardRow
from .lineage import trace_lineage

if TYPE_CHECKING:  # loads SQLite
    from ..runs.records import Ancestor
    from ..runs.store_reader import StoreReader

__all__ = ["CandidateRows", "ranking_losses", "read_candidate_rows"]


@dataclass(frozen=True, slots=True)
class CandidateRows:
    """Results of some candidates and of all their ancestors.

    Attributes:
        baseline: results of the baseline.
        pedigree: the candidates and their ancestors by id.
        rows: row of each that has a result of its own, by id.
        initial_programs: origin of each imported initial program, by candidate id.
        retrainings: all retrainings of the run.
        confirmed: results of retraining, best first.
    """

    baseline: BaselineSummary
    pedigree: Mapping[int, Ancestor]
    rows: Mapping[int, LeaderboardRow]
    initial_programs: Mapping[int, str]
    retrainings: tuple[Retraining, ...]
    confirmed: tuple[Confirmation, ...]

    def row(self, candidate_id: int) -> LeaderboardRow | None:
        """Return the row of a candidate, or of the earlier one whose result it shares."""
        shared = self.pedigree[candidate_id].same_as
        return self.rows.get(candidate_id if shared is None else shared)


def read_candidate_rows(store: StoreReader, candidate_ids: Iterable[int]) -> CandidateRows:
    """Return the rows of some candidates and of their ancestors.

    Args:
        store: store of the run.
        candidate_ids: ids of candidates of the run.
    """
    wanted = {BASELINE_ID, *candidate_ids}
    with store.snapshot():
        manifest = store.manifest
        retrainings = read_retrainings(store.events_of_kind("confirmed"))
        if _is_guided(manifest):
            board = leaderboard(store)
            pedigree, rows, baseline = store.pedigree(), {row.id: row for row in board.rows}, board.baseline
        else:
            pedigree = store.ancestors(wanted)
            pedigree |= store.ancestors({each.same_as for each in pedigree.values() if each.same_as is not None})
            rows, baseline = _few_rows(store, pedigree)
    return CandidateRows(
        baseline,
        pedigree,
        rows,
        initial_program_origins(manifest),
        tuple(retrainings),
        confirmations(retrainings),
    )


def ranking_losses(store: StoreReader) -> dict[int, float]:
    """Return the loss by which each candidate is ranked, in nats per token, of all that have a rank."""
    with store.snapshot():
        if _is_guided(store.manifest):
            rows = leaderboard(store).rows
            return {row.id: row.ranking_nats for row in rows if row.rank is not None and row.ranking_nats is not None}
        results = store.results()
    losses: defaultdict[int, list[float]] = defaultdict(list)
    diverged = {number for number, outcome, _ in results if outcome == "non_finite"}
    for number, outcome, loss in results:
        if outcome == "ok" and loss is not None:
            losses[number].append(loss)
    return {number: fmean(found) for number, found in losses.items() if number not in diverged}


def _is_guided(manifest: Mapping) -> bool:
    return manifest.get("config", {}).get("search", {}).get("strategy") in GUIDED_STRATEGIES


def _few_rows(
    store: StoreReader, pedigree: Mapping[int, Ancestor]
) -> tuple[dict[int, LeaderboardRow], BaselineSummary]:
    results: defaultdict[int, list[Evaluation]] = defaultdict(list)
    for trial in store.evaluations(pedigree):
        results[trial.candidate_id].append(trial.evaluation)
    baseline = baseline_summary(results.get(BASELINE_ID, []))
    rows = {}
    for number, found in results.items():
        row = replace(candidate_row(pedigree[number], found, baseline), lineage=trace_lineage(pedigree, number))
        ranked = row.loss_nats is not None and not row.diverged
        rows[number] = replace(row, rank=store.rank_of_loss(row.loss_nats or 0.0) if ranked else None)
    return rows, baseline
