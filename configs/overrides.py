"""Settings given on the command line, `--set section.key=value`, with values in TOML syntax."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import Any

from ..primitives.errors import UsageError

__all__ = ["Override", "parse_override", "parse_value"]

_POINT_AT_AN_END = re.compile(r"[+-]?(\d+\.|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Override:
    """A setting that replaces the one in a file; the value is not yet validated."""

    section: str
    key: str
    value: Any


def parse_override(text: str) -> Override:
    """Read `section.key=value`.

    Raises:
        UsageError: the text is not of this form.

    >>> parse_override("trial.batch=32")
    Override(section='trial', key='batch', value=32)
    """
    name, equals, value = text.partition("=")
    section, dot, key = (part.strip() for part in name.partition("."))
    if not (equals and dot and section and key and value.strip()) or "." in key:
        raise UsageError(f"--set {text[:60]!r} must read section.key=value, for example --set trial.batch=32")
    return Override(section, key, parse_value(value.strip()))


def parse_value(text: str) -> Any:
    """Return a TOML value; text that is not one is returned unchanged, so that strings do not need quotes.

    Numbers may begin or end with a decimal point, which TOML does not allow.

    >>> parse_value("3"), parse_value(".001"), parse_value("true"), parse_value("bfloat16"), parse_value("text:notes/")
    (3, 0.001, True, 'bfloat16', 'text:notes/')
    """
    if _POINT_AT_AN_END.fullmatch(text):
        return float(text)
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return table["value"] if list(table) == ["value"] else text
