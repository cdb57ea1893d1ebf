"""Stress test: it records what a model computes, and finds where the model fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.models.analysis.activation_recorder import (
    find_breaking_scale,
    make_recorder,
    node_name,
    scale_dense_kernels,
)
from primer_search.models.block import compile_block
from primer_search.models.language_model import LanguageModel
from primer_search.primitives import DNA, UsageError, build_graph
from primer_search.primitives.programs import library
from primer_search.primitives.programs.assembler import assemble
from primer_search.search.config import RunConfig
from primer_search.search.evolution.candidate import Candidate
from primer_search.search.studies.stress import program_and_config, stress, stress_settings
from primer_search.search.studies.stress_result import (
    SCORE_LIMIT,
    ActivationPeak,
    ActivationStats,
    Failure,
    StressResult,
    StressSetting,
)
from primer_search.tests.support.command import HandmadeRun, command
from primer_search.tests.support.tiny_runs import CONFIG, write_text
from primer_search.workers.config import DataConfig

CONSTANTS = {"third": 0.3, "hundred": 100.0}
SOFTMAX = "e = EXP s\nm = MASK e\nt = RED_SUM m\nw = DIVIDE m t\na = MAT_MUL w h0\nr = ADD a h0"
PROJECTED = "q = CONV_1X1 h0 width=8\nk = CONV_1X1 h0 width=8\ns = T_MAT_MUL q k\n"
MODEL = replace(CONFIG.model, layers=2, unit=2, stack="scan")


def program(text: str) -> DNA:
    return assemble({"main": text}, CONSTANTS, (8, 16))


EXPONENTIAL = program("s = C_MUL h0 constant=third\ne = EXP s\nc = CONV_1X1 e width=8\nt = TANH c\nr = ADD t h0")
OVERFLOWS = program("s = C_MUL h0 constant=hundred\ne = EXP s\nb = SHIFT e\nr = ADD b h0")
ATTENTION = program(PROJECTED + SOFTMAX)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """One layer with 8 channels, and a text with few words."""
    text = write_text(tmp_path_factory.mktemp("stress") / "text", documents=8)
    return replace(CONFIG, data=DataConfig(f"text:{text}"))


def lines(dna: DNA, config: RunConfig, steps: int, precisions: Sequence[str] = ("float32",)) -> list[StressResult]:
    return list(stress(dna, config, stress_settings(config, [1], [1], precisions), steps))


# --- what is observed -------------------------------------------------------------------------------------------


def test_the_recorded_loss_and_gradient_are_those_of_the_model(rng: np.random.Generator) -> None:
    model = LanguageModel(MODEL, compile_block(build_graph(ATTENTION), MODEL.unit))
    parameters = model.init(rng)
    tokens = rng.integers(0, MODEL.vocabulary, (3, MODEL.length + 1)).astype(np.int32)

    def loss(parameters: object) -> jax.Array:
        return model.token_losses(parameters, tokens).mean()  # pyright: ignore[reportArgumentType]

    expected, gradients = jax.jit(jax.value_and_grad(loss))(parameters)
    seen = make_recorder(model)(parameters, tokens, 1.0)
    np.testing.assert_allclose(seen.loss, expected, rtol=1e-5)
    np.testing.assert_allclose(seen.gradient_norm, optax.tree.norm(gradients), rtol=1e-4)
    for layer, norm in enumerate(seen.gradient_norms):
        own = jax.tree.map(lambda leaf, layer=layer: leaf[layer], gradients["blocks"])
        np.testing.assert_allclose(norm, optax.tree.norm(own), rtol=1e-4)


def test_every_node_of_every_layer_is_recorded_and_the_first_failure_is_named(rng: np.random.Generator) -> None:
    graph = build_graph(ATTENTION)
    model = LanguageModel(MODEL, compile_block(graph, MODEL.unit))
    parameters = model.init(rng)
    tokens = rng.integers(0, MODEL.vocabulary, (3, MODEL.length + 1)).astype(np.int32)
    seen = make_recorder(model)(parameters, tokens, 1.0)
    assert seen.magnitudes.shape == seen.highest.shape == (2, len(graph.nodes))
    assert seen.finite and seen.first_non_finite is None
    output = [node.op for node in graph.nodes].index("EXP")
    assert seen.highest[:, output].max() <= 1.0  # shifted
    parameters["blocks"]["conv_1x1.kernel"][1, 0, 0] = np.nan
    broken = make_recorder(model)(parameters, tokens, 1.0)
    assert not broken.finite
    assert broken.first_non_finite is not None
    layer, node = broken.first_non_finite
    assert (layer, node_name(graph, node)) == (1, "conv_1x1")


def test_only_dense_kernels_of_blocks_are_scaled(rng: np.random.Generator) -> None:
    graph = build_graph(program("c = CONV_1X1 h0 width=8\nd = DCONV_3X1 c\nb = SHIFT d"))
    model = LanguageModel(MODEL, compile_block(graph, MODEL.unit))
    before = model.init(rng)
    after = scale_dense_kernels(model, before, 3.0)
    changed = {name for name, array in before["blocks"].items() if np.any(after["blocks"][name] != array)}
    assert changed == {"conv_1x1.kernel"}
    assert after["embedding"] is before["embedding"]


@given(st.floats(1.0, 1e5))
def test_the_breaking_scale_is_found_within_a_tenth(limit: float) -> None:
    found = find_breaking_scale(lambda factor: factor < limit, 1e4)
    if limit > 1e4:
        assert found is None
    else:
        assert found is not None and limit <= found <= 1.1 * limit


# --- where it breaks --------------------------------------------------------------------------------------------


def test_an_unshifted_exponential_fails_where_its_input_exceeds_the_limit(config: RunConfig) -> None:
    (line,) = lines(EXPONENTIAL, config, 0)
    assert line.initial.score is not None and line.initial.open_score == line.initial.score.value
    assert line.inputs is not None and line.initial.open_score is not None
    expected = SCORE_LIMIT / line.initial.open_score
    assert expected * 0.98 < line.inputs.at < 1.1 * expected
    assert line.inputs.where == "layer 1, exp"
    assert line.verdict.startswith("breaks at inputs x")


def test_a_failure_in_training_has_its_step_and_place(config: RunConfig) -> None:
    (line,) = lines(OVERFLOWS, config, 3)
    assert line.training == Failure(1, "layer 1, exp")
    assert line.trained is None
    assert line.verdict == "breaks at step 1, layer 1, exp"
    assert line.to_dict()["initial"]["activations"][0]["value"] is None


def test_a_softmax_is_safe_in_low_precision(config: RunConfig) -> None:
    (line,) = lines(ATTENTION, config, 3, ("bfloat16",))
    assert line.initial.open_score is None and line.initial.score is not None
    assert line.weights is None
    assert line.verdict == "safe"
    assert line.losses[0] is not None and line.losses[1] is not None


# --- verdicts ---------------------------------------------------------------------------------------------------

CALM = ActivationStats(
    2.0, (ActivationPeak("add", 1, 10.0),), ActivationPeak("t_mat_mul", 1, 60.0), None, 1.0, (1.0, 0.5)
)
LINE = StressResult(StressSetting(2, 8, "float32", 4), 10, CALM, CALM, (3.0, 2.0), None, None, None)
VERDICTS = {
    "safe": LINE,
    "breaks at step 4, gradient": replace(LINE, trained=None, training=Failure(4, "gradient")),
    "breaks at inputs x12, layer 1, exp": replace(LINE, inputs=Failure(12.0, "layer 1, exp")),
    "breaks at weights x2.5, layer 2, exp": replace(LINE, weights=Failure(2.5, "layer 2, exp")),
    "close: EXP of 60, and it overflows at 88.7": replace(LINE, trained=replace(CALM, open_score=60.0)),
    "close: add reaches 1e+20, its square overflows": replace(
        LINE, trained=replace(CALM, activations=(ActivationPeak("add", 1, 1e20),))
    ),
    "close: ratio of its layers' gradients: 1e+04": replace(LINE, initial=replace(CALM, gradient_norms=(1.0, 1e-4))),
    "close: its loss rose from 3.00 to 4.00": replace(LINE, losses=(3.0, 4.0)),
}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_verdict_follows_from_the_margins(verdict: str) -> None:
    assert VERDICTS[verdict].verdict == verdict


def test_failures_beyond_the_margins_are_safe() -> None:
    far = Failure(5000.0, "layer 1, exp")
    assert replace(LINE, inputs=far, weights=replace(far, at=20.0)).verdict == "safe"


# --- options ------------------------------------------------------------------------------------------


def test_the_presets_size_comes_first_and_long_sequences_have_a_small_batch() -> None:
    config = replace(CONFIG, model=replace(CONFIG.model, layers=1, length=8), trial=replace(CONFIG.trial, batch=4))
    settings = stress_settings(config, [1, 12], [1, 16], ["float32"])
    assert settings == [
        StressSetting(1, 8, "float32", 4),
        StressSetting(1, 128, "float32", 1),
        StressSetting(12, 8, "float32", 4),
        StressSetting(12, 128, "float32", 1),
    ]


@pytest.mark.parametrize("wrong", [([0], [1], ["float32"]), ([1], [0], ["float32"]), ([1], [1], ["float16"])])
def test_settings_out_of_bounds_are_refused(wrong: tuple[list[int], list[int], list[str]]) -> None:
    with pytest.raises(UsageError, match="--"):
        stress_settings(CONFIG, *wrong)


def test_a_candidate_is_measured_in_its_runs_configuration(tmp_path: Path) -> None:
    run = HandmadeRun(tmp_path / "run")
    child = run.child("PRIMER_EZ", 2.5)
    name, dna, config = program_and_config(str(run.path), str(child), None)
    assert dna == library.get("PRIMER_EZ", 8)
    assert config.model.length == 128
    assert str(child) in name
    assert program_and_config("TRANSFORMER", None, CONFIG)[1] == library.get("TRANSFORMER", CONFIG.model.unit)


def test_the_command_prints_one_json_object(config: RunConfig, tmp_path: Path) -> None:
    run = HandmadeRun(tmp_path / "run")
    run.store.add_candidate(Candidate(1, EXPONENTIAL, 0, (), "its hash"))
    file = tmp_path / "config.toml"
    model = "layers = 1\nunit = 1\nlength = 8\nvocabulary = 300"
    file.write_text(f'[model]\n{model}\n[data]\nsource = "{config.data.source}"')
    options = ("--layers", "1", "--length-factor", "1", "--precision", "float32", "--steps", "2")
    result = command("stress", run.path, "1", "--config", file, *options, "--json")
    assert result.code == 0, result.err
    (line,) = result.json["lines"]
    assert line["setting"] == {"layers": 1, "length": 8, "precision": "float32", "batch": 16}
    assert line["initial"]["score"]["node"] == "c_mul"
    assert line["initial"]["score_headroom"] == pytest.approx(SCORE_LIMIT - line["initial"]["score"]["value"])
    assert len(line["trained"]["gradient_norms"]) == 1
    assert line["verdict"].startswith("breaks at inputs x")
