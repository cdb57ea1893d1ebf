"""Which ranks are reduced, what is measured of it, and the folder of the refined model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from primer_search.models.analysis.projections import find_projections
from primer_search.models.analysis.token_scores import TokenScores, make_token_scorer
from primer_search.models.checkpoint import Weights, grow_vocabulary, load_weights
from primer_search.models.language_model import language_model
from primer_search.primitives import UsageError
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.library import get
from primer_search.search.refinement.layer_analysis import analyze_layers
from primer_search.search.refinement.rank_search import RefinedModel, refine_ranks
from primer_search.search.refinement.refined_weights import FACTORED, write_refined
from primer_search.search.refinement.token_groups import compare_by_frequency, count_ids, frequency_of_ids
from primer_search.search.weights.held_out_text import held_out_parts
from primer_search.tests.support.tiny_runs import tiny_dataset
from primer_search.tests.support.tiny_weights import SHAPE, drawn_weights
from primer_search.workers.data.dataset import Dataset

TOKENS = 1000


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset.open(tiny_dataset(tmp_path_factory.mktemp("text")))


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Untrained weights: many reductions of them help."""
    return drawn_weights(get("PRIMER_EZ", 1, 2), SHAPE)


@pytest.fixture(scope="module")
def refined(weights: Weights, dataset: Dataset) -> RefinedModel:
    return refine_ranks(weights, dataset, TOKENS, shares=(0.5, 0.25), margin=0.0)


def test_every_matrix_of_every_layer_is_tried_at_every_rank(refined: RefinedModel) -> None:
    tried = [(each.reduction.layer, each.reduction.matrix, each.reduction.rank) for each in refined.result.tried]
    assert len(tried) == len(set(tried)) == 2 * 6 * 2
    assert {rank for _, matrix, rank in tried if matrix == "feed_forward.conv_1x1"} == {4, 2}


def test_the_kept_reductions_are_those_that_help_together(
    refined: RefinedModel, weights: Weights, dataset: Dataset
) -> None:
    result = refined.result
    losses = [result.original.loss_nats, *(each.scores.loss_nats for each in result.kept)]
    assert len(losses) > 2
    assert losses == sorted(losses, reverse=True)
    assert len({(each.reduction.layer, each.reduction.matrix) for each in result.kept}) == len(result.kept)
    choosing, reporting = held_out_parts(dataset, weights.model.length, TOKENS, 0.2)
    score = make_token_scorer(language_model(weights.graph, weights.model))
    assert score(weights.parameters, choosing).loss_nats == pytest.approx(losses[0])
    assert score(refined.parameters, choosing).loss_nats == pytest.approx(losses[-1])
    everything = result.groups[0]
    for parameters, found in ((weights.parameters, everything.before), (refined.parameters, everything.after)):
        scores = score(parameters, reporting)
        assert (found.loss_nats, found.accuracy) == pytest.approx((scores.loss_nats, scores.accuracy))


def test_only_the_kept_matrices_change_and_have_the_rank_they_claim(refined: RefinedModel, weights: Weights) -> None:
    before, after = weights.parameters["blocks"], refined.parameters["blocks"]
    changed = {
        (layer, name) for name in before for layer in range(2) if np.any(before[name][layer] != after[name][layer])
    }
    assert changed == set(refined.factors)
    for layer, name in changed:
        if before[name][layer].ndim == 2:
            rank = refined.factors[layer, name].u.shape[-1]
            assert np.linalg.matrix_rank(after[name][layer].astype(np.float64), tol=1e-4) == rank


def test_accuracy_can_be_the_criterion(weights: Weights, dataset: Dataset) -> None:
    result = refine_ranks(weights, dataset, TOKENS, shares=(0.25,), criterion="accuracy", margin=0.0).result
    hits = [result.original.accuracy, *(each.scores.accuracy for each in result.kept)]
    assert hits == sorted(set(hits))


def test_without_a_helpful_reduction_nothing_changes(weights: Weights, dataset: Dataset) -> None:
    blocks = {name: np.zeros_like(array) for name, array in weights.parameters["blocks"].items()}
    silent = replace(weights, parameters={**weights.parameters, "blocks": blocks})
    found = refine_ranks(silent, dataset, TOKENS, shares=(0.5,))
    assert found.result.kept == found.result.groups == ()
    assert "no reduction helped" in found.result.verdict
    assert found.result.saved_parameters == 0


def test_a_gain_within_the_noise_counts_only_without_a_margin(weights: Weights, dataset: Dataset) -> None:
    found = [refine_ranks(weights, dataset, TOKENS, shares=(0.25,), margin=margin).result for margin in (0.0, 1e6)]
    assert [bool(each.kept) for each in found] == [True, False]
    assert found[0].tried == found[1].tried
    assert "1e+06 standard errors" in found[1].verdict


def test_special_tokens_of_an_objective_are_in_no_group(weights: Weights, dataset: Dataset) -> None:
    grown = grow_vocabulary(weights, weights.model.vocabulary + 7, seed=0)
    found = refine_ranks(grown, dataset, TOKENS, shares=(0.25,), margin=0.0).result
    everything, *groups = found.groups
    assert everything.ids == sum(each.ids for each in groups) == dataset.vocabulary


