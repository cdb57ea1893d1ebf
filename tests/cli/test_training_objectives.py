"""The command `train` with other objectives than causal, and with regularizers."""

from __future__ import annotations

import itertools
import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from primer_search.models.checkpoint import Weights, load_weights, save_weights
from primer_search.models.checkpoint_files import flatten
from primer_search.models.language_model import language_model
from primer_search.models.training_batch import TrainingBatch
from primer_search.primitives import build_graph
from primer_search.search.weights.train_weights import train_weights
from primer_search.search.weights.training_job import plan_further_training, plan_training
from primer_search.search.weights.training_options import TrainingOptions
from primer_search.system.signals import Interrupted
from primer_search.tests.support.command import command, refused
from primer_search.tests.support.tiny_runs import MODEL, WORDS
from primer_search.tests.support.tiny_weights import TIED, tiny_run
from primer_search.workers.data.dataset import Dataset
from primer_search.workers.protocol import Progress

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("objectives"))


@pytest.fixture(scope="module")
def trained(run: Path) -> Path:
    """Return the folder of weights that trained on plain text, at a length that denoisers can use."""
    folder = run.parent / "trained"
    result = command("train", run, "1", "--scale", "length=32", "--budget", "30steps", "-o", folder)
    assert result.code == 0, result.err
    return folder


