"""Linearity of layers during training, with and without a regularizer of the residual stream.

    python benchmarks/linearity_in_training.py RUN CANDIDATE [--scale layers=4,unit=16] [--steps 250,500,1000,2000]
        [--regularizers none,cosine=0.1,mse=0.1] [--seeds 0,1] [--json]

Razzhigaev et al. 2024 (arXiv 2405.12250) find that the score falls during pretraining, and that a cosine regularizer
lowers it further and improves the model. For each row, `train` trains a candidate from scratch, and `analyze` reads
65,536 tokens of held-out text. Trainings with the same seed read the same text in the same order. So with a constant
learning rate, a shorter training equals the beginning of a longer one. The weights are written to a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, hardware, log


@dataclass(frozen=True, slots=True)
class Row:
    """One trained model.

    Attributes:
        regularizer: `none`, or the name and the strength.
        seed: random seed.
        steps: optimizer steps.
        loss_nats: loss on the scored half of the held-out text.
        linearity, block_linearity, cosine: means over the layers.
        layers: linearity of each layer.
    """

    regularizer: str
    seed: int
    steps: int
    loss_nats: float
    linearity: float
    block_linearity: float
    cosine: float
    layers: tuple[float, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a row for each training."""
    options = _options(arguments)
    about = hardware("linearity_in_training.py", arguments)
    rows = []
    if not options.json:
        print(f"$ {about['command']}\n{about['device']}, JAX {about['jax']}")
        print(
            f"{'regularizer':12} {'seed':>4} {'steps':>6} {'loss':>7} {'linearity':>9} {'block':>7} {'cosine':>7}"
            "   linearity of each layer"
        )
    with tempfile.TemporaryDirectory() as folder:
        for row in _rows(options, Path(folder)):
            rows.append(row)
            if not options.json:
                print(_line(row), flush=True)
    if options.json:
        print(json.dumps({"about": about, "rows": [asdict(row) for row in rows]}))


def _rows(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    for regularizer in options.regularizers.split(","):
        for seed in map(int, options.seeds.split(",")):
            for steps in map(int, options.steps.split(",")):
                weights = folder / f"{regularizer}-{seed}-{steps}"
                log(f"{regularizer}, seed {seed}, {steps} steps")
                yield _measure(options, regularizer, seed, steps, weights)


def _measure(options: argparse.Namespace, regularizer: str, seed: int, steps: int, weights: Path) -> Row:
    name, _, strength = regularizer.partition("=")
    words = ["train", options.run, options.candidate, "--budget", f"{steps}steps", "--seed", str(seed), "-o", weights]
    words += ["--scale", options.scale] * bool(options.scale)
    _command(*words, *(["--regularizer", name, "--strength", strength] if strength else []), "--json")
    found = _command("analyze", weights, "--json", "--quiet")
    layers = found["layers"]
    return Row(
        regularizer,
        seed,
        steps,
        found["loss_nats"],
        *(fmean(layer[key] for layer in layers) for key in ("linearity", "block_linearity", "cosine")),
        layers=tuple(layer["linearity"] for layer in layers),
    )


def _command(*words: str | Path) -> dict:
    """Run a command of the package, and return the JSON object that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "primer_search", *map(str, words)], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def _line(row: Row) -> str:
    layers = " ".join(f"{score:.3f}" for score in row.layers)
    scores = f"{row.linearity:9.4f} {row.block_linearity:7.4f} {row.cosine:7.4f}"
    return f"{row.regularizer:12} {row.seed:4} {row.steps:6} {row.loss_nats:7.4f} {scores}   {layers}"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("run", help="run of the candidate")
    parser.add_argument("candidate", help="number of the candidate, `best` or `baseline`")
    parser.add_argument("--scale", default="", help="model size of `train --scale`; default: that of the run")
    parser.add_argument("--steps", default="250,500,1000,2000", help="optimizer steps of the trainings")
    parser.add_argument(
        "--regularizers", default="none,cosine=0.1,mse=0.1", help="`none`, or name=strength, with commas between them"
    )
    parser.add_argument("--seeds", default="0,1", help="random seeds of the trainings")
    add_json(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
