"""Commands that train the weights of a candidate and sample text with them. They only parse options and print."""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..primitives.errors import UsageError
from .options import Candidate, Json, choose_platform, print_json, say, share_the_device

if TYPE_CHECKING:  # loads JAX
    from ..models.checkpoint import Weights
    from ..search.config import RunConfig
    from ..search.weights.training_job import TrainingJob
    from ..search.weights.training_options import TrainingOptions

__all__ = ["register", "trained_or_saved"]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(train)
    app.command()(generate)


def train(
    run: Annotated[
        str | None,
        typer.Argument(help="Directory of a run, or its name under runs/.", metavar="RUN", show_default=False),
    ] = None,
    candidate: Candidate = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", help="Start from the weights in a folder, with a new optimizer.", metavar="FOLDER"),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            help="Continue the interrupted training of the weights in a folder, with its settings.", metavar="FOLDER"
        ),
    ] = None,
    scale: Annotated[
        str,
        typer.Option(
            help="Other sizes: layers, unit, length, batch, devices, learning_rate.",
            metavar="KEY=VALUE,...",
            show_default="the sizes of the run or the weights",
        ),
    ] = "",
    budget: Annotated[
        str | None,
        typer.Option(
            help="Training time, such as 1h, or 5000steps.",
            metavar="BUDGET",
            show_default="the budget of the run or the weights",
        ),
    ] = None,
    objective: Annotated[
        Literal["causal", "ul2r", "instruct"],
        typer.Option(help="What to learn: the next token, denoising, or the targets of examples."),
    ] = "causal",
    examples: Annotated[
        list[str] | None,
        typer.Option(help="Examples for instruct, as JSON lines; repeatable.", metavar="FILE.jsonl"),
    ] = None,
    mixture: Annotated[
        str,
        typer.Option(
            help="Weights of denoisers (ul2r) or tasks (instruct).",
            metavar="NAME=WEIGHT,...",
            show_default="the papers' weights",
        ),
    ] = "",
    cap: Annotated[
        int | None,
        typer.Option(
            help="Largest number of examples of a task in an epoch (instruct).",
            min=1,
            metavar="N",
            show_default="30000",
        ),
    ] = None,
    regularizer: Annotated[
        Literal["none", "cosine", "mse"],
        typer.Option(help="Distance of neighbouring layers to add to the loss."),
    ] = "none",
    strength: Annotated[
        float | None, typer.Option(help="Factor of the regularizer.", min=0.0, metavar="NUMBER")
    ] = None,
    final_rate: Annotated[
        float | None,
        typer.Option(
            help="Learning rate at the end as a share of its peak, reached along a cosine; 1: constant.",
            min=0.0,
            max=1.0,
            metavar="SHARE",
            show_default="1; with --from, by objective",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="With --from: other text, encoded by the tokenizer of the weights.",
            metavar="SOURCE",
            show_default="the text of the weights",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Random seed of the parameters and the order of the text.", min=0, metavar="N")
    ] = 0,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the weights.",
            metavar="FOLDER",
            show_default="RUN/weights/CANDIDATE, or named after --from",
        ),
    ] = None,
    save_every: Annotated[
        str, typer.Option(help="Time between two saved states, from which a training continues.", metavar="DURATION")
    ] = "5m",
    force: Annotated[
        bool, typer.Option("--force", help="Replace existing weights, and an interrupted training that differs.")
    ] = False,
    json_: Json = False,
) -> None:
    """Train a candidate, or continue from saved weights, and save the weights.

    The folder RUN/weights/CANDIDATE/ then has the weights in model.safetensors and in an Orbax checkpoint, and the
    files tokenizer.json, model.json and curve.json. Without options, a candidate trains with its run's settings. A
    budget counts only training time.

    An interrupted or killed training continues with the same command, or with --resume FOLDER.
    """
    share_the_device()
    from ..search.weights.saved_weights import interrupted_job

    save_seconds = _save_seconds(save_every)
    from ..search.weights.training_options import TrainingOptions

    options = TrainingOptions(
        *(budget, seed, scale, objective, tuple(map(os.path.abspath, examples or ())), mixture, cap, regularizer),
        *(strength, final_rate, output),
    )
    if resume is None:
        job = _job(run, candidate, from_, data, options)
    elif options != TrainingOptions() or any((run, candidate, from_, data)):
        raise UsageError(
            "--resume continues a training with its own settings: give no other option than --save-every and --force"
        )
    else:
        job = interrupted_job(resume)
    choose_platform(job.config.workers.accel, run="" if job.run is None else str(job.run))
    weights = _train_and_say(job, force, save_seconds)
    if json_:
        curve = json.loads((job.folder / "curve.json").read_text(encoding="utf-8"))
        print_json({"folder": str(job.folder), **weights.training, "curve": curve})


def _save_seconds(text: str) -> float:
    from ..system.durations import parse_duration

    try:
        return parse_duration(text)
    except UsageError as error:
        raise UsageError(f"--save-every: {error}") from None


