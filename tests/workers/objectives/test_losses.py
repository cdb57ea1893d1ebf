"""Losses of the objectives equal those of each example alone, in a slow model; no example sees another."""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.models.config import ModelConfig
from primer_search.models.language_model import LanguageModel, language_model
from primer_search.models.training_batch import TrainingBatch, mean_loss
from primer_search.primitives import DNA, build_graph
from primer_search.primitives.causality.packed_texts import packing_fault
from primer_search.primitives.programs import library
from primer_search.tests.support.decoding_edge_cases import edge_case
from primer_search.tests.support.exported_programs import UNIT, valid_programs
from primer_search.tests.support.slow_model import text_losses
from primer_search.tests.workers.objectives.test_instruct import Characters
from primer_search.workers.objectives.instruct import instruct_objective
from primer_search.workers.objectives.ul2r import ul2r_objective

LENGTH, BATCH, VOCABULARY = 24, 3, 300
QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}
PROGRAMS: dict[str, DNA] = {
    "TRANSFORMER": library.get("TRANSFORMER", UNIT),
    "TRANSFORMER_PP": library.get("TRANSFORMER_PP", UNIT),
    "PRIMER_EZ": library.get("PRIMER_EZ", UNIT),
    "TRANSFORMER_MESA": library.get("TRANSFORMER_MESA", UNIT),
    "a convolution, scores and a running sum": edge_case("attention between a convolution and a running sum"),
    "a running sum of scores": edge_case("a running sum of scores"),
}
PROGRAMS |= {
    f"random {number}": dna
    for number, dna in enumerate(valid_programs(5, 3, mutate=True))
    if not packing_fault(build_graph(dna, length_dependent=True))
}


def small_model(dna: DNA, vocabulary: int) -> LanguageModel:
    """A model of two layers: a prefix changes targets through its own outputs, which the second layer reads."""
    config = ModelConfig(2, UNIT, length=LENGTH, vocabulary=vocabulary, stack="scan")  # one layer to compile
    return language_model(build_graph(dna), config)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, TrainingBatch]:
    """A batch of packed examples, with and without prefixes."""
    path = tmp_path_factory.mktemp("examples") / "sums.jsonl"
    sums = [{"inputs": f"{one}+{two}=", "targets": str(one + two)} for one in range(10) for two in range(10)]
    path.write_text("\n".join(map(json.dumps, sums)), encoding="utf-8")
    return {
        prefix: instruct_objective(
            [path], Characters(), VOCABULARY, batch=BATCH, length=LENGTH, seed=1, held_out_batches=1, prefix=prefix
        ).batch_at(2)
        for prefix in (False, True)
    }


def slow_losses(model: LanguageModel, parameters: Any, batch: TrainingBatch) -> np.ndarray:
    """The losses of the targets of a batch, each text alone; NaN elsewhere."""
    assert batch.weights is not None
    ids = np.zeros_like(batch.tokens) if batch.segment_ids is None else batch.segment_ids
    losses = np.full(batch.weights.shape, np.nan)
    for row in range(len(ids)):
        for text in np.unique(ids[row]):
            places = np.flatnonzero(ids[row] == text)
            weights = batch.weights[row, places[:-1]]
            if weights.any():
                seen = 0 if batch.prefix is None else int(batch.prefix[row, places].sum())
                end = int(np.flatnonzero(weights)[-1]) + 2  # padding may follow
                own = text_losses(model, parameters, batch.tokens[row, places[:end]], seen)
                losses[row, places[: end - 1]] = np.where(weights[: end - 1] == 1, own, np.nan)
    return losses


@pytest.mark.parametrize("name", PROGRAMS)
def test_losses_equal_those_of_each_text_alone(name: str, packed: dict[bool, TrainingBatch]) -> None:
    text = np.random.default_rng(3).integers(VOCABULARY, size=3_000)
    denoised = ul2r_objective(text, text, VOCABULARY, batch=BATCH, length=LENGTH, seed=0, held_out_batches=1)
    model = small_model(PROGRAMS[name], denoised.vocabulary)
    parameters = model.draw(np.random.default_rng(2))

    def losses(parameters: Any, batch: TrainingBatch) -> tuple[jax.Array, jax.Array]:
        found = model.losses(parameters, batch)
        return found, mean_loss(found, batch)

    compiled = jax.jit(losses, compiler_options=QUICK)
    for batch in (packed[False], packed[True], denoised.batch_at(0)):
        found, mean = compiled(parameters, batch)
        wanted = slow_losses(model, parameters, batch)
        assert batch.weights is not None
        np.testing.assert_array_equal(np.isfinite(wanted), batch.weights == 1)
        np.testing.assert_allclose(np.where(batch.weights == 1, found, np.nan), wanted, rtol=1e-3, atol=1e-3)
        assert float(mean) == pytest.approx(np.nanmean(wanted), rel=2e-4)


@pytest.mark.parametrize("name", ["PRIMER_EZ", "a convolution, scores and a running sum"])
def test_no_example_sees_another(name: str, packed: dict[bool, TrainingBatch]) -> None:
    model, batch = small_model(PROGRAMS[name], VOCABULARY), packed[True]
    parameters = model.draw(np.random.default_rng(2))
    ids = batch.segment_ids
    assert ids is not None and batch.prefix is not None and ids[0].max() >= 3
    losses = jax.jit(model.losses, compiler_options=QUICK)
    before = losses(parameters, batch)
    changed = np.where(ids == 2, (batch.tokens + 1) % VOCABULARY, batch.tokens)
    after = losses(parameters, TrainingBatch(changed, batch.weights, ids, batch.prefix))
    inside = (ids[:, 1:] == ids[:, :-1]) & (ids[:, 1:] != 2)
    np.testing.assert_array_equal(np.asarray(after)[inside], np.asarray(before)[inside])
    assert (np.abs(after - before)[(ids[:, 1:] == 2) & (ids[:, :-1] == 2)] > 0).all()

    def of_others(x: jax.Array) -> jax.Array:
        y = model.block.apply(
            {spec.name: parameters["blocks"][spec.name][0] for spec in model.block.specs},
            x,
            segment_ids=ids,
            prefix=batch.prefix,
        )
        return jnp.where((ids != 2)[..., None], jnp.square(y), 0).sum()

    x = np.random.default_rng(0).standard_normal((*ids.shape, model.config.width)).astype(np.float32)
    gradient = np.asarray(jax.jit(jax.grad(of_others), compiler_options=QUICK)(x))
    assert (gradient[ids == 2] == 0).all() and (gradient[ids == 1] != 0).any()
