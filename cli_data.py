"""The command `data`: text made ready for training."""

from __future__ import annotations

from typing import Annotated

import typer

from .cli_options import Json, print_json, say
from .primitives.errors import UsageError

__all__ = ["data_app"]

data_app = typer.Typer(help="Prepare text for training.", no_args_is_help=False, rich_markup_mode=None)


@data_app.callback()
def data() -> None:
    """Prepare text for training."""


@data_app.command()
def prepare(
    source: Annotated[str, typer.Argument(help="python-stdlib, or text:PATH of UTF-8 text.", metavar="SOURCE")],
    vocabulary: Annotated[int, typer.Option(help="Token ids, at most.", metavar="N")] = 1024,
    json_: Json = False,
) -> None:
    """Tokenize a source once, so that searches on it start at once."""
    from .workers.config import DataConfig
    from .workers.dataset import Dataset
    from .workers.dataset import prepare as prepare_dataset

    if not 257 <= vocabulary <= 262_144:
        raise UsageError(f"--vocabulary is {vocabulary}, but must be between 257 and 262144")
    path = prepare_dataset(DataConfig(source), vocabulary, progress=say)
    dataset = Dataset.open(path, verify=False)
    if json_:
        print_json({"path": str(path), **dataset.manifest})
        return
    typer.echo(f"{path}  hash {dataset.dataset_hash[:16]}")
    for split, facts in dataset.manifest["splits"].items():
        typer.echo(
            f"{split:<10} {facts['documents']:>8,} documents {facts['bytes']:>14,} bytes {facts['tokens']:>13,} tokens"
        )
