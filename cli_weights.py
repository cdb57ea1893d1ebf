"""Commands that train the weights of a candidate and sample text from it. They only parse options and print."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_options import Candidate, Json, Run, choose_platform, print_json, say
from .primitives.errors import UsageError

if TYPE_CHECKING:  # loads JAX
    from .models.checkpoint import Weights
    from .search.one_program.train_weights import TrainingJob

__all__ = ["register", "share_the_device", "trained_or_saved"]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(train)
    app.command()(generate)


def train(
    run: Run,
    candidate: Annotated[str, typer.Argument(help="Number of a candidate, `best` or `baseline`.", metavar="CANDIDATE")],
    trial_budget: Annotated[
        str | None,
        typer.Option(help="Training time, or 5000steps.", metavar="BUDGET", show_default="the run's trial budget"),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Random seed of the parameters and the order of the text.", min=0, metavar="N")
    ] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace existing weights.")] = False,
    json_: Json = False,
) -> None:
    """Train a candidate with its run's settings and save its weights.

    They go to RUN/weights/CANDIDATE/: model.safetensors, the same as an Orbax checkpoint, tokenizer.json and
    model.json.
    """
    share_the_device()
    from .search.one_program.train_weights import plan_training

    job = plan_training(run, candidate, trial_budget=trial_budget, seed=seed)
    choose_platform(job.config.workers.accel, run=run)
    weights = _trained(job, force)
    if json_:
        print_json({"folder": str(job.folder), **weights.training})


def generate(
    run: Annotated[str, typer.Argument(help="A run, or a folder of saved weights.", metavar="RUN|FOLDER")],
    candidate: Candidate = None,
    prompt: Annotated[
        str, typer.Option(help="Start of the text; if empty, the text is a new document.", metavar="TEXT")
    ] = "",
    tokens: Annotated[int, typer.Option(help="Most tokens to sample.", min=1, metavar="N")] = 100,
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
    from .search.one_program.train_weights import load_weights_folder

    if candidate is None:
        choose_platform()
        weights = load_weights_folder(run)
    else:
        weights = trained_or_saved(run, candidate)
    from .models.generation import Sampling  # after the training, which chooses the device of JAX
    from .search.one_program.generate_text import continue_text

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
    from .search.one_program.train_weights import load_saved_weights, plan_training

    job = plan_training(run, candidate)
    choose_platform(job.config.workers.accel, run=run)
    if (weights := load_saved_weights(job)) is not None:
        return weights
    say(f"{job.name} has no saved weights, so it is trained now (`primer-search train` can train it for longer)")
    return _trained(job)


def share_the_device() -> None:
    """Let JAX allocate device memory as needed, since a search may be using the device."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


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


def _trained(job: TrainingJob, force: bool = False) -> Weights:
    """Train with a progress display and print the result, all on stderr."""
    from .search.one_program.train_weights import train_weights
    from .search.reports.progress.training_progress import TrainingProgress
    from .system.durations import format_duration

    with TrainingProgress(sys.stderr) as progress:
        weights = train_weights(job, overwrite=force, progress=progress, tell=say)
    facts = weights.training
    bits = "" if facts["bits_per_byte"] is None else f", {facts['bits_per_byte']:.4f} bits/byte"
    took = format_duration(facts["wall_seconds"])
    say(f"trained in {took}: {facts['loss_nats']:.4f} nats{bits}; weights in {job.folder}")
    return weights
