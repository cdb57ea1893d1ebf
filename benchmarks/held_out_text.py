"""Similarity of the held-out texts and the training text: number and size of documents, and share of repeated tokens.

    python benchmarks/held_out_text.py [--config laptop] [--json]

A text of few documents may differ from the rest. A token is *repeated* if the token and the one before it occur as a
pair earlier in the window of `model.length` tokens (`copying.py`). Programs differ most in how well they predict
repeated tokens.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from primer_search.benchmarks.copying import is_repeated
from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, hardware
from primer_search.configs.load import load
from primer_search.workers.data.dataset import Dataset, prepare_dataset

SAMPLE = 4_000
"""Number of windows read from a split, at equal distances."""


@dataclass(frozen=True, slots=True)
class Text:
    """One split.

    Attributes:
        split: `train`, `validation` or `test`.
        documents: number of documents.
        tokens: number of tokens.
        largest: share of the tokens that the largest document has.
        repeated: share of repeated tokens.
        repeated_low, repeated_high: 95% interval of that share over samples of the documents (bootstrap).
    """

    split: str
    documents: int
    tokens: int
    largest: float
    repeated: float
    repeated_low: float
    repeated_high: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print a table."""
    options = _options(arguments)
    config = load(options.config)
    text = Dataset.open(prepare_dataset(config.data, config.model.vocabulary))
    separator = text.manifest["end_of_document"]
    splits = {"train": text.train, "validation": text.validation, "test": text.test}
    rows = [_measure(split, np.asarray(tokens), separator, config.model.length) for split, tokens in splits.items()]
    about = hardware("held_out_text.py", arguments)
    if options.json:
        print(json.dumps({"about": about, "rows": [asdict(row) for row in rows]}))
        return
    print(f"$ {about['command']}")
    print(f"{'split':12} {'documents':>9} {'tokens':>10} {'largest':>8} {'repeated':>9}   95% interval")
    for row in rows:
        interval = f"{row.repeated_low:.1%} to {row.repeated_high:.1%}"
        print(f"{row.split:12} {row.documents:9,} {row.tokens:10,} {row.largest:8.1%} {row.repeated:9.1%}   {interval}")


def _measure(split: str, tokens: np.ndarray, separator: int, length: int) -> Text:
    ends = np.flatnonzero(tokens == separator)
    sizes = np.diff(np.concatenate([[-1], ends]))
    windows = min(SAMPLE, len(tokens) // (length + 1))
    starts = np.arange(windows) * (len(tokens) - length - 1) // max(1, windows - 1)
    shares = np.concatenate(
        [
            is_repeated(tokens[part[:, None] + np.arange(length + 1)]).mean(axis=1)
            for part in np.array_split(starts, max(1, windows // 200))
        ]
    )
    documents = np.searchsorted(ends, starts)
    low, high = _bootstrap(shares, documents)
    return Text(
        split, len(ends), len(tokens), float(sizes.max() / len(tokens)), float(shares.mean()), float(low), float(high)
    )


def _bootstrap(shares: np.ndarray, documents: np.ndarray, draws: int = 1000) -> np.ndarray:
    """Return the 2.5% and 97.5% quantiles of the mean share over samples of the documents, drawn with replacement."""
    _, document = np.unique(documents, return_inverse=True)
    sums, counts = np.bincount(document, shares), np.bincount(document)
    chosen = np.random.default_rng(0).integers(len(counts), size=(draws, len(counts)))
    return np.quantile(sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1), [0.025, 0.975])


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--config", default="laptop", help="preset or .toml file (default laptop)")
    add_json(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
