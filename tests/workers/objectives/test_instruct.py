"""Instruction tuning: examples are read, split, mixed and packed, and none is lost or seen by mistake."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from primer_search.models.training_batch import TrainingBatch
from primer_search.primitives.errors import UsageError
from primer_search.workers.objectives.examples import Example, held_out_examples, read_examples
from primer_search.workers.objectives.instruct import InstructObjective, instruct_objective
from primer_search.workers.objectives.mixture import TaskMixture
from primer_search.workers.objectives.objective import Objective
from primer_search.workers.objectives.packing import fit_example, pack

END = 256
LENGTH, BATCH = 48, 4


class Characters:
    """A tokenizer of bytes."""

    end_of_document = END

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The bytes of each text."""
        return [list(text.encode()) for text in texts]


def write(path: Path, rows: Sequence[Any]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def sums(count: int) -> list[dict[str, str]]:
    """Different small examples."""
    return [{"inputs": f"{number} and {number + 7}: ", "targets": f"{2 * number + 7}"} for number in range(count)]


def objective(paths: Sequence[Path], seed: int = 0, **settings: Any) -> InstructObjective:
    """The objective of some files."""
    given: dict[str, Any] = {"batch": BATCH, "length": LENGTH, "seed": seed, "held_out_batches": 3} | settings
    return instruct_objective(paths, Characters(), 257, **given)


def texts_in(batch: TrainingBatch) -> list[tuple[str, str]]:
    """The inputs and targets of all examples of a batch, and a check of its other arrays."""
    assert batch.segment_ids is not None and batch.weights is not None
    found = []
    for tokens, ids, weights in zip(batch.tokens, batch.segment_ids, batch.weights, strict=True):
        assert not weights[(ids[1:] != ids[:-1]) | (ids[1:] == 0)].any(), "no target is predicted by another text"
        for number in range(1, ids.max() + 1):
            places = np.flatnonzero(ids == number)
            of_text = weights[places[:-1]]
            split = int(of_text.argmax()) + 1
            assert (of_text[split - 1 :] == 1).all() and tokens[places[-1]] == END
            text = tokens[places].tolist()
            found.append((bytes(text[:split]).decode(), bytes(text[split:-1]).decode()))
    return found


def test_an_epoch_has_every_training_example_once(tmp_path: Path) -> None:
    examples = sums(230)
    mixed: Objective = objective([write(tmp_path / "sums.jsonl", examples)])
    held_out = [text for batch in mixed.held_out() for text in texts_in(batch)]
    seen, step = Counter[tuple[str, str]](), 0
    while mixed.epochs_seen(step + 1) <= 1:
        seen.update(texts_in(mixed.batch_at(step)))
        step += 1
    rest = [texts_in(mixed.batch_at(step + more)) for more in range(2)]
    assert max(seen.values()) == 1 and not set(held_out) & set(seen)
    everything = Counter((example["inputs"], example["targets"]) for example in examples)
    missing = everything - seen - Counter(held_out)
    assert set(missing) <= set(rest[0]), "the last batch of the epoch has the others"
    assert len(held_out) == mixed.counts.held_out and 10 <= len(held_out) <= 40  # type: ignore[attr-defined]
    assert not mixed.notes and mixed.vocabulary == 257


def test_a_batch_depends_on_seed_and_step_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "sums.jsonl", sums(60))
    forward = [objective([path]).batch_at(step) for step in range(30)]
    mixed = objective([path])
    for step in (29, 0, 17, 3):
        for one, other in zip(jax.tree.leaves(mixed.batch_at(step)), jax.tree.leaves(forward[step]), strict=True):
            np.testing.assert_array_equal(one, other)
    assert mixed.epochs_seen(29) > 3
    assert not np.array_equal(objective([path], seed=1).batch_at(0).tokens, forward[0].tokens)
    held_out, of_another_seed = (objective([path], seed=seed).held_out() for seed in (0, 1))
    for one, other in zip(jax.tree.leaves(held_out), jax.tree.leaves(of_another_seed), strict=True):
        np.testing.assert_array_equal(one, other)
    assert {batch.tokens.shape for batch in held_out} == {(BATCH, LENGTH + 1)}


def test_a_prefix_covers_the_inputs_of_each_example(tmp_path: Path) -> None:
    path = write(tmp_path / "sums.jsonl", sums(60))
    batch = objective([path], prefix=True).batch_at(0)
    assert batch.prefix is not None and batch.weights is not None and batch.segment_ids is not None
    predicted = np.pad(batch.weights == 1, [(0, 0), (1, 0)])
    np.testing.assert_array_equal(batch.prefix, (batch.segment_ids > 0) & ~predicted)


def test_long_examples_are_cut_on_the_left_of_their_inputs_and_counted(tmp_path: Path) -> None:
    examples = [*sums(40), {"inputs": "x" * 100, "targets": "yes"}, {"inputs": "ab", "targets": "z" * 90}]
    mixed = objective([write(tmp_path / "long.jsonl", examples)])
    assert (mixed.counts.inputs_cut, mixed.counts.targets_cut) == (2, 1)
    first, second = mixed.notes
    assert first == "2 of 42 examples are longer than 49 tokens: their inputs lose their first tokens"
    assert second == "in 1 of them, the targets alone are too long: they lose their last tokens"


