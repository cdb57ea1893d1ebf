"""Kinds of edits, read from their descriptions.

Every mutation describes its edit in one sentence that begins with its kind: `Insert in relu: x2 = ABS(h0)`,
`Constant: 1 from 0.18 to 0.13`, `Merge with #5`. The kind of a plugin mutation begins with its name.
"""

from __future__ import annotations

import re

__all__ = ["edit_kind"]

_KIND = re.compile(r"\s*(.+?)(?: of the edit of #\d+| with #\d+| from | in |:|$)")
_FIELD = re.compile(r"Mutate field \w+")


def edit_kind(description: str) -> str:
    """Return the kind of an edit.

    >>> edit_kind("Replace op in softmax: x2 = EXP(h0) becomes x2 = ABS(h0)"), edit_kind("Merge with #50")
    ('Replace op', 'Merge')
    >>> edit_kind("Mutate field in1 in relu: x2 = ABS(h0) becomes x2 = ABS(h1)"), edit_kind("Delete and insert: in a: ")
    ('Mutate field', 'Delete and insert')
    """
    found = _KIND.match(description)
    kind = found[1] if found else description
    return "Mutate field" if _FIELD.fullmatch(kind) else kind
