"""The commands `train`, `generate` and `export --weights`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from primer_search.models.checkpoint import load_weights, save_weights
from primer_search.models.checkpoint_files import flatten
from primer_search.models.generation import Sampling, generate
from primer_search.models.language_model import language_model
from primer_search.primitives import UsageError
from primer_search.search.weights.generate_text import continue_text
from primer_search.search.weights.train_weights import train_weights
from primer_search.search.weights.training_job import plan_training
from primer_search.search.weights.training_options import TrainingOptions
from primer_search.tests.support.command import command, refused
from primer_search.tests.support.tiny_runs import BASELINE
from primer_search.tests.support.tiny_weights import TIED, drawn_weights, tiny_run
from primer_search.workers.data.batches import validation_batches
from primer_search.workers.data.dataset import Dataset
from primer_search.workers.data.tokenizer import Tokenizer

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with trained weights of candidate 1."""
    run = tiny_run(tmp_path_factory.mktemp("trained"))
    result = command("train", run, "1", "--json")
    assert result.code == 0, result.err
    assert result.json["folder"] == str(run / "weights" / "1")
    assert result.json["steps"] == 12
    assert "training #1 of run" in result.err
    assert ", about 3 s" in result.err
    return run


def test_the_weights_are_those_that_evaluation_saw(trained: Path) -> None:
    weights = load_weights(trained / "weights" / "1", dna=BASELINE)
    dataset = Dataset.open(plan_training(str(trained), "1").dataset or "")
    batches = validation_batches(dataset.validation, 4, 8, 2)
    model = language_model(weights.graph, weights.model)
    losses = [np.mean(model.token_losses(weights.parameters, jnp.asarray(batch))) for batch in batches]
    assert np.mean(losses) == pytest.approx(weights.training["loss_nats"], abs=1e-5)
    assert weights.training["dataset_hash"] == dataset.dataset_hash
    assert weights.tokenizer == dataset.tokenizer().to_json()


def test_if_averaged_parameters_are_evaluated_they_are_saved(run: Path) -> None:
    plain = plan_training(str(run), "1")
    optimizer = replace(plain.config.optimizer, averaging=4.0)
    averaged = replace(plain, config=replace(plain.config, optimizer=optimizer))
    last = load_weights(run / "weights" / "1")
    weights = train_weights(averaged, overwrite=True)
    assert weights.training["averaging"] == 4.0
    assert not np.allclose(weights.parameters["embedding"], last.parameters["embedding"], atol=1e-6)
    dataset = Dataset.open(plain.dataset or "")
    model = language_model(weights.graph, weights.model)
    batches = validation_batches(dataset.validation, 4, 8, 2)
    losses = [np.mean(model.token_losses(weights.parameters, jnp.asarray(batch))) for batch in batches]
    assert np.mean(losses) == pytest.approx(weights.training["loss_nats"], abs=1e-5)


def test_training_again_replaces_only_on_request_and_repeats_exactly(run: Path) -> None:
    assert "--force" in refused("train", run, "1")
    before = flatten(load_weights(run / "weights" / "1").parameters)
    for seed, equal in ((0, True), (7, False)):
        result = command("train", run, "1", "--force", "--seed", str(seed))
        assert result.code == 0, result.err
        assert result.out == ""
        after = flatten(load_weights(run / "weights" / "1").parameters)
        assert all(np.array_equal(after[name], array) for name, array in before.items()) is equal


def test_a_training_that_fails_leaves_no_weights(run: Path) -> None:
    result = command("train", run, "2")
    assert result.code == 1
    assert "#2 of run" in result.err
    assert "ended with rejected:" in result.err
    assert not (run / "weights" / "2").exists()


def test_an_interrupted_training_saves_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("primer_search.workers.training.training_loop.TrainingLoop.train_until", interrupt)
    result = command("train", run, "baseline")
    assert result.code == 130
    assert "no weights were saved" in result.err
    assert not (run / "weights" / "0").exists()


def test_a_text_that_changed_is_refused(run: Path) -> None:
    with pytest.raises(UsageError, match=r"not the text.*hash [0-9a-f]{12}, was 0{12}.*data prepare text:PATH"):
        train_weights(replace(plan_training(str(run), "0"), dataset_hash="0" * 64))


# --- text ---------------------------------------------------------------------------------------------------------


def test_stdout_holds_only_the_greedy_text_of_the_model(trained: Path) -> None:
    result = command("generate", trained, "1", "--prompt", "the cat", "--tokens", "20", "--temperature", "0")
    assert result.code == 0, result.err
    weights = load_weights(trained / "weights" / "1")
    tokenizer = Tokenizer.from_json(weights.tokenizer)
    model = language_model(weights.graph, weights.model)
    ids = tokenizer.encode("the cat")
    greedy = generate(model, weights.parameters, ids, 20, sampling=Sampling(0.0), vocabulary=tokenizer.size)
    assert result.out == tokenizer.decode([*ids, *greedy]) + "\n"
    assert "extrapolates" in result.err
    assert "a second" in result.err


def test_text_as_json_is_one_object(trained: Path) -> None:
    result = command("generate", trained / "weights" / "1", "--prompt", "a dog", "--tokens", "5", "--json")
    assert result.code == 0, result.err
    found = result.json
    assert set(found) == {"prompt", "text", "tokens", "tokens_per_second"}
    assert (found["prompt"], found["tokens"]) == ("a dog", 5)
    assert found["tokens_per_second"] > 0
    text = continue_text(load_weights(trained / "weights" / "1"), "a dog", 5, Sampling(), 0)
    assert found["text"] == "".join(text)


