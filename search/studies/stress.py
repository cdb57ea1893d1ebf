"""`stress`: a program in a deep, long and low-precision model, at initialisation and after some training.

For each model: train some steps on real text as a trial would, observe it before and after (`models.stress`), then
scale the input of its first layer, and all its dense kernels, until a loss or a gradient is no longer finite. What is
called safe, `stress_line` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from ...primitives import DNA, Graph, UsageError, build_graph
from ...primitives.library import get
from ...primitives.softmax_patterns import softmax_exponentials
from ..config import RunConfig
from ..evolution.candidate import candidate_name
from ..results.program_reference import find_candidate_id, library_description
from ..runs.store import Store
from .stress_result import LARGEST_SCALE, ActivationPeak, ActivationStats, Failure, StressResult, StressSetting

if TYPE_CHECKING:  # load JAX
    from ...models.activation_recorder import RecordedPass, Recorder

__all__ = ["parse_integers", "program_and_config", "stress", "stress_settings"]


def program_and_config(run: str, candidate: str | None, config: RunConfig | None) -> tuple[str, DNA, RunConfig]:
    """The program a user names, what to call it, and the configuration it is measured in.

    Args:
        run: a run, or the name of a library program.
        candidate: of the run: its number, `best` or `baseline`; None for a library program.
        config: to measure in; None for a run's own.

    Raises:
        UsageError: the program, run or candidate does not exist, or a library program lacks a configuration.
    """
    if candidate is None:
        library_description(run)  # complains of a name the library does not hold
        if config is None:
            raise UsageError(f"{run} is a library program, which has no configuration of its own: give --config")
        return run, get(run, config.model.unit), config
    with Store.open(run, read_only=True) as store, store.snapshot():
        number = find_candidate_id(store, candidate)
        own = RunConfig.from_dict(store.manifest["config"])
        return f"{candidate_name(number)} of {run}", store.candidate(number).dna, config or own


def parse_integers(option: str, text: str) -> list[int]:
    """Whole numbers with commas between them.

    Raises:
        UsageError: they are none.

    >>> parse_integers("--layers", "12,24")
    [12, 24]
    """
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text[:40]!r} is no list of whole numbers: write, say, {option} 12,24") from None


def stress_settings(
    config: RunConfig, layers: Sequence[int], length_factors: Sequence[int], precisions: Sequence[str]
) -> list[StressSetting]:
    """The configuration's own model, then every depth at every length; all of it in each precision.

    Raises:
        UsageError: a depth, factor or precision is out of bounds.
    """
    for what, values, largest in (("--layers", layers, 256), ("--length-factor", length_factors, 1024)):
        for value in values:
            if not 1 <= value <= largest:
                raise UsageError(f"{what} {value} is out of bounds: give numbers from 1 to {largest}")
    for precision in precisions:
        if precision not in ("float32", "bfloat16"):
            raise UsageError(f"--precision {precision} is not known: give float32, bfloat16, or both with a comma")
    model, tokens = config.model, config.trial.batch * config.model.length
    sizes = dict.fromkeys([(model.layers, model.length), *product(layers, (f * model.length for f in length_factors))])
    return [StressSetting(*size, precision, max(1, tokens // size[1])) for precision in precisions for size in sizes]


def stress(
    dna: DNA,
    config: RunConfig,
    settings: Sequence[StressSetting],
    steps: int = 50,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> Iterator[StressResult]:
    """Measure a program in each model, one after the other, in this process.

    Args:
        dna: the program.
        config: vocabulary, unit, optimizer and text.
        settings: the models (`stress_settings`).
        steps: of training, in each.
        seed: of parameters and text.
        tell: told what happens, a line at a time.

    Raises:
        InvalidProgramError: the program does not fit the configuration.
        UsageError: the text cannot be read.
    """
    from ...workers.data.dataset import Dataset, prepare_dataset

    graph = build_graph(dna, length_dependent=config.model.length_dependent)
    dataset = Dataset.open(prepare_dataset(config.data, config.model.vocabulary, progress=tell), verify=False)
    config = replace(config, model=replace(config.model, vocabulary=dataset.vocabulary))
    for setting in settings:
        tell(f"{setting.layers} layers, length {setting.length}, {setting.precision}")
        yield _Stressed(graph, config, setting, dataset.train, seed).line(steps)


LARGEST_VALUE = float(np.finfo(np.float32).max)
"""Marks an open score that is not finite; None means that no score is open."""


class _Stressed:
    """A program in one model, compiled."""

    def __init__(self, graph: Graph, config: RunConfig, setting: StressSetting, tokens: Any, seed: int):
        from ...models.activation_recorder import make_recorder, with_rematerialization
        from ...models.language_model import language_model
        from ...workers.data.batches import TrainBatches
        from ...workers.training.optimizer import initial_state, make_optimizer
        from ...workers.training.train_step import StepFunctions, TrainState

        precision: Any = setting.precision
        shape = replace(config.model, layers=setting.layers, length=setting.length, precision=precision, stack="scan")
        self.graph, self.setting = graph, setting
        self.model = language_model(graph, shape)
        self.batches = TrainBatches(tokens, setting.batch, setting.length, seed)
        optimizer = make_optimizer(config.optimizer)
        parameters = self.model.init(np.random.default_rng(seed))
        self.state = TrainState(parameters, initial_state(optimizer, parameters))
        self.functions = StepFunctions(with_rematerialization(self.model), optimizer, setting.batch)
        self.functions.compile_step(self.state)
        self.observe: Recorder = make_recorder(self.model)
        shifted = softmax_exponentials(graph)
        exponentials = [index for index, node in enumerate(graph.nodes) if node.op == "EXP"]
        self.scores = [graph.nodes[index].inputs[0] for index in exponentials]
        self.unprotected = [graph.nodes[index].inputs[0] for index in exponentials if index not in shifted]

    def line(self, steps: int) -> StressResult:
        batch = self.batches.batch_at(steps)
        initial = self._snapshot(self.observe(self.state.parameters, batch, 1.0))
        losses, training, parameters = self._train(steps)
        trained = None
        if training is None:
            trained = self._snapshot(self.observe(parameters, batch, 1.0))
        inputs = None if training else self._probe(lambda factor: self.observe(parameters, batch, factor))
        weights = None if training else self._probe(lambda factor: self._with_weights(parameters, batch, factor))
        tail = losses[-max(1, len(losses) // 10) :]
        ends = (_json(losses[0]), _json(float(np.mean(tail)))) if losses else (None, None)
        return StressResult(self.setting, steps, initial, trained, ends, training, inputs, weights)

    def _train(self, steps: int) -> tuple[list[float], Failure | None, Any]:
        """Losses, where training broke if it did, and the last parameters (before the break)."""
        import jax

        losses: list[float] = []
        parameters = self.state.parameters
        for step in range(steps):
            parameters = jax.tree.map(np.array, self.state.parameters)  # copies: a step consumes its state
            tokens = self.batches.batch_at(step)
            self.state, result = self.functions.step(self.state, tokens)
            losses.append(float(np.mean(np.asarray(result.token_losses, np.float64))))
            if not (math.isfinite(losses[-1]) and math.isfinite(float(result.gradient_norm))):
                return losses, Failure(step + 1, self._where(self.observe(parameters, tokens, 1.0))), parameters
        return losses, None, self.state.parameters

    def _with_weights(self, parameters: Any, batch: np.ndarray, factor: float) -> RecordedPass:
        from ...models.activation_recorder import scale_dense_kernels

        return self.observe(scale_dense_kernels(self.model, parameters, factor), batch, 1.0)

    def _probe(self, observe: Callable[[float], RecordedPass]) -> Failure | None:
        from ...models.activation_recorder import find_breaking_scale

        found = find_breaking_scale(lambda factor: observe(factor).finite, LARGEST_SCALE)
        return None if found is None else Failure(found, self._where(observe(found)))

    def _where(self, observation: RecordedPass) -> str:
        from ...models.activation_recorder import node_name

        broken = observation.first_non_finite
        if broken is not None:
            return f"layer {broken[0] + 1}, {node_name(self.graph, broken[1])}"
        return "gradient" if math.isfinite(float(observation.loss)) else "the output of the model"

    def _snapshot(self, observation: RecordedPass) -> ActivationStats:
        magnitudes = np.where(np.isnan(observation.magnitudes), np.inf, observation.magnitudes)
        by_node = sorted(range(len(self.graph.nodes)), key=lambda node: -magnitudes[:, node].max())
        score = max(
            (self._peak(observation.highest, node) for node in self.scores),
            key=lambda peak: math.inf if peak.value is None else peak.value,
            default=None,
        )
        open_scores = [
            float(np.nan_to_num(observation.highest[:, node], nan=LARGEST_VALUE).max()) for node in self.unprotected
        ]
        return ActivationStats(
            _json(float(observation.loss)),
            tuple(self._peak(magnitudes, node) for node in by_node[:5]),
            score,
            _json(max(open_scores)) if open_scores else None,
            _json(float(observation.gradient_norm)),
            tuple(_json(float(norm)) for norm in observation.gradient_norms),
        )

    def _peak(self, values: np.ndarray, node: int) -> ActivationPeak:
        from ...models.activation_recorder import node_name

        layer = int(np.argmax(values[:, node]))
        return ActivationPeak(node_name(self.graph, node), layer + 1, _json(float(values[layer, node])))


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
