"""The command group `data`: prepare text for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..primitives.errors import UsageError
from ..system.standard_streams import print_line
from ..system.user_folders import user_path
from .options import Json, print_json, say

__all__ = ["data_app"]

data_app = typer.Typer(help="Prepare text for training.", no_args_is_help=False, rich_markup_mode=None)

SOURCE_HELP = (
    "python-stdlib, text:PATH (UTF-8 text, JSON lines or Parquet), tokens:PATH (a .npy file of token ids), lm1b, or "
    "tfds:NAME/CONFIG:feature (CONFIG and feature are optional)."
)


@data_app.callback()
def data() -> None:
    """Prepare text for training."""


@data_app.command()
def prepare(
    source: Annotated[str, typer.Argument(help=SOURCE_HELP, metavar="SOURCE")],
    vocabulary: Annotated[
        int | None, typer.Option(help="Largest number of token ids [the vocabulary of --config].", metavar="N")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            help="Preset or TOML file with the vocabulary and [data] settings.",
            metavar="PRESET|FILE",
            show_default="laptop",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting; repeatable.", metavar="SECTION.KEY=VALUE")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="Prepare the text of a run again, such as after it was moved to SOURCE. The settings are taken from "
            "the run, and the text must be the same.",
            metavar="RUN",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of TensorFlow Datasets, for lm1b and tfds: [the default of TensorFlow Datasets].",
            metavar="DIR",
            parser=user_path,
        ),
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option(help="Local file to use instead of the download of lm1b.", metavar="FILE", parser=user_path),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Worker processes [one for each core, at most six].", metavar="N", min=1)
    ] = None,
    json_: Json = False,
) -> None:
    """Tokenize a source. After an interruption, the same command continues."""
    from dataclasses import replace

    from ..configs import load
    from ..search.runs.run_settings import check_same_text, load_config, tell_limits
    from ..search.runs.store import Store
    from ..workers.data.dataset import Dataset, default_cache_dir, prepare_dataset
    from ..workers.data.tfds_sets import is_tfds_source, locate_set

    expected: str | None = None
    if run is None:
        settings = load(config or "laptop", set_ or ())
    elif config is not None or set_ or vocabulary is not None:
        raise UsageError("--run uses the settings of the run: leave out --config, --set and --vocabulary")
    else:
        with Store.open(run, read_only=True) as store:
            settings, expected = load_config(store), store.manifest["dataset_hash"]
    if vocabulary is None:
        vocabulary = settings.model.vocabulary
    elif not 257 <= vocabulary <= 262_144:
        raise UsageError(f"--vocabulary is {vocabulary}, but must be between 257 and 262144")
    if is_tfds_source(source):
        locate_set(source, default_cache_dir(), data_dir, archive, say)  # prepare_dataset warns if it is not official
    elif data_dir is not None or archive is not None:
        option = "--data-dir" if data_dir is not None else "--archive"
        raise UsageError(f"{option} is for lm1b and tfds:NAME, not for {source}: leave it out")
    path = prepare_dataset(replace(settings.data, source=source), vocabulary, progress=say, processes=processes)
    dataset = Dataset.open(path, verify=False)
    if expected is not None:
        check_same_text(dataset, source, expected)
    tell_limits(dataset, settings, say)
    if json_:
        print_json({"path": str(path), **dataset.manifest})
        return
    print_line(f"{path}  hash {dataset.dataset_hash[:16]}")
    for split, facts in dataset.manifest["splits"].items():
        print_line(
            f"{split:<10} {facts['documents']:>10,} documents {facts['bytes']:>14,} bytes"
            f" {facts['words']:>13,} words {facts['tokens']:>13,} tokens"
        )
