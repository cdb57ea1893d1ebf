"""Groups of tokens by their frequency in the training text, and the scores of two models on each group.

The paper on rank reduction finds its gains on facts that are rare in the training text (arXiv 2312.13558, section 5.1).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Integer

from ...models.analysis.token_scores import TokenScores
from .paired_difference import paired_difference
from .refinement_result import Scores, TokenGroup

__all__ = ["FREQUENCIES", "compare_by_frequency", "count_ids", "frequency_of_ids"]

FREQUENCIES = ("common", "middle", "rare")
"""Groups of token ids: each makes up a third of the training text."""

_CHUNK = 2**22


def count_ids(tokens: Integer[np.ndarray, " tokens"], vocabulary: int) -> Integer[np.ndarray, " vocabulary"]:
    """Return how often every token id occurs in a text, which may be a memory map."""
    counts = np.zeros(vocabulary, np.int64)
    for start in range(0, len(tokens), _CHUNK):
        counts += np.bincount(np.asarray(tokens[start : start + _CHUNK]), minlength=vocabulary)
    return counts


def frequency_of_ids(counts: Integer[np.ndarray, " vocabulary"]) -> Integer[np.ndarray, " vocabulary"]:
    """Return the group of every token id, an index into `FREQUENCIES`, from the ids' counts in a text.

    >>> frequency_of_ids(np.array([1, 50, 30, 19, 0])).tolist()
    [2, 0, 1, 2, 2]
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    groups = np.empty(len(counts), np.int64)
    groups[order] = np.minimum(before * len(FREQUENCIES) // max(int(counts.sum()), 1), len(FREQUENCIES) - 1)
    return groups


def compare_by_frequency(
    targets: Integer[np.ndarray, "windows length"],
    before: TokenScores,
    after: TokenScores,
    groups: Integer[np.ndarray, " vocabulary"],
) -> tuple[TokenGroup, ...]:
    """Return the scores of two models on all tokens, then on the tokens of each frequency group that occurs.

    Args:
        targets: predicted tokens.
        before, after: scores of both models.
        groups: group of every token id.
    """
    target_groups = groups[targets]
    masks = [(name, target_groups == number, int(np.sum(groups == number))) for number, name in enumerate(FREQUENCIES)]
    all_tokens = ("all", np.ones(targets.shape, bool), len(groups))
    return tuple([_compare(name, ids, mask, before, after) for name, mask, ids in [all_tokens, *masks] if np.any(mask)])


def _compare(name: str, ids: int, mask: np.ndarray, before: TokenScores, after: TokenScores) -> TokenGroup:
    losses = np.where(mask, after.losses.astype(np.float64) - before.losses, 0.0)
    hits = np.where(mask, after.correct.astype(np.float64) - before.correct, 0.0)
    counts = mask.sum(axis=1).astype(np.float64)
    return TokenGroup(
        name,
        ids,
        int(mask.sum()),
        _scores(before, mask),
        _scores(after, mask),
        paired_difference(losses.sum(axis=1), counts),
        paired_difference(hits.sum(axis=1), counts),
    )


def _scores(scores: TokenScores, mask: np.ndarray) -> Scores:
    return Scores(float(np.mean(scores.losses[mask], dtype=np.float64)), float(np.mean(scores.correct[mask])))
