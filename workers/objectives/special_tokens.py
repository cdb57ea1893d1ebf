"""Special tokens of the mixture of denoisers: mode tokens and sentinels. Their ids follow the ids of the text."""

from __future__ import annotations

from dataclasses import dataclass

from .denoisers import MODES

__all__ = ["SpecialTokens"]


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids of the special tokens: one for each mode, then the sentinels.

    Attributes:
        text_vocabulary: number of ids of the text. The special ids follow them.
        sentinels: number of sentinels.
    """

    text_vocabulary: int
    sentinels: int

    def mode(self, mode: str) -> int:
        """Return the id of the token that begins the sequences of a mode."""
        return self.text_vocabulary + MODES.index(mode)

    @property
    def first_sentinel(self) -> int:
        """The id of the first sentinel; the others follow."""
        return self.text_vocabulary + len(MODES)

    @property
    def vocabulary(self) -> int:
        """Number of all ids."""
        return self.first_sentinel + self.sentinels
