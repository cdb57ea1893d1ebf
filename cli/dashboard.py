"""The command that shows runs in a browser."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated

import typer

from .options import say

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(dashboard)


def dashboard(
    runs: Annotated[
        list[str], typer.Argument(help="Directories of runs, or their names under runs/.", metavar="RUN [RUN ...]")
    ],
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on.", min=1, max=65535, metavar="N", show_default="8421, or the next free"),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; other machines can connect unless it is a loopback address.", metavar="HOST"
        ),
    ] = "127.0.0.1",
) -> None:
    """Show runs in a browser, also while they are searching.

    The command reads the runs and changes nothing. Ctrl-C ends it with exit code 0.
    """
    from ..search.dashboard.served_run import open_runs
    from ..search.dashboard.server import create_app, listen, serve

    served = open_runs(runs)
    bound = listen(host, port)
    number = bound.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    if not _is_loopback(host):
        say(
            f"warning: everyone who can reach {host}:{number} can read the programs, results and settings of "
            f"{'this run' if len(served) == 1 else 'these runs'}; there is no password and no encryption. "
            "Leave out --host to show them on this machine only"
        )
    for run in served.values():
        run.begin_reading()
    say(f"dashboard of {', '.join(run.name for run in served.values())}: http://{shown}:{number}/  (Ctrl-C ends it)")
    serve(create_app(served, frozenset({host.lower()})), bound)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
