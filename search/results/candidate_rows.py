"""Rows and losses of some candidates, without the leaderboard of the whole run.

A run can have a hundred thousand candidates, a page shows a few. A row depends on the candidate's own trainings and the
baseline's. Only the losses at equal time of a guided search depend on all trainings (see `equal_time`); such a search
has hundreds of candidates, so its rows are taken from the leaderboard.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from ...workers.protocol import Evaluation
from ..evolution.candidate import BASELINE_ID
from ..evolution.initial_programs import initial_program_origins
from ..guided.make_strategy import GUIDED_STRATEGIES
from .confirmation import Confirmation, Retraining, confirmations, read_retrainings
from .leaderboard import baseline_summary, candidate_row, leaderboard
from .leaderboard_rows import BaselineSummary, LeaderboardRow

if TYPE_CHECKING:  # loads SQLite
    from ..runs.records import Ancestor
    from ..runs.store_reader import StoreReader

__all__ = ["CandidateRows", "rank_of", "ranking_losses", "read_candidate_rows", "read_pedigree"]


@dataclass(frozen=True, slots=True)
class CandidateRows:
    """Results of some candidates.

    Attributes:
        baseline: results of the baseline.
        pedigree: the candidates and all their ancestors by id.
        rows: row of each of the candidates, or of the one whose result it shares, that has a result.
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


def read_pedigree(store: StoreReader, candidate_ids: Iterable[int]) -> dict[int, Ancestor]:
    """Return some candidates and all their ancestors by id, and the earlier ones whose results they share."""
    if _is_guided(store.manifest):
        return store.pedigree()
    wanted = set(candidate_ids)
    pedigree = store.ancestors(wanted)
    shared = {each.same_as for number, each in pedigree.items() if number in wanted and each.same_as is not None}
    return pedigree | store.ancestors(shared) if shared else pedigree


def read_candidate_rows(store: StoreReader, candidate_ids: Iterable[int]) -> CandidateRows:
    """Return the rows of some candidates, without their lineages and ranks, which `rank_of` looks up.

    Args:
        store: store of the run.
        candidate_ids: ids of candidates of the run.
    """
    wanted = {BASELINE_ID, *candidate_ids}
    with store.snapshot():
        manifest = store.manifest
        retrainings = read_retrainings(store.events_of_kind("confirmed"))
        pedigree = read_pedigree(store, wanted)
        if _is_guided(manifest):
            board = leaderboard(store)
            rows, baseline = {row.id: row for row in board.rows}, board.baseline
        else:
            known = {number: pedigree[number] for number in wanted if number in pedigree}
            shared = {each.same_as: pedigree[each.same_as] for each in known.values() if each.same_as is not None}
            rows, baseline = _few_rows(store, known | shared)
    return CandidateRows(
        baseline,
        pedigree,
        rows,
        initial_program_origins(manifest),
        tuple(retrainings),
        confirmations(retrainings),
    )


def rank_of(store: StoreReader, row: LeaderboardRow) -> int | None:
    """Return the rank of a row among all candidates of the run; None if it has none."""
    if row.rank is not None or not row.comparable:
        return row.rank
    return store.rank_of_loss(row.loss_nats or 0.0)


def ranking_losses(store: StoreReader) -> dict[int, float]:
    """Return the loss by which each candidate is ranked, in nats per token, of all that have a rank."""
    with store.snapshot():
        if _is_guided(store.manifest):
            rows = leaderboard(store).rows
            return {row.id: row.ranking_nats for row in rows if row.comparable and row.ranking_nats is not None}
        results = store.results()
    losses: defaultdict[int, list[float]] = defaultdict(list)
    diverged = {number for number, outcome, _ in results if outcome == "non_finite"}
    for number, outcome, loss in results:
        if outcome == "ok" and loss is not None:
            losses[number].append(loss)
    return {number: fmean(found) for number, found in losses.items() if number not in diverged}


def _is_guided(manifest: Mapping) -> bool:
    return manifest.get("config", {}).get("search", {}).get("strategy") in GUIDED_STRATEGIES


def _few_rows(store: StoreReader, shown: Mapping[int, Ancestor]) -> tuple[dict[int, LeaderboardRow], BaselineSummary]:
    results: defaultdict[int, list[Evaluation]] = defaultdict(list)
    for trial in store.evaluations_of(shown):
        results[trial.candidate_id].append(trial.evaluation)
    baseline = baseline_summary(results.get(BASELINE_ID, []))
    return {number: candidate_row(shown[number], found, baseline) for number, found in results.items()}, baseline
