"""A candidate of a run: its program, its result and its block."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..models.config import ModelConfig
from ..primitives import DNA, Graph, build_graph
from ..primitives.programs.pretty_printer import format_program
from ..search.one_program.export_block import export_candidate
from ..search.results.candidate_summary import CandidateSummary, summarize_candidate
from ..search.runs.store import Store
from ..search.weights.saved_weights import load_saved_weights
from ..search.weights.train_weights import train_weights
from ..search.weights.training_job import plan_training
from ..search.weights.training_options import TrainingOptions
from .program_graph import program_graph

if TYPE_CHECKING:  # loads JAX
    from flax import nnx

    from ..models.checkpoint import Weights
    from ..models.nnx.dna_block import DNABlock
    from ..workers.protocol import Progress

__all__ = ["RunCandidate"]


@dataclass(frozen=True, slots=True)
class RunCandidate:
    """A candidate of a run, as `Run.candidate` and `Run.best` return it.

    Attributes:
        run: folder of the run.
        id: number of the candidate; 0 is the baseline.
        dna: program, with constants for its width in the run.
        parent: number of the candidate that it was mutated from; None if it has no parent.
        mutations: descriptions of the edits of the parent.
        model: shape of the language model that it was trained in.
    """

    run: Path
    id: int
    dna: DNA = field(repr=False)
    parent: int | None
    mutations: tuple[str, ...]
    model: ModelConfig = field(repr=False)

    @property
    def listing(self) -> str:
        """The program as text, as `primer-search show` prints it."""
        return format_program(self.dna)

    @property
    def canonical(self) -> Graph:
        """The canonical program: calls inlined, dead code removed."""
        return build_graph(self.dna, length_dependent=self.model.length_dependent or self.dna.length_dependent)

    def graph(self) -> dict[str, Any]:
        """Return the nodes and edges of the canonical program as plain data (see `program_graph`)."""
        return program_graph(self.canonical, self.model.unit, self.model.length)

    def summary(self, against: str | None = None) -> CandidateSummary:
        """Return the result, the ancestry and, with `against`, the difference from another program.

        Args:
            against: `parent`, `baseline`, a candidate's number or the name of a library program.
        """
        with Store.open(self.run, read_only=True) as store:
            return summarize_candidate(store, str(self.id), against)

    def dna_block(
        self, width: int | None = None, *, length: int | None = None, rngs: nnx.Rngs | None = None
    ) -> DNABlock:
        """Return the program as a Flax NNX module, `[batch, length, width] -> [batch, length, width]`.

        Args:
            width: channels of input and output, a multiple of 8; None: as in the run.
            length: sequence length, for a program tied to one length; None: as in the run.
            rngs: random stream of the parameters; None: `nnx.Rngs(0)`.
        """
        from flax import nnx

        from ..models.nnx.dna_block import DNABlock

        tied = self.canonical.length_dependent
        return DNABlock(
            self.dna,
            width=self.model.width if width is None else width,
            length=(length or self.model.length) if tied else None,
            rngs=nnx.Rngs(0) if rngs is None else rngs,
        )

    def flax_module(self, api: Literal["nnx", "linen"] = "nnx", name: str | None = None) -> Callable[..., Any]:
        """Return the class that `export` writes, a module of Flax NNX or Linen that does not use this package.

        Args:
            api: Flax API.
            name: name of the class; None: `Block` and the candidate's number.

        Raises:
            WorkFailedError: the source does not reproduce the program.
        """
        from ..models.export.exported_module import load_source

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "block.py"
            self.export(file, name, api)
            return load_source(file.read_text(encoding="utf-8"))

    def export(
        self,
        path: Path | str,
        name: str | None = None,
        api: Literal["nnx", "linen"] = "nnx",
        overwrite: bool = False,
    ) -> str:
        """Write the block as one Python file, checked against the program, and return the name of its class.

        Raises:
            UsageError: the file exists, or cannot be written.
            WorkFailedError: the source does not reproduce the program; nothing is written.
        """
        return export_candidate(str(self.run), str(self.id), Path(path), name, api, overwrite)

    def trained_weights(
        self,
        *,
        budget: str | None = None,
        seed: int = 0,
        again: bool = False,
        progress: Callable[[Progress], None] = lambda progress: None,
    ) -> Weights:
        """Return trained weights; if none are saved, train the candidate in this process and save its weights.

        `primer_search.models.load_weights_into` and `linen_params` put them into a module.

        Args:
            budget: training time, such as `5m`, or `5000steps`; None: the run's budget of a trial.
            seed: random seed of the parameters and of the order of the text.
            again: train again, and replace saved weights.
            progress: called with the state of the training several times a second.
        """
        job = plan_training(str(self.run), str(self.id), TrainingOptions(budget, seed))
        saved = None if again else load_saved_weights(job)
        return saved if saved is not None else train_weights(job, overwrite=again, progress=progress)
