"""The command `train`: killed and continued exactly, at other scales, from weights, with any budget."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from primer_search.models.checkpoint import Weights, load_weights, save_weights
from primer_search.models.checkpoint_files import flatten
from primer_search.primitives import UsageError, WorkFailedError
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.weights.train_weights import train_weights
from primer_search.search.weights.training_folder import open_training_folder
from primer_search.search.weights.training_job import TrainingJob, plan_training
from primer_search.search.weights.training_options import TrainingOptions
from primer_search.system.signals import Interrupted
from primer_search.tests.support.command import command, refused
from primer_search.tests.support.tiny_runs import BASELINE, write_text
from primer_search.tests.support.tiny_weights import tiny_run
from primer_search.workers.protocol import Progress, TrialRequest
from primer_search.workers.training.trial import CandidateTrainer

pytestmark = pytest.mark.usefixtures("cache")

STEPS = ("--budget", "2400steps", "--final-rate", "0.1")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def trained(run: Path) -> Path:
    """Return the folder of trained weights."""
    result = command("train", run, "1", "-o", run.parent / "trained")
    assert result.code == 0, result.err
    return run.parent / "trained"


@pytest.fixture(scope="module")
def whole(run: Path) -> Path:
    """Return the folder of weights whose training was not interrupted."""
    assert command("train", run, "1", *STEPS, "-o", run.parent / "whole").code == 0
    return run.parent / "whole"


def arrays(folder: Path) -> dict[str, np.ndarray]:
    return flatten(load_weights(folder).parameters)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start the command in a separate process."""
    line = [sys.executable, "-m", "primer_search", *map(str, arguments)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for_state(folder: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a training has saved a state."""
    deadline = time.monotonic() + 120
    while not any(folder.glob("state-*")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- exactness ----------------------------------------------------------------------------------------------------


def test_the_weights_are_those_of_a_trial(run: Path, trained: Path) -> None:
    job = plan_training(str(run), "1")
    config = job.config
    trainer = CandidateTrainer(config.model, config.trial, config.optimizer, job.dataset or "")
    kept: list[Any] = []
    evaluation = trainer.run(TrialRequest(1, 1, dna_to_json(BASELINE), 0), lambda progress: None, kept.append)
    assert same(flatten(kept[0]), arrays(trained))
    training = load_weights(trained).training
    for name in ("steps", "tokens", "epochs", "loss_nats", "bits_per_byte", "moved_logits", "parameters"):
        assert training[name] == getattr(evaluation, name), name


@pytest.mark.parametrize("ending", ["the same command", "--resume"])
def test_a_killed_training_ends_with_the_same_weights(ending: str, run: Path, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    process = start("train", run, "1", *STEPS, "-o", folder, "--save-every", "0.1s")
    wait_for_state(tmp_path / "killed.training", process)
    process.kill()
    process.communicate()
    assert not folder.exists()
    again = ("--resume", folder) if ending == "--resume" else (run, "1", *STEPS, "-o", folder)
    result = command("train", *again)
    assert result.code == 0, result.err
    assert "continuing after" in result.err
    assert same(arrays(folder), arrays(whole))
    assert not (tmp_path / "killed.training").exists()
    curves = [json.loads((each / "curve.json").read_text()) for each in (folder, whole)]
    assert curves[0] == curves[1]
    assert len(curves[0]["validation"]) == 20
    assert curves[0]["validation"][-1][:2] == [2400.0, 2400]


def test_a_termination_saves_the_state_at_once(run: Path, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "terminated"
    process = start("train", run, "1", *STEPS, "-o", folder, "--save-every", "0.2s")
    wait_for_state(tmp_path / "terminated.training", process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"continue with `primer-search train --resume {folder}`" in err
    assert "Traceback" not in err
    (state,) = (tmp_path / "terminated.training").glob("state-*")
    assert f"interrupted after {int(state.name.removeprefix('state-')):,} steps" in err
    assert command("train", "--resume", f"{folder}.training").code == 0
    assert same(arrays(folder), arrays(whole))


def test_time_spent_before_an_interruption_counts(run: Path, tmp_path: Path) -> None:
    job = plan_training(str(run), "1", TrainingOptions("0.6s", output=str(tmp_path / "timed")))
    seen: list[float] = []

    def interrupt(progress: Progress) -> None:
        seen.append(progress.spent)
        if progress.spent > 0.3 and len(seen) < 10_000:
            seen.extend([0.0] * 10_000)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="continue with"):
        train_weights(job, progress=interrupt)
    first = len(seen)
    weights = train_weights(job, progress=interrupt)
    assert min(spent for spent in seen[first:] if spent) > 0.3
    assert 0.6 <= weights.training["train_seconds"] < 1.2


def test_an_interrupted_training_with_other_settings_is_not_continued(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    job = plan_training(str(run), "1", TrainingOptions("400steps", output=str(folder)))

    def interrupt(progress: Progress) -> None:
        if progress.phase == "train":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        train_weights(job, progress=interrupt)
    message = refused("train", run, "1", "--budget", "300steps", "-o", folder)
    assert "another budget_steps" in message
    assert f"--resume {folder}" in message
    assert "is not finished" in refused("generate", folder)
    result = command("train", run, "1", "--budget", "300steps", "-o", folder, "--force")
    assert result.code == 0, result.err
    assert "continuing" not in result.err
    assert load_weights(folder).training["steps"] == 300


def interrupt_in(phase: str) -> Callable[[Progress], None]:
    """Return a callback that interrupts a training in a phase."""

    def interrupt(progress: Progress) -> None:
        if progress.phase == phase:
            signal.raise_signal(signal.SIGINT)

    return interrupt


def test_an_interruption_after_the_last_step_loses_nothing(run: Path, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "late"
    job = plan_training(str(run), "1", TrainingOptions("2400steps", final_rate=0.1, output=str(folder)))
    with pytest.raises(Interrupted, match="interrupted after 2,400 steps"):
        train_weights(job, progress=interrupt_in("recheck"))
    result = command("train", "--resume", folder)
    assert result.code == 0, result.err
    assert "continuing after 2,400 steps" in result.err
    assert same(arrays(folder), arrays(whole))


def test_a_training_that_replaces_weights_continues_with_force(run: Path, trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "replaced"
    shutil.copytree(trained, folder)
    job = plan_training(str(run), "1", TrainingOptions("400steps", output=str(folder)))
    with pytest.raises(Interrupted, match=f"--resume {folder} --force`"):
        train_weights(job, overwrite=True, progress=interrupt_in("recheck"))
    assert load_weights(folder).training["steps"] != 400
    assert "replace them with --force" in refused("train", "--resume", folder)
    assert command("train", "--resume", folder, "--force").code == 0
    assert load_weights(folder).training["steps"] == 400


def test_a_damaged_state_is_discarded_with_force_only(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    job = plan_training(str(run), "1", TrainingOptions("400steps", output=str(folder)))
    with pytest.raises(Interrupted):
        train_weights(job, progress=interrupt_in("recheck"))
    (state,) = (tmp_path / "damaged.training").glob("state-*")
    (state / "state.json").write_text("{")
    again = ("train", run, "1", "--budget", "400steps", "-o", folder)
    result = command(*again)
    assert result.code == 2
    assert "train again with --force" in result.err
    assert state.exists()
    result = command(*again, "--force")
    assert result.code == 0, result.err
    assert "so the training begins again" in result.err
    assert load_weights(folder).training["steps"] == 400


def test_a_failure_of_the_device_keeps_the_saved_state(run: Path, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exhausted"
    job = plan_training(str(run), "1", TrainingOptions("2400steps", final_rate=0.1, output=str(folder)))

    def fail(progress: Progress) -> None:
        if progress.phase == "recheck":
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    with pytest.raises(WorkFailedError, match=f"out_of_memory.*continue with `primer-search train --resume {folder}`"):
        train_weights(job, progress=fail)
    assert command("train", "--resume", folder).code == 0
    assert same(arrays(folder), arrays(whole))


def test_a_setting_that_only_one_training_has_is_a_difference(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    with open_training_folder(weights, {"mixture": {"R": 0.5, "S": 0.5}}, discard=False):
        pass
    with (
        pytest.raises(UsageError, match="another S"),
        open_training_folder(weights, {"mixture": {"R": 0.5}}, discard=False),
    ):
        pass


def test_a_job_survives_json(run: Path) -> None:
    job = plan_training(str(run), "1", TrainingOptions("400steps", seed=3))
    assert TrainingJob.from_dict(job.folder, json.loads(json.dumps(job.to_dict()))) == job


# --- scales, budgets and further training -------------------------------------------------------------------------


def test_a_candidate_trains_at_another_scale(run: Path) -> None:
    result = command("train", run, "1", "--scale", "layers=6, unit=2,length=16,batch=2", "--budget", "0.3s", "--json")
    assert result.code == 0, result.err
    folder = run / "weights" / "1-layers=6,unit=2,length=16,batch=2"
    assert result.json["folder"] == str(folder)
    model = load_weights(folder).model
    assert (model.layers, model.unit, model.length) == (6, 2, 16)
    assert (result.json["budget"], result.json["budget_unit"]) == (0.3, "wall_seconds")
    assert result.json["tokens"] == result.json["steps"] * 2 * 16
    assert command("generate", folder, "--tokens", "3").code == 0


def test_weights_train_further_from_where_they_were(run: Path, trained: Path, tmp_path: Path) -> None:
    result = command("train", "--from", trained, "--budget", "200steps", "-o", tmp_path / "further", "--json")
    assert result.code == 0, result.err
    before, after = load_weights(trained), load_weights(tmp_path / "further")
    assert after.training["first_loss_nats"] == pytest.approx(before.training["loss_nats"], abs=1e-5)
    assert after.training["loss_nats"] < before.training["loss_nats"]
    assert after.training["learning_rate"] == pytest.approx(0.3 * before.training["learning_rate"])
    assert after.training["from"]["folder"] == str(trained)
    assert after.training["from"]["training"]["dataset_hash"] == after.training["dataset_hash"]
    assert after.tokenizer == before.tokenizer
    again = command("train", "--from", tmp_path / "further", "--budget", "10steps", "-o", tmp_path / "third", "--json")
    assert again.json["learning_rate"] == after.training["learning_rate"]  # not a share of a share
    assert again.json["candidate"] == 1


def test_with_no_steps_of_effect_the_weights_stay(trained: Path, tmp_path: Path) -> None:
    options = ("--scale", "learning_rate=1e-30", "--budget", "5steps", "-o", tmp_path / "same")
    assert command("train", "--from", trained, *options).code == 0
    assert same(arrays(tmp_path / "same"), arrays(trained))


def test_weights_that_moved_train_on_other_text_with_their_own_tokenizer(trained: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(trained, tmp_path / "moved")
    description = json.loads((moved / "model.json").read_text())
    description["training"] |= {"dataset": None, "dataset_hash": "0" * 64}
    (moved / "model.json").write_text(json.dumps(description))
    lost = command("train", "--from", moved, "--budget", "5steps")
    assert lost.code == 2
    assert "--data" in lost.err
    text = write_text(tmp_path / "text", 80)
    result = command("train", "--from", moved, "--data", f"text:{text}", "--budget", "30steps")
    assert result.code == 0, result.err
    after = load_weights(tmp_path / "moved-further")
    assert after.tokenizer == load_weights(trained).tokenizer
    assert after.training["data"] == f"text:{text}"
    assert after.training["loss_nats"] < after.training["first_loss_nats"]


def test_a_learning_rate_decays_along_a_cosine(run: Path, tmp_path: Path) -> None:
    """With a final rate of 1 the rate is not compiled; the decay changes the weights, by less towards the end."""
    plain, decayed = tmp_path / "plain", tmp_path / "decayed"
    for folder, share in ((plain, "1"), (decayed, "0")):
        assert command("train", run, "1", "--budget", "50steps", "--final-rate", share, "-o", folder).code == 0
    assert not same(arrays(plain), arrays(decayed))
    assert load_weights(decayed).training["final_rate"] == 0.0


# --- wrong usage --------------------------------------------------------------------------------------------------

WRONG_USAGE = {
    "no candidate": (["train", "{run}"], "name a run and a candidate"),
    "nothing": (["train"], "--from FOLDER"),
    "both": (["train", "{run}", "1", "--from", "{trained}"], "not both"),
    "other text for a candidate": (["train", "{run}", "1", "--data", "python-stdlib"], "--data is only for --from"),
    "an unknown folder": (["train", "--from", "nowhere"], "nowhere has no weights"),
    "a budget that is none": (["train", "--from", "{trained}", "--budget", "many"], "--budget: 'many'"),
    "another shape": (["train", "--from", "{trained}", "--scale", "layers=2"], "changes the shape"),
    "a scale that is none": (["train", "{run}", "1", "--scale", "layer=2"], "layers"),
    "a budget in the scale": (["train", "{run}", "1", "--scale", "layers=2,budget=5s"], "'budget' is not one of"),
    "no interrupted training": (["train", "--resume", "{run}"], "has no interrupted training"),
    "a finished training": (["train", "--resume", "{trained}"], "is finished"),
    "settings with --resume": (["train", "--resume", "{trained}", "--budget", "5s"], "its own settings"),
    "a time that is none": (["train", "{run}", "1", "--save-every", "often"], "--save-every: 'often'"),
    "a share above one": (["train", "{run}", "1", "--final-rate", "2"], "--final-rate"),
    "a folder that cannot be": (["train", "{run}", "1", "-o", "{trained}/model.json/x"], "cannot write"),
}


@pytest.mark.parametrize("case", WRONG_USAGE)
def test_wrong_usage_is_refused(case: str, run: Path, trained: Path) -> None:
    arguments, expected = WRONG_USAGE[case]
    assert expected in refused(*(each.format(run=run, trained=trained) for each in arguments))


def test_two_processes_do_not_train_the_same_weights(run: Path, tmp_path: Path) -> None:
    job = plan_training(str(run), "1", TrainingOptions("50steps", output=str(tmp_path / "one")))
    found: list[str] = []

    def second(progress: Progress) -> None:
        if not found and progress.phase == "train":
            found.append(refused("train", run, "1", "--budget", "50steps", "-o", tmp_path / "one"))

    train_weights(job, progress=second)
    assert "another process" in found[0]


def test_a_text_with_more_token_ids_than_the_weights_embed_is_refused(trained: Path, tmp_path: Path) -> None:
    weights = load_weights(trained)
    few = replace(weights.model, vocabulary=290)
    smaller = {**weights.parameters, "embedding": weights.parameters["embedding"][:290]}
    save_weights(tmp_path / "few", Weights(weights.dna, few, smaller, weights.tokenizer, weights.training))
    result = command("train", "--from", tmp_path / "few", "--budget", "5steps")
    assert result.code == 2
    assert "300 token ids" in result.err
    assert "embed 290" in result.err
