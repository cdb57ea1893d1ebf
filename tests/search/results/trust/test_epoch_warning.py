"""How often a text is read: what a run says before it trains, and its leaderboard after."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from primer_search.configs import load
from primer_search.primitives.programs import library
from primer_search.search.reports.phrases import format_epochs
from primer_search.search.results.trust.epoch_warning import epoch_warning
from primer_search.workers.protocol import Platform


@pytest.mark.parametrize(
    ("preset", "platform", "tokens", "words"),
    [
        ("gpu", "gpu", 3_400_000, "a full trial at more than 45,333 tokens per second reads it more than 4 times"),
        ("gpu", "gpu", 300_000_000, ""),
        ("laptop", "cpu", 4_400_000, ""),
        ("laptop", "cpu", 20_000, "a full trial reads it 25.6 times"),
        ("smoke", "cpu", 100, "a full trial reads it"),
        ("smoke", "cpu", 10_000_000, ""),
    ],
)
def test_a_text_too_small_for_its_trials_is_pointed_out_before_they_train(
    preset: str, platform: Platform, tokens: int, words: str
) -> None:
    config = load(preset)
    note = epoch_warning(config, library.get("TRANSFORMER", config.model.unit), tokens, platform)
    assert words in note
    assert bool(words) == bool(note)


def test_steps_say_exactly_how_often() -> None:
    config = load("smoke")
    config = replace(config, trial=replace(config.trial, budget_steps=100, batch=10))
    note = epoch_warning(config, library.get("TRANSFORMER", 2), 20 * 10 * config.model.length, "cpu")
    assert "a full trial reads it 5.0 times" in note


def test_a_leaderboard_says_how_often_the_text_was_read() -> None:
    def rows(*epochs: float) -> Any:
        return [SimpleNamespace(rank=1, epochs=found) for found in epochs] + [SimpleNamespace(rank=None, epochs=99.0)]

    assert format_epochs(rows(0.321, 0.2)) == "0.32 epochs in a full training"
    assert format_epochs(rows(4.0)) == "4 epochs in a full training"
    assert format_epochs(rows(17.2)).startswith(
        "17 epochs in a full training: after more than 4, losses measure memorization"
    )
    assert format_epochs(rows()) == ""
