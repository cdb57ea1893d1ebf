"""Requests, responses and routes of the dashboard, independent of the web server."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...primitives.errors import UsageError
from .served_run import ServedRun

__all__ = ["NotFoundError", "Request", "Response", "Route", "download", "json_response"]

_LARGEST_NUMBER = 10**12
"""Largest number that a URL may contain; the ids of a run are far smaller."""


class NotFoundError(UsageError):
    """Error: the page or object of a URL does not exist. The answer has status 404, other usage errors have 400."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request for a page.

    Attributes:
        runs: served runs by key, in the order of the command line.
        path: path of the URL, for links to the same page.
        parameters: parts of the path, by their names in the route; `run` is the key of a run.
        query: values after the question mark, by name; the last value of a repeated name.
    """

    runs: Mapping[str, ServedRun]
    path: str = "/"
    parameters: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def run(self) -> ServedRun:
        """The run that the URL names.

        Raises:
            NotFoundError: no served run has that key.
        """
        key = self.parameters.get("run", "")
        if key not in self.runs:
            raise NotFoundError(f"no run {key!r} is served here: the runs are {', '.join(self.runs)}")
        return self.runs[key]

    def id_in_path(self, name: str) -> int:
        """Return the part `name` of the path as a number.

        Raises:
            NotFoundError: the part is not a whole number, or is larger than any id.
        """
        text = self.parameters[name]
        if not text.isascii() or not text.isdigit() or int(text[:20]) > _LARGEST_NUMBER:
            raise NotFoundError(f"{text[:40]!r} is not the number of a {name}")
        return int(text)

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """Return the value of `name` in the query as a whole number.

        Raises:
            UsageError: the value is not a whole number from `low` to `high`.
        """
        text = self.query.get(name, "")
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or not low <= int(text[:20]) <= high:
            raise UsageError(f"{name}={text[:40]} in the address: give a whole number from {low} to {high}")
        return int(text)

    def choice(self, name: str, choices: Mapping[str, Any] | tuple[str, ...], default: str) -> str:
        """Return the value of `name` in the query, one of `choices`.

        Raises:
            UsageError: the value is not one of the choices.
        """
        text = self.query.get(name, "") or default
        if text not in choices:
            raise UsageError(f"{name}={text[:40]} in the address: choose one of {', '.join(choices)}")
        return text


@dataclass(frozen=True, slots=True)
class Response:
    """Answer to a request.

    Attributes:
        body: text or bytes.
        content_type: media type, with the charset for text.
        status: HTTP status.
        headers: further headers.
    """

    body: str | bytes
    content_type: str = "text/html; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """One kind of URL.

    Attributes:
        path: path with parameters in braces, such as `/runs/{run}/candidates/{candidate}`.
        view: function that answers a request. It may raise UsageError (status 400) or NotFoundError (404).
    """

    path: str
    view: Callable[[Request], Response]


def json_response(value: Any) -> Response:
    """Return plain values as JSON.

    Raises:
        ValueError: the value contains NaN or infinity, which JSON cannot represent.
    """
    return Response(json.dumps(value, allow_nan=False, separators=(",", ":")), "application/json")


def download(text: str, file_name: str, content_type: str = "text/plain; charset=utf-8") -> Response:
    """Return a text that the browser saves as a file. Only letters, digits, `.`, `-` and `_` of its name are kept."""
    safe = "".join(letter for letter in file_name if (letter.isascii() and letter.isalnum()) or letter in "._-")
    return Response(text, content_type, headers={"Content-Disposition": f'attachment; filename="{safe}"'})