def broken_weights(weights: Weights, what: str) -> Weights:
    """Return weights whose array `what` has one value that is not a number, or that overflow in layer 2."""
    parameters = {**weights.parameters, "blocks": dict(weights.parameters["blocks"])}
    name = "feed_forward.conv_1x1.kernel"
    kernel = np.array(parameters["blocks"][name])
    if what == "embedding":
        parameters["embedding"] = np.where(np.arange(8) == 3, np.nan, parameters["embedding"])
    elif what == "kernel":
        kernel[1, 0, 0] = np.inf
    elif what == "layer":
        kernel[1] *= 1e30  # its outputs are squared
    else:
        parameters["embedding"] = parameters["embedding"] * np.float32(1e25)
        parameters["final_norm"] = {key: array * np.float32(1e25) for key, array in parameters["final_norm"].items()}
    parameters["blocks"][name] = kernel
    return replace(weights, parameters=parameters)


NOT_FINITE = {
    "embedding": "array embedding of the weights",
    "kernel": "array blocks.feed_forward.conv_1x1.kernel of the weights is infinite or not a number in layer 2",
    "layer": "output of layer 2 is infinite",
    "logits": "logits overflow",
}


@pytest.mark.parametrize("what", NOT_FINITE)
@pytest.mark.parametrize("work", [analyze_layers, refine_ranks])
def test_a_model_that_is_not_finite_is_refused_by_name(
    work: Any, what: str, weights: Weights, dataset: Dataset
) -> None:
    with pytest.raises(UsageError, match=NOT_FINITE[what]):
        work(broken_weights(weights, what), dataset, TOKENS)


def test_a_program_without_projections_is_refused(dataset: Dataset) -> None:
    weights = drawn_weights(assemble({"main": "bent = TANH h0\noutput = ADD bent h0"}, {}, (8,)))
    with pytest.raises(UsageError, match="no CONV_1X1"):
        refine_ranks(weights, dataset, TOKENS)


# --- the folder ---------------------------------------------------------------------------------------------------


def test_the_folder_holds_the_refined_weights_whole_and_as_factors(
    refined: RefinedModel, weights: Weights, tmp_path: Path
) -> None:
    folder = tmp_path / "refined"
    write_refined(folder, weights, refined, factored=True)
    loaded = load_weights(folder)
    for name, array in refined.parameters["blocks"].items():
        np.testing.assert_array_equal(loaded.parameters["blocks"][name], array)
    assert loaded.training["refined"]["verdict"] == refined.result.verdict
    assert json.loads((folder / "refinement.json").read_text()) == json.loads(json.dumps(refined.result.to_dict()))
    arrays = load_file(folder / FACTORED)
    np.testing.assert_array_equal(arrays["embedding"], weights.parameters["embedding"])
    projections = {each.name: each for each in find_projections(weights.graph, weights.model.unit)}
    for name, array in refined.parameters["blocks"].items():
        for layer, wanted in enumerate(array):
            key = f"layers.{layer}.{name}"
            found = arrays.get(key)
            if found is None:
                found = projections[name].from_matrices(arrays[f"{key}.u"] @ arrays[f"{key}.v"])
            np.testing.assert_allclose(found, wanted, atol=1e-5)
    saved = refined.result.saved_parameters
    assert saved > 0
    smaller = (folder / "model.safetensors").stat().st_size - (folder / FACTORED).stat().st_size
    assert abs(smaller - 4 * saved) < 20_000  # the names of the arrays
    with pytest.raises(UsageError, match="exists"):
        write_refined(folder, weights, refined)


# --- frequencies --------------------------------------------------------------------------------------------------


def test_each_frequency_makes_up_a_third_of_the_text(dataset: Dataset) -> None:
    counts = count_ids(dataset.train, dataset.vocabulary)
    np.testing.assert_array_equal(counts, np.bincount(np.asarray(dataset.train), minlength=dataset.vocabulary))
    groups = frequency_of_ids(counts)
    shares = np.array([counts[groups == number].sum() for number in range(3)]) / counts.sum()
    assert shares.sum() == 1.0
    assert np.all(np.abs(shares - 1 / 3) < counts.max() / counts.sum())
    assert counts[groups == 0].min() >= counts[groups == 1].max()
    assert counts[groups == 1].min() >= counts[groups == 2].max()


def test_groups_add_up_to_all_tokens(rng: np.random.Generator) -> None:
    targets = rng.integers(0, 9, (30, 8))
    groups = np.array([0, 0, 1, 1, 1, 2, 2, 2, 2])
    before = TokenScores(rng.exponential(size=(30, 8)), rng.random((30, 8)) < 0.5)
    after = TokenScores(before.losses - 0.5 * (targets < 2), before.correct | (targets >= 5))
    everything, common, middle, rare = compare_by_frequency(targets, before, after, groups)
    assert [each.name for each in (everything, common, middle, rare)] == ["all", "common", "middle", "rare"]
    assert [each.ids for each in (everything, common, middle, rare)] == [9, 2, 3, 4]
    assert everything.tokens == common.tokens + middle.tokens + rare.tokens == 240
    assert common.loss_change.mean == pytest.approx(-0.5)
    assert middle.loss_change.mean == middle.accuracy_change.mean == 0.0
    assert rare.after.accuracy == 1.0
    assert everything.loss_change.mean == pytest.approx(after.loss_nats - before.loss_nats)
