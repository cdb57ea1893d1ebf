"""The option `--plugin` of every command that reads programs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from .options import say

__all__ = ["Plugins", "load_named_plugins", "with_plugins"]

Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        help="Load your own primitives, mutations and programs from a .py file or an importable module; repeatable.",
        metavar="MODULE",
    ),
]

WITHOUT_PLUGINS = frozenset({"stop"})
"""Commands without the option, because they read no program."""


def load_named_plugins(references: Sequence[str] | None) -> None:
    """Load the installed plugins and those named by `--plugin`."""
    from ..plugins.loader import load_plugins

    load_plugins(references or (), say)


def with_plugins(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command with the option `--plugin`, whose plugins are loaded before it runs."""
    if command.__name__ in WITHOUT_PLUGINS:
        return command

    @functools.wraps(command)
    def run(*arguments: Any, plugin: list[str] | None = None, **options: Any) -> Any:
        load_named_plugins(plugin)
        return command(*arguments, **options)

    signature = inspect.signature(command, eval_str=True)
    added = inspect.Parameter("plugin", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Plugins)
    setattr(run, "__signature__", signature.replace(parameters=[*signature.parameters.values(), added]))  # noqa: B010
    return run
