"""Messages for invalid settings, with the source, value and bound of the setting, or the closest known name."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from ..primitives.suggestions import closest_match, did_you_mean
from ..search.config import RunConfig

__all__ = ["explain"]

_BOUNDS = {
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "string_type": "must be text in quotes",
}
"""Message for each type of pydantic error; the fields in braces come from the context of the error."""


def explain(error: Mapping[str, Any], name: str, overridden: Collection[tuple[str, str]] = ()) -> str:
    """Return a validation error as one sentence.

    Args:
        error: entry of pydantic's `ValidationError.errors()` for a `RunConfig`.
        name: preset or file that was read.
        overridden: (section, key) pairs that came from `--set`.
    """
    path = tuple(str(part) for part in error["loc"])
    if not path:
        return f"the settings of {name} are not plain text and numbers: {error['msg']}"
    section, key = path[0], path[1] if len(path) > 1 else None
    from_option = path[:2] in overridden or (key is None and any(given == section for given, _ in overridden))
    source = "from --set" if from_option else f"in {name}"
    if error["type"] == "unexpected_keyword_argument":
        return _unknown(section, key, source)
    if key is None:
        return f"{section} ({source}) must be a section of settings: write [{section}] and its keys below it"
    rule = _BOUNDS.get(error["type"])
    bound = rule.format(**error.get("ctx", {})) if rule else error["msg"]
    return f"{section}.{key} = {_shown(error['input'])} ({source}) {bound}"


def _settings() -> dict[str, tuple[str, ...]]:
    """Return the keys of each section."""
    default = RunConfig()
    return {
        section.name: tuple(key.name for key in fields(getattr(default, section.name))) for section in fields(default)
    }


def _unknown(section: str, key: str | None, source: str) -> str:
    known = _settings()
    if key is None:
        return f"unknown section {section!r} ({source}){did_you_mean(section, known)}"
    similar = [f"{other}.{key}" for other, keys in known.items() if key in keys]
    if match := closest_match(key, known[section]):
        similar.append(f"{section}.{match}")
    remedy = f"did you mean {similar[0]}?" if similar else f"{section} has {', '.join(known[section])}"
    return f"unknown setting {section}.{key} ({source}); {remedy}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
