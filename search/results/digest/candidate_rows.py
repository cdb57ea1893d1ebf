"""Leaderboard rows of some candidates from the digest of a run, without reading the other candidates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...runs.store_reader import StoreReader
from ..confirmation import Confirmation
from ..leaderboard_rows import BaselineSummary, LeaderboardRow
from .ancestry_cache import AncestryReader
from .run_digest import RunDigest

__all__ = ["CandidateRows", "candidate_rows"]


@dataclass(frozen=True, slots=True)
class CandidateRows:
    """Results of some candidates.

    Attributes:
        baseline: results of the baseline.
        ancestry: all candidates of the run that the digest has read, by id.
        rows: rows by id of the candidate with the result, without lineage; candidates without a result have none.
        initial_programs: origin of each imported initial program, by candidate id.
        confirmed: results of retraining, best first.
    """

    baseline: BaselineSummary
    ancestry: AncestryReader
    rows: Mapping[int, LeaderboardRow]
    initial_programs: Mapping[int, str]
    confirmed: tuple[Confirmation, ...]

    def row(self, candidate_id: int) -> LeaderboardRow | None:
        """Return the row of a candidate, or of the earlier one whose result it shares."""
        if candidate_id not in self.ancestry:
            return None
        shared = self.ancestry[candidate_id].same_as
        return self.rows.get(candidate_id if shared is None else shared)


def candidate_rows(digest: RunDigest, store: StoreReader, candidate_ids: Iterable[int]) -> CandidateRows:
    """Return the rows of some candidates; candidates that the digest has not read yet have none.

    Args:
        digest: digest of the run.
        store: store of the run.
        candidate_ids: ids of candidates.
    """
    ancestry = digest.ancestry.reader(store)
    known = [ancestry[number] for number in sorted({*candidate_ids}) if number in ancestry]
    wanted = sorted({each.id if each.same_as is None else each.same_as for each in known})
    rows = {row.id: row for row in digest.rows(store, wanted, newest=0)}
    return CandidateRows(digest.baseline, ancestry, rows, digest.initial_programs, digest.confirmed)
