"""The objective of a training job: make it, and check that the program can be trained with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...primitives import UsageError
from ...primitives.graphs.graph import Graph
from ...workers.data.dataset import Dataset
from ...workers.data.user_tokenizers import read_tokenizer
from ...workers.training.training_settings import UnusableState
from ..config import RunConfig
from .training_job import TrainingJob
from .training_options import hash_of_examples

if TYPE_CHECKING:  # loads JAX
    from ...models.checkpoint import Weights
    from ...workers.objectives.objective import Objective

__all__ = ["check_capable", "make_objective", "reads_prefix"]


def reads_prefix(job: TrainingJob, initial: Weights | None) -> bool:
    """Return whether inputs are read in both directions: for `ul2r`, and for `instruct` after `ul2r`."""
    continues = initial is not None and bool(initial.training.get("prefix"))
    return job.objective == "ul2r" or (job.objective == "instruct" and continues)


def check_capable(job: TrainingJob, graph: Graph, initial: Weights | None) -> None:
    """Check that a program can be trained with the objective.

    Raises:
        UsageError: the program cannot be trained with it; the message names the op and the reason.
    """
    from ...workers.objectives.objective import objective_fault

    if job.objective == "causal":
        return
    if fault := objective_fault(job.objective, graph, prefix=reads_prefix(job, initial)):
        raise UsageError(f"{job.name} cannot be trained with --objective {job.objective}: {fault}")


def make_objective(job: TrainingJob, dataset: Dataset, initial: Weights | None) -> Objective:
    """Return the objective of a job; special tokens get the ids after the token ids of the text.

    Raises:
        UsageError: there is too little text or there are too few examples, or a weight or a file is wrong.
    """
    vocabulary = dataset.vocabulary if initial is None else initial.training.get("vocabulary", dataset.vocabulary)
    sizes = _sizes(job.config, job.seed)
    if job.objective == "instruct":
        return _instruct(job, dataset, initial, vocabulary, sizes)
    if job.objective == "ul2r":
        from ...workers.objectives.ul2r import ul2r_objective

        sizes |= {} if job.mixture is None else {"weights": job.mixture}
        return ul2r_objective(dataset.train, dataset.validation, vocabulary, **sizes)
    from ...workers.objectives.causal import causal_objective

    return causal_objective(dataset.train, dataset.validation, vocabulary, **sizes)


def _instruct(
    job: TrainingJob, dataset: Dataset, initial: Weights | None, vocabulary: int, sizes: dict[str, Any]
) -> Objective:
    from ...workers.objectives.instruct import instruct_objective

    for path, expected in job.examples.items():
        if hash_of_examples(path) != expected:
            raise UnusableState(f"the examples in {path} have changed since this training began")
    tokenizer = dataset.tokenizer() if initial is None else read_tokenizer(initial.tokenizer)
    sizes |= {} if job.cap is None else {"cap": job.cap}
    return instruct_objective(
        list(job.examples),
        tokenizer,  # type: ignore[arg-type]
        vocabulary,
        **sizes,
        shares=job.mixture,
        prefix=reads_prefix(job, initial),
    )


def _sizes(config: RunConfig, seed: int) -> dict[str, Any]:
    trial = config.trial
    return {
        "batch": trial.batch,
        "length": config.model.length,
        "seed": seed,
        "held_out_batches": trial.evaluation_batches,
    }
