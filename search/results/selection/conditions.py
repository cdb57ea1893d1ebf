"""Conditions on rows, such as `price<1.2 and better`: a small language that is parsed, never evaluated as code.

    condition := term ("and" term)*
    term      := flag | "not" flag | field operator value
    operator  := < | <= | > | >= | = | == | !=

A value is a number, `true`, `false` or a word; quotes keep spaces in a word. A comparison with an unknown value is
false.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any

from ....primitives.errors import UsageError
from .row_fields import Cell, RowField, RunRow, find_field

__all__ = ["Condition", "parse_condition"]

Condition = Callable[[RunRow], bool]

_TOKEN = re.compile(r"""\s*(<=|>=|!=|==|[<>=]|"[^"]*"|'[^']*'|[^\s<>=!"']+)""")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}
_FLAGS = {"true": True, "yes": True, "false": False, "no": False}
_REMEDY = "write conditions such as `price<1.2 and better`"


def parse_condition(text: str) -> Condition:
    """Return the function that tests a row.

    Raises:
        UsageError: the text is not a condition, or a field does not exist.
    """
    terms: list[list[str]] = [[]]
    for token in _tokens(text):
        if token.casefold() in ("and", "&&"):
            terms.append([])
        else:
            terms[-1].append(token)
    conditions = [_term(words, text) for words in terms]
    return lambda each: all(condition(each) for condition in conditions)


def _tokens(text: str) -> Iterator[str]:
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None:
            raise _refusal(text, f"{text[position:].strip()[:20]!r} is not understood")
        position = found.end()
        yield found[1]


def _term(words: list[str], text: str) -> Condition:
    negated = len(words) == 2 and words[0].casefold() == "not"
    if len(words) == 1 or negated:
        field = find_field(words[-1], "--where")
        if field.kind != "flag":
            raise _refusal(text, f"{field.name} needs a comparison, such as {field.name}{_example(field)}")
        return lambda each: field.read(each) is (not negated)
    if len(words) != 3 or words[1] not in _COMPARE:
        said = " ".join(words)
        raise _refusal(text, f"{said[:40]!r} is not `field operator value`" if said else "a condition is missing")
    field, compare = find_field(words[0], "--where"), _COMPARE[words[1]]
    if field.kind != "number" and compare not in (operator.eq, operator.ne):
        raise _refusal(text, f"{field.name} is not a number: compare it with = or !=")
    value = _value(field, words[2], text)

    def condition(each: RunRow) -> bool:
        found = field.read(each)
        return found is not None and compare(found, value)

    return condition


def _value(field: RowField, word: str, text: str) -> Cell:
    if field.kind == "text":
        return word[1:-1] if word[0] in "\"'" else word
    if field.kind == "flag":
        if (flag := _FLAGS.get(word.casefold())) is None:
            raise _refusal(text, f"{field.name} is true or false, not {word[:20]!r}")
        return flag
    try:
        number = float(word.removeprefix("#"))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _refusal(text, f"{field.name} is a number, and {word[:20]!r} is not")
    return number


def _example(field: RowField) -> str:
    return "<1" if field.kind == "number" else "=WORD"


def _refusal(text: str, problem: str) -> UsageError:
    return UsageError(f"--where {text[:80]!r}: {problem}; {_REMEDY}")
