"""Checkpoints: exact round trips in both formats, and refusal of damaged files."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import primer_search
from primer_search.models.checkpoint import Weights, grow_vocabulary, load_weights, save_weights
from primer_search.models.checkpoint_files import FileFormat, flatten
from primer_search.primitives import UsageError
from primer_search.primitives.programs.assembler import assemble
from primer_search.primitives.programs.library import get
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.tests.support.tiny_runs import BASELINE
from primer_search.tests.support.tiny_weights import SHAPE, drawn_weights

PACKAGE = Path(primer_search.__file__).parent
FORMS: tuple[FileFormat, ...] = ("safetensors", "orbax")
PRIMER_EZ = get("PRIMER_EZ", 2)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "12"
    save_weights(folder, drawn_weights(BASELINE, candidate=12))
    return folder


def same_arrays(found: Weights, wanted: Weights) -> bool:
    ours, theirs = flatten(found.parameters), flatten(wanted.parameters)
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == array.dtype and np.array_equal(ours[name], array) for name, array in theirs.items()
    )


@pytest.mark.parametrize("form", FORMS)
def test_both_formats_give_back_exactly_what_was_saved(form: FileFormat, saved: Path) -> None:
    wanted = drawn_weights(BASELINE, candidate=12)
    found = load_weights(saved, form, dna=BASELINE)
    assert same_arrays(found, wanted)
    assert (found.dna, found.model, found.tokenizer) == (wanted.dna, wanted.model, wanted.tokenizer)
    assert found.training == {"candidate": 12}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["TRANSFORMER", "PRIMER_EZ"])
def test_names_with_dots_of_their_own_survive(name: str, form: FileFormat, tmp_path: Path) -> None:
    wanted = drawn_weights(get(name, 2), replace(SHAPE, unit=2))
    save_weights(tmp_path / "w", wanted)
    assert same_arrays(load_weights(tmp_path / "w", form), wanted)


@pytest.mark.parametrize("form", FORMS)
def test_a_program_without_parameters_has_weights(form: FileFormat, tmp_path: Path) -> None:
    still = assemble({"main": "bent = TANH h0"}, {"zero": 0.0}, (8,))
    save_weights(tmp_path / "w", drawn_weights(still))
    assert load_weights(tmp_path / "w", form).parameters["blocks"] == {}


@pytest.mark.parametrize(
    ("present", "gone"), [("model.safetensors", "checkpoint"), ("checkpoint", "model.safetensors")]
)
def test_either_format_is_enough(present: str, gone: str, saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "w")
    shutil.rmtree(folder / gone) if (folder / gone).is_dir() else (folder / gone).unlink()
    assert (folder / present).exists()
    assert same_arrays(load_weights(folder), drawn_weights(BASELINE))


def test_weights_are_replaced_only_with_overwrite_and_no_temporary_folder_is_left(tmp_path: Path) -> None:
    first, second = drawn_weights(BASELINE, seed=1), drawn_weights(BASELINE, seed=2)
    save_weights(tmp_path / "w", first)
    with pytest.raises(UsageError, match="--force"):
        save_weights(tmp_path / "w", second)
    assert same_arrays(load_weights(tmp_path / "w"), first)
    save_weights(tmp_path / "w", second, overwrite=True)
    assert same_arrays(load_weights(tmp_path / "w"), second)
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_a_failed_save_leaves_the_existing_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_weights(tmp_path / "w", drawn_weights(BASELINE, seed=1))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save", full)
    with pytest.raises(UsageError, match="No space left"):
        save_weights(tmp_path / "w", drawn_weights(BASELINE, seed=2), overwrite=True)
    assert same_arrays(load_weights(tmp_path / "w"), drawn_weights(BASELINE, seed=1))
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def rewrite(path: Path, change: Callable[[dict], None]) -> None:
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


DAMAGE: dict[str, tuple[Callable[[Path], object], FileFormat, str]] = {
    "no folder": (shutil.rmtree, "safetensors", "no model.json"),
    "no description": (lambda w: (w / "model.json").unlink(), "safetensors", "no model.json"),
    "a torn description": (lambda w: truncate(w / "model.json"), "safetensors", "not a JSON text"),
    "another format": (
        lambda w: rewrite(w / "model.json", lambda facts: facts.update(format=9)),
        "safetensors",
        "format is 9, but must be 1",
    ),
    "an invalid program": (
        lambda w: rewrite(w / "model.json", lambda facts: facts["dna"].pop("constants")),
        "safetensors",
        "model.json is damaged (dna: ",
    ),
    "a width that is a string": (
        lambda w: rewrite(w / "model.json", lambda facts: facts["model"].update(unit="wide")),
        "safetensors",
        "model.unit",
    ),
    "a model of another width": (
        lambda w: rewrite(w / "model.json", lambda facts: facts["model"].update(unit=2)),
        "safetensors",
        "embedding is [300, 8], but must be [300, 16]",
    ),
    "a model of more layers": (
        lambda w: rewrite(w / "model.json", lambda facts: facts["model"].update(layers=3)),
        "orbax",
        "is [2, 8, 8], but must be [3, 8, 8]",
    ),
    "a program of other parameters": (
        lambda w: rewrite(
            w / "model.json", lambda facts: facts.update(dna=json.loads(dna_to_json(get("TRANSFORMER", 1))))
        ),
        "safetensors",
        "does not fit the program",
    ),
    "a torn safetensors file": (lambda w: truncate(w / "model.safetensors"), "safetensors", "is damaged"),
    "no safetensors file": (
        lambda w: (w / "model.safetensors").unlink(),
        "safetensors",
        "model.safetensors is missing",
    ),
    "no checkpoint": (lambda w: shutil.rmtree(w / "checkpoint"), "orbax", "checkpoint is missing"),
    "a torn checkpoint": (
        lambda w: truncate(next((w / "checkpoint" / "state" / "d").iterdir())),
        "orbax",
        "is damaged",
    ),
    "a checkpoint with a hole": (
        lambda w: next((w / "checkpoint" / "state" / "d").iterdir()).unlink(),
        "orbax",
        "missing or unreadable",
    ),
    "a changed tokenizer": (lambda w: truncate(w / "tokenizer.json"), "safetensors", "tokenizer.json is damaged"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_weights_are_refused_with_one_sentence(case: str, saved: Path, tmp_path: Path) -> None:
    damage, form, hint = DAMAGE[case]
    damage(shutil.copytree(saved, tmp_path / "w"))
    with pytest.raises(UsageError) as refusal:
        load_weights(tmp_path / "w", form)
    assert hint in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_weights_of_another_program_are_refused(saved: Path) -> None:
    with pytest.raises(UsageError, match="of another program"):
        load_weights(saved, dna=PRIMER_EZ)


def test_no_module_with_weights_can_unpickle() -> None:
    loaders = re.compile(r"pickle|marshal|joblib|shelve|torch|np\.load|numpy\.load|allow_pickle|eval\(|exec\(")
    files = ("checkpoint", "checkpoint_files", "export/load_into_modules", "generation")
    for name in (
        *(f"models/{file}.py" for file in files),
        "search/weights/train_weights.py",
        "search/one_program/export_block.py",
    ):
        code = (PACKAGE / name).read_text().replace("nothing is unpickled", "")
        assert not loaders.search(code), name


def test_a_vocabulary_grows_by_rows_drawn_as_at_the_start(tmp_path: Path) -> None:
    before = drawn_weights(PRIMER_EZ, replace(SHAPE, unit=2))
    grown = grow_vocabulary(before, 3_300, seed=4)
    old, new = before.parameters["embedding"], grown.parameters["embedding"]
    np.testing.assert_array_equal(new[:300], old)
    assert new.dtype == old.dtype and new[300:].std() == pytest.approx(16**-0.5, rel=0.02)
    np.testing.assert_array_equal(grow_vocabulary(before, 3_300, seed=4).parameters["embedding"], new)
    assert grow_vocabulary(before, 300, seed=4) is before and len(old) == 300
    save_weights(tmp_path / "w", grown)
    assert same_arrays(load_weights(tmp_path / "w"), grown) and grown.model.vocabulary == 3_300
