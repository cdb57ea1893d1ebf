"""Stress test: a program in deep, long and low-precision models, at initialisation and after some training.

Each model is trained on real text as in a trial, and its activations are recorded before and after. Then the input of
its first layer, and separately all its dense kernels, are scaled up until the loss or a gradient is not finite.
`stress_result` defines which results are safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product

from ...models.parameter_range import dna_at_unit
from ...primitives import DNA, UsageError, build_graph
from ...system.plurals import pluralize
from ..config import RunConfig
from ..evolution.candidate import candidate_name
from ..results.program_reference import find_candidate_id, library_dna
from ..runs.store import Store
from .stress_result import StressResult, StressSetting

__all__ = ["parse_integers", "program_and_config", "stress", "stress_settings"]


def program_and_config(run: str, candidate: str | None, config: RunConfig | None) -> tuple[str, DNA, RunConfig]:
    """Return the name of a program, the program, and the configuration to measure it in.

    Args:
        run: name or path of a run, or name of a library program.
        candidate: candidate of the run: its number, `best` or `baseline`; None for a library program.
        config: configuration to measure in; None is the run's.

    Raises:
        UsageError: the program, run or candidate does not exist, or a library program is given without a configuration.
    """
    if candidate is None:
        library_dna(run)  # raises the error for an unknown name
        if config is None:
            raise UsageError(f"the library program {run} needs a configuration: give --config")
        return run, config.model.library_program(run), config
    with Store.open(run, read_only=True) as store, store.snapshot():
        number = find_candidate_id(store, candidate)
        own = RunConfig.from_dict(store.manifest["config"])
        found = store.candidate(number)
        dna = dna_at_unit(found.dna, own.model, found.unit)
        if found.unit is not None and config is None:
            own = replace(own, model=replace(own.model, unit=found.unit, parameter_range=()))
        return f"{candidate_name(number)} of {run}", dna, config or own


def parse_integers(option: str, text: str) -> list[int]:
    """Return the whole numbers of a text, in which commas separate them.

    Raises:
        UsageError: the text contains anything else.

    >>> parse_integers("--layers", "12,24")
    [12, 24]
    """
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text[:40]!r} is not a list of whole numbers, such as {option} 12,24") from None


def stress_settings(
    config: RunConfig, layers: Sequence[int], length_factors: Sequence[int], precisions: Sequence[str]
) -> list[StressSetting]:
    """Return the models to test: the configuration's own and every depth at every length, each in every precision.

    Raises:
        UsageError: a depth, factor or precision is out of bounds.
    """
    for option, values, largest in (("--layers", layers, 256), ("--length-factor", length_factors, 1024)):
        for value in values:
            if not 1 <= value <= largest:
                raise UsageError(f"{option} {value} is out of bounds: give numbers from 1 to {largest}")
    for precision in precisions:
        if precision not in ("float32", "bfloat16"):
            raise UsageError(f"unknown --precision {precision}: give float32, bfloat16, or both with a comma")
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
        dna: program to measure.
        config: configuration with the vocabulary, unit, optimizer and text.
        settings: models to measure it in.
        steps: training steps of each model.
        seed: random seed of parameters and text.
        tell: callback that receives messages about the progress.

    Raises:
        InvalidProgramError: the program is not valid with the configuration.
        UsageError: the text cannot be read.
    """
    from ...workers.data.dataset import Dataset, prepare_dataset
    from .stressed_model import StressedModel  # loads JAX

    graph = build_graph(dna, length_dependent=config.model.length_dependent)
    dataset = Dataset.open(prepare_dataset(config.data, config.model.vocabulary, progress=tell), verify=False)
    config = replace(config, model=replace(config.model, vocabulary=dataset.vocabulary))
    for setting in settings:
        tell(f"{pluralize(setting.layers, 'layer')}, length {setting.length}, {setting.precision}")
        yield StressedModel(graph, config, setting, dataset.train, seed).measure(steps)