def test_a_candidate_without_weights_is_trained_first(run: Path) -> None:
    result = command("generate", run, "baseline", "--tokens", "3")
    assert result.code == 0, result.err
    assert "has no saved weights" in result.err
    assert "training baseline of run" in result.err
    assert load_weights(run / "weights" / "0").training["candidate"] == 0
    again = command("generate", run, "baseline", "--tokens", "3")
    assert again.out == result.out
    assert "training" not in again.err


# --- export -------------------------------------------------------------------------------------------------------

WITHOUT_THIS_PACKAGE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "primer_search":
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import jax.numpy as jnp
import numpy as np
x = jnp.asarray(np.load("input.npy"))
{lines}
np.save("output.npy", y)
from orbax.checkpoint import v1
from pathlib import Path
one = traverse_util.flatten_dict(tree, sep=".")
other = traverse_util.flatten_dict(v1.load(str(Path("mine_weights/checkpoint").absolute())), sep=".")
assert one["embedding"].shape == (300, 8)
assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
"""


@pytest.mark.parametrize("api", ["nnx", "linen"])
def test_exported_weights_load_in_two_lines_without_this_package(
    api: str, run: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    result = command("export", run, "1", "-o", place / "mine.py", "--api", api, "--weights", "--name", "Mine")
    assert result.code == 0, result.err
    folder = place / "mine_weights"
    names = {path.name for path in folder.iterdir()}
    assert names == {"README.md", "checkpoint", "model.json", "model.safetensors", "tokenizer.json"}
    facts = json.loads((folder / "model.json").read_text())
    assert (facts["class"], facts["api"], facts["layout"]) == ("Mine", api, "module")
    x = rng.standard_normal((2, 5, 8)).astype(np.float32)
    np.save(place / "input.npy", x)
    lines = [line[4:] for line in (folder / "README.md").read_text().splitlines() if line.startswith("    ")]
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_THIS_PACKAGE.format(lines="\n".join(lines))],
        cwd=place,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    weights = load_weights(run / "weights" / "1")
    block = language_model(weights.graph, weights.model).block
    layer = {name: array[0] for name, array in weights.parameters["blocks"].items()}
    np.testing.assert_allclose(np.load(place / "output.npy"), block.apply(layer, jnp.asarray(x)), atol=1e-5)


def test_existing_output_is_refused_before_anything_trains(run: Path, tmp_path: Path) -> None:
    (tmp_path / "block_weights").mkdir()
    assert "block_weights exists" in refused("export", run, "baseline", "-o", tmp_path / "block.py", "--weights")
    assert not (run / "weights" / "0").exists()
    assert not (tmp_path / "block.py").exists()


# --- wrong usage --------------------------------------------------------------------------------------------------


def test_a_run_that_counts_steps_trains_for_another_number_of_them(trained: Path) -> None:
    assert plan_training(str(trained), "1", TrainingOptions(budget="77steps")).config.trial.budget == 77.0


WRONG_USAGE = {
    "train without a run": (["train", "no/such/run", "1"], "no/such/run"),
    "train a missing candidate": (["train", "{run}", "99"], "0 to 2"),
    "train a candidate that is not a number": (["train", "{run}", "first"], "`best`"),
    "an invalid budget": (["train", "{run}", "0", "--budget", "soon"], "--budget: 'soon'"),
    "a negative seed": (["train", "{run}", "0", "--seed", "-1"], "--seed"),
    "generate without a run": (["generate", "no/such/run", "1"], "no/such/run"),
    "generate without a candidate": (["generate", "{run}"], "`best`"),
    "generate with a missing candidate": (["generate", "{run}", "99"], "0 to 2"),
    "a negative temperature": (["generate", "{run}", "1", "--temperature", "-1"], "--temperature -1"),
    "a temperature that is not a number": (["generate", "{run}", "1", "--temperature", "nan"], "--temperature nan"),
    "a seed above 32 bits": (["generate", "{run}", "1", "--seed", str(2**32)], "--seed"),
    "zero tokens": (["generate", "{run}", "1", "--tokens", "0"], "--tokens"),
    "a negative top-k": (["generate", "{run}", "1", "--top-k", "-2"], "--top-k"),
    "a prompt that is not text": (["generate", "{run}", "1", "--prompt", "\udcff"], "UTF-8"),
    "a damaged checkpoint": (["generate", "{damaged}"], "model.safetensors"),
    "weights of another program": (["generate", "{run}", "0"], "another program"),
    "weights of a library program": (["export", "PRIMER_EZ", "--weights"], "--weights"),
    "export of a missing candidate": (["export", "{run}", "77", "--weights"], "0 to 2"),
}


@pytest.fixture(scope="module")
def places(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a run, damaged weights, and a run whose baseline has the weights of another program."""
    folder = tmp_path_factory.mktemp("places")
    run = shutil.copytree(trained, folder / "run")
    damaged = shutil.copytree(run / "weights" / "1", folder / "damaged")
    (damaged / "model.safetensors").write_bytes(b"\0" * 100)
    save_weights(run / "weights" / "0", drawn_weights(TIED))
    return {"run": run, "damaged": damaged}


@pytest.mark.parametrize("mistake", WRONG_USAGE)
def test_wrong_usage_is_one_sentence(
    mistake: str, places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, hint = WRONG_USAGE[mistake]
    assert hint in refused(*(argument.format(**places) for argument in arguments))
    assert list(tmp_path.iterdir()) == []
