"""HTML of the dashboard: templates, which escape their values, and a fixed table of static files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ...primitives.errors import PrimerSearchError
from ...system.plurals import pluralize
from ..evolution.candidate import candidate_name
from ..reports.formatting import format_count, format_number
from .requests import Request, Response

__all__ = ["PAGES", "STATIC_FILES", "error_page", "render", "static_file", "url_with"]

_WEB = Path(__file__).parent / "web"

STATIC_FILES: Mapping[str, tuple[Path, str]] = {
    "dashboard.css": (_WEB / "static" / "dashboard.css", "text/css; charset=utf-8"),
    "dashboard.js": (_WEB / "static" / "dashboard.js", "text/javascript; charset=utf-8"),
    "figures.js": (_WEB / "static" / "figures.js", "text/javascript; charset=utf-8"),
    "plotly.js": (Path(str(files("plotly"))) / "package_data" / "plotly.min.js", "text/javascript; charset=utf-8"),
}
"""Every static file that is served, by its name in the URL. So no part of a URL is used as a file path."""

PAGES = (
    ("", "Overview"),
    ("leaderboard", "Leaderboard"),
    ("lineage", "Lineage"),
    ("edits", "Edits"),
)
"""Pages of a run in the navigation: path after the run, and title."""


def render(request: Request, template: str, current: str = "", status: int = 200, **values: Any) -> Response:
    """Render a page.

    Args:
        request: request to answer.
        template: name of the template, which extends `base.html.j2`.
        current: title of the page in the navigation.
        status: HTTP status.
        values: values of the template.
    """
    run = request.runs.get(request.parameters.get("run", ""))
    navigated = run or next(iter(request.runs.values()))
    text = (
        _environment()
        .get_template(template)
        .render(
            request=request, runs=request.runs, run=run, navigated=navigated, pages=PAGES, current=current, **values
        )
    )
    return Response(text, status=status)


def error_page(request: Request, status: int, sentence: str) -> Response:
    """Return the page of an error: one sentence below the navigation."""
    return render(request, "error.html.j2", status=status, status_code=status, sentence=sentence)


def static_file(name: str) -> Response | None:
    """Return a static file of `STATIC_FILES`; None for other names."""
    if name not in STATIC_FILES:
        return None
    path, content_type = STATIC_FILES[name]
    return Response(_read(path), content_type, headers={"Cache-Control": "public, max-age=31536000, immutable"})


def url_with(request: Request, **changes: str | int | None) -> str:
    """Return the URL of the same page with changed values in its query; None removes a value.

    >>> url_with(Request({}, "/runs/a/leaderboard", query={"sort": "loss", "page": "3"}), page=None, sort="step_ms")
    '/runs/a/leaderboard?sort=step_ms'
    """
    query = {**request.query, **changes}
    kept = urlencode({name: value for name, value in query.items() if value not in (None, "")})
    return f"{request.path}?{kept}" if kept else request.path


@cache
def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PrimerSearchError(f"cannot read {path}: {error.strerror}; install primer-search again") from error


@cache
def _version(name: str) -> str:
    from hashlib import blake2b

    return blake2b(_read(STATIC_FILES[name][0]), digest_size=6).hexdigest()


def _static_url(name: str) -> str:
    """Return the URL of a static file. It changes with the content, so browsers can cache the file."""
    return f"/static/{name}?v={_version(name)}"


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_WEB / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals["static"] = _static_url
    environment.globals["url_with"] = url_with
    environment.filters |= {
        "number": format_number,
        "count": format_count,
        "plural": pluralize,
        "candidate": candidate_name,
    }
    return environment