@pytest.mark.parametrize(
    ("inputs", "targets", "tokens", "kept", "lost"),
    [
        ([1, 2, 3], [4, 5], [1, 2, 3, 4, 5, 9], 3, (0, 0)),
        ([1, 2, 3, 4, 5], [6, 7], [3, 4, 5, 6, 7, 9], 3, (2, 0)),
        ([1, 2], [3, 4, 5, 6, 7, 8], [2, 3, 4, 5, 6, 7], 1, (1, 2)),
        ([], [3], [9, 3, 9], 1, (0, 0)),
    ],
)
def test_an_example_fits_into_a_sequence(
    inputs: list[int], targets: list[int], tokens: list[int], kept: int, lost: tuple[int, int]
) -> None:
    example, *found = fit_example(inputs, targets, 9, room=6)
    assert (example.tokens.tolist(), example.inputs, tuple(found)) == (tokens, kept, lost)


def test_packing_loses_no_example_and_leaves_little_room(rng: np.random.Generator) -> None:
    sizes = rng.integers(2, 65, size=3_000).tolist()
    sequences = pack(sizes, 64)
    assert sorted(index for members in sequences for index in members) == list(range(3_000))
    filled = [sum(sizes[index] for index in members) for members in sequences]
    assert max(filled) <= 64 and sum(filled) > 0.9 * 64 * len(sequences)


def test_caps_and_shares_decide_how_often_a_task_is_drawn() -> None:
    tasks = ["big"] * 50 + ["small"] * 5
    capped = TaskMixture(tasks, cap=10, shares=None, seed=0)
    assert capped.draws == {"big": 10, "small": 5}
    big = [index for epoch in range(5) for index in capped.epoch(epoch) if index < 50]
    assert sorted(big) == list(range(50)), "five epochs of ten draws go through all fifty"
    shared = TaskMixture(tasks, cap=1_000, shares={"big": 1, "small": 3}, seed=0)
    assert shared.draws == {"big": 14, "small": 41}
    counts = np.bincount(shared.epoch(3), minlength=55)
    assert counts[:50].sum() == 14 and set(counts[50:]) <= {7, 8, 9}
    for settings, message in (
        ({"cap": 0, "shares": None}, "the cap of examples per task is 0"),
        ({"cap": 9, "shares": {"big": 1.0}}, "the shares lack task small: give a share of every task"),
        ({"cap": 9, "shares": {"bog": 1.0}}, "there is no task 'bog' in the examples: choose among big, small"),
        ({"cap": 9, "shares": {"big": -1.0, "small": 1}}, "the share of task big is -1"),
        ({"cap": 9, "shares": {"big": 0, "small": 0}}, "the shares of all tasks are 0"),
    ):
        with pytest.raises(UsageError, match=message):
            TaskMixture(tasks, seed=0, **settings)  # type: ignore[arg-type]


def test_tasks_are_named_in_the_line_or_after_the_file(tmp_path: Path) -> None:
    rows = [{"inputs": "a", "targets": "b", "more": 1}, {"inputs": "", "targets": "é", "task": "own"}]
    path = write(tmp_path / "sums.jsonl", rows)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\n\n")
    assert read_examples([path]) == [Example("a", "b", "sums"), Example("", "é", "own")]


def test_a_tenth_is_held_out_by_inputs() -> None:
    examples = [Example(f"input {number // 2}", str(number), "t") for number in range(20_000)]
    held_out = held_out_examples(examples)
    assert held_out.mean() == pytest.approx(0.1, abs=0.01)
    np.testing.assert_array_equal(held_out[::2], held_out[1::2])
    assert held_out_examples([Example("a", "1", "t"), Example("b", "1", "t")]).sum() == 1
    with pytest.raises(UsageError, match="all examples have the same inputs"):
        held_out_examples([Example("a", "1", "t"), Example("a", "2", "t")])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "the line is not JSON"),
        (b"\xff{}", "the line is not UTF-8"),
        (b"[1]", "the line is not a JSON object"),
        (b'{"inputs": "a"}', "'targets' is missing"),
        (b'{"inputs": 3, "targets": "b"}', "'inputs' is not text"),
        (b'{"inputs": "\\ud800", "targets": "b"}', "'inputs' is not text"),
        (b'{"inputs": "a", "targets": ""}', "'targets' is empty"),
        (b'{"inputs": "a", "targets": "b", "task": null}', "'task' is not text"),
        (b"[" * 100_000, "the line is not JSON"),
    ],
)
def test_a_bad_line_is_named(line: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"inputs": "a", "targets": "b"}\n\n' + line + b"\n")
    with pytest.raises(UsageError) as refusal:
        read_examples([path])
    assert f"bad.jsonl, line 3: {problem}" in str(refusal.value) and "\n" not in str(refusal.value)


def test_files_without_examples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none.jsonl cannot be read \(No such file or directory\)"):
        read_examples([tmp_path / "none.jsonl"])
    with pytest.raises(UsageError, match="there are no examples in"):
        read_examples([write(tmp_path / "empty.jsonl", [])])