def test_weights_become_a_denoiser_and_stay_a_model_of_text(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "denoiser"
    result = command("train", "--from", trained, "--objective", "ul2r", "--budget", "60steps", "-o", folder, "--json")
    assert result.code == 0, result.err
    before, after = load_weights(trained), load_weights(folder)
    assert result.json["loss_nats"] < result.json["first_loss_nats"]
    bump = result.json["first_text_nats"] - before.training["loss_nats"]
    assert 0 < bump < 0.2  # the new token ids take a part of the probability until they are learned
    assert (result.json["objective"], result.json["prefix"], result.json["final_rate"]) == ("ul2r", True, 0.01)
    assert after.model.vocabulary > before.model.vocabulary
    assert after.training["vocabulary"] == before.model.vocabulary
    positions = 60 * after.training["settings"]["trial"]["batch"] * 32
    assert 0.8 * positions < result.json["tokens"] < positions  # a few of each sequence are padding
    assert "loss of ul2r " in result.err and "; loss of the text " in result.err
    assert command("generate", folder, "--tokens", "3").code == 0
    again = command("train", "--from", folder, "--budget", "5steps", "-o", tmp_path / "text", "--json")
    assert again.code == 0, again.err
    assert load_weights(tmp_path / "text").model.vocabulary == after.model.vocabulary
    assert again.json["first_loss_nats"] == pytest.approx(result.json["text_nats"], abs=1e-5)


def write_examples(path: Path) -> Path:
    """Write examples of two tasks, whose answers follow from the question."""
    lines = [
        {"inputs": f"the {one} and the {other}", "targets": f"{other} {one}", "task": ("swap", "order")[number % 2]}
        for number, (one, other) in enumerate(itertools.permutations(WORDS, 2))
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_weights_learn_from_examples_and_continue_when_interrupted(trained: Path, tmp_path: Path) -> None:
    examples = write_examples(tmp_path / "examples.jsonl")
    options = ("--objective", "instruct", "--examples", examples, "--cap", "100", "--budget", "80steps")
    whole = command("train", "--from", trained, *options, "-o", tmp_path / "whole", "--json")
    assert whole.code == 0, whole.err
    assert whole.json["loss_nats"] < whole.json["first_loss_nats"]
    assert list(whole.json["examples"]) == [str(examples)]
    assert whole.json["final_rate"] == 1.0

    def interrupt(progress: Progress) -> None:
        if progress.phase == "train" and progress.spent > 20:
            signal.raise_signal(signal.SIGINT)

    job = plan_further_training(
        str(trained),
        TrainingOptions(
            "80steps", objective="instruct", examples=(str(examples),), cap=100, output=str(tmp_path / "parts")
        ),
    )
    with pytest.raises(Interrupted):
        train_weights(job, progress=interrupt)
    content = examples.read_text()
    examples.write_text(content + "\n")
    assert "have changed" in command("train", "--resume", tmp_path / "parts").err
    examples.write_text(content)
    assert command("train", "--resume", tmp_path / "parts").code == 0
    assert load_weights(tmp_path / "parts").training["tokens"] == whole.json["tokens"]
    one, other = (flatten(load_weights(tmp_path / name).parameters) for name in ("whole", "parts"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_mixture_chooses_the_denoisers(trained: Path, tmp_path: Path) -> None:
    losses = []
    for mixture in ("S=1", "R=1"):
        options = ("--objective", "ul2r", "--mixture", mixture, "--budget", "2steps")
        result = command("train", "--from", trained, *options, "-o", tmp_path / mixture, "--json")
        assert result.code == 0, result.err
        losses.append(result.json["first_loss_nats"])
    assert losses[0] != losses[1]


def test_a_regularizer_draws_layers_together(run: Path, tmp_path: Path) -> None:
    def last_distance(name: str, *options: str) -> tuple[float, dict[str, Any]]:
        result = command("train", run, "1", "--budget", "150steps", "-o", tmp_path / name, *options, "--json")
        assert result.code == 0, result.err
        weights = load_weights(tmp_path / name)
        model = language_model(weights.graph, weights.model)
        tokens = Dataset.open(_dataset(run)).validation[:36].reshape(4, 9).astype(np.int32)
        stream = model.predict(weights.parameters, TrainingBatch(tokens), stream=True).stream
        assert stream is not None
        return float(np.mean(np.square(stream[1] - stream[0]))), result.json

    plain, _ = last_distance("plain")
    drawn, facts = last_distance("drawn", "--regularizer", "mse", "--strength", "3")
    assert drawn < 0.5 * plain
    assert (facts["regularizer"], facts["strength"]) == ("mse", 3.0)
    none, _ = last_distance("none", "--regularizer", "cosine", "--strength", "0")
    assert none == pytest.approx(plain, rel=1e-3)


def _dataset(run: Path) -> str:
    return plan_training(str(run), "1").dataset or ""


def test_a_block_that_cannot_read_a_prefix_is_refused_with_the_reason(trained: Path, tmp_path: Path) -> None:
    weights = load_weights(trained)
    shape = replace(MODEL, length_dependent=True)
    parameters = language_model(build_graph(TIED, length_dependent=True), shape).draw(np.random.default_rng(0))
    save_weights(tmp_path / "tied", Weights(TIED, shape, parameters, weights.tokenizer, weights.training))
    result = command("train", "--from", tmp_path / "tied", "--objective", "ul2r", "--budget", "5steps")
    assert result.code == 2
    assert "--objective ul2r" in result.err
    assert "length" in result.err


WRONG_USAGE = {
    "an unknown objective": (["--objective", "flan"], "--objective"),
    "examples for another objective": (["--examples", "{examples}"], "--examples"),
    "no examples": (["--objective", "instruct"], "--examples"),
    "examples that are not there": (["--objective", "instruct", "--examples", "nowhere.jsonl"], "nowhere.jsonl"),
    "a cap for another objective": (["--cap", "5"], "--cap"),
    "a mixture for another objective": (["--mixture", "R=1"], "--mixture"),
    "a mixture that is none": (["--objective", "ul2r", "--mixture", "R"], "--mixture R"),
    "strength without a regularizer": (["--strength", "0.1"], "--regularizer"),
    "a regularizer without strength": (["--regularizer", "cosine"], "--strength"),
    "a negative strength": (["--regularizer", "cosine", "--strength", "-1"], "--strength"),
}


@pytest.mark.parametrize("case", WRONG_USAGE)
def test_wrong_usage_is_refused(case: str, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "examples.jsonl").write_text(json.dumps({"inputs": "the cat", "targets": "sat"}) + "\n")
    arguments, expected = WRONG_USAGE[case]
    given = [each.format(examples=tmp_path / "examples.jsonl") for each in arguments]
    assert expected in refused("train", "--from", trained, *given)
    assert expected in refused("train", trained.parent / "run", "1", *given)