def _job(
    run: str | None, candidate: str | None, from_: str | None, data: str | None, options: TrainingOptions
) -> TrainingJob:
    """Return the job of the command: a training of a candidate of a run, or of saved weights."""
    from ..configs.scale_option import parse_scale
    from ..search.weights.training_job import plan_further_training, plan_training

    def change(config: RunConfig) -> RunConfig:
        return parse_scale(options.scale, config) if options.scale else config

    if from_ is not None:
        if run is not None:
            raise UsageError("train either RUN CANDIDATE from the start, or --from FOLDER, not both")
        return plan_further_training(from_, options, change, data)
    if run is None or candidate is None:
        raise UsageError("name a run and a candidate, such as `train RUN best`, or weights with --from FOLDER")
    if data is not None:
        raise UsageError("--data is only for --from: a candidate trains on the text of its run")
    return plan_training(run, candidate, options, change)


def generate(
    run: Annotated[str, typer.Argument(help="A run, or a folder of saved weights.", metavar="RUN|FOLDER")],
    candidate: Candidate = None,
    prompt: Annotated[
        str, typer.Option(help="Start of the text; if empty, the text is a new document.", metavar="TEXT")
    ] = "",
    tokens: Annotated[int, typer.Option(help="Largest number of tokens to sample.", min=1, metavar="N")] = 100,
    temperature: Annotated[float, typer.Option(help="Sampling temperature; 0 is greedy.", metavar="NUMBER")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Sample from the N most likely tokens; 0: all.", min=0, metavar="N")] = 40,
    seed: Annotated[int, typer.Option(help="Random seed of the sampling.", min=0, max=2**32 - 1, metavar="N")] = 0,
    json_: Json = False,
) -> None:
    """Sample text from a candidate.

    A candidate without weights is trained first. Only the prompt and the sampled text go to stdout.
    """
    share_the_device()
    if not 0.0 <= temperature < float("inf"):
        raise UsageError(
            f"--temperature {temperature:g} must be a number of at least 0, where 0 picks the most likely token"
        )
    from ..search.weights.saved_weights import load_weights_folder

    if candidate is None:
        choose_platform()
        weights = load_weights_folder(run)
    else:
        weights = trained_or_saved(run, candidate)
    from ..models.generation import Sampling
    from ..search.weights.generate_text import continue_text

    text = continue_text(weights, prompt, tokens, Sampling(temperature, top_k), seed)
    for note in text.notes:
        say(note)
    written = "".join(text) if json_ else _stream(prompt, text)
    speed = text.tokens_per_second
    if json_:
        print_json({"prompt": prompt, "text": written, "tokens": text.tokens, "tokens_per_second": speed})
    elif speed is not None:
        say(f"{text.tokens} tokens, {speed:.0f} a second")


def trained_or_saved(run: str, candidate: str) -> Weights:
    """Return a candidate's weights; if none are saved, train them with the settings of its run."""
    from ..search.weights.saved_weights import load_saved_weights
    from ..search.weights.training_job import plan_training

    job = plan_training(run, candidate)
    choose_platform(job.config.workers.accel, run=run)
    if (weights := load_saved_weights(job)) is not None:
        return weights
    say(f"{job.name} has no saved weights, so it is trained now (`primer-search train` can train it for longer)")
    return _train_and_say(job)


def _stream(prompt: str, pieces: Iterable[str]) -> str:
    """Print the prompt and the pieces as they arrive; return the pieces joined."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # terminals may lack characters
    written = []
    print(prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
        written.append(piece)
    print(flush=True)
    return "".join(written)


def _train_and_say(job: TrainingJob, force: bool = False, save_seconds: float | None = None) -> Weights:
    """Train with a progress display and print the result, all on stderr."""
    from ..search.reports.progress.training_progress import TrainingProgress
    from ..search.weights.train_weights import SAVE_SECONDS, train_weights
    from ..system.durations import format_duration

    seconds = SAVE_SECONDS if save_seconds is None else save_seconds
    with TrainingProgress(sys.stderr) as progress:
        weights = train_weights(job, overwrite=force, save_seconds=seconds, progress=progress, tell=say)
    say(f"trained in {format_duration(weights.training['wall_seconds'])}: {_losses(weights.training)}")
    say(f"weights in {job.folder}")
    say(f"sample text with `primer-search generate {shlex.quote(str(job.folder))}`")
    return weights


def _losses(facts: Mapping[str, Any]) -> str:
    """Return the losses of a training as text; if it continued from weights, also the losses before it."""

    def loss(name: str) -> str:
        before = facts[f"first_{name}"]
        return f"{facts[name]:.4f} nats" + ("" if before is None else f" (before: {before:.4f})")

    bits = "" if facts["bits_per_byte"] is None else f", {facts['bits_per_byte']:.4f} bits/byte"
    if facts["objective"] == "causal":
        return loss("loss_nats") + bits
    return f"loss of {facts['objective']} {loss('loss_nats')}; loss of the text {loss('text_nats')}{bits}"
