"""The benchmark of docs/block_to_model.md reads its commands, and how to continue a training."""

from __future__ import annotations

from primer_search.benchmarks.block_to_model import PAGE, page_commands, resume_command


def test_the_commands_of_the_page_are_read_in_their_order() -> None:
    page = PAGE.read_text(encoding="utf-8")
    commands = page_commands(page)
    verbs = [command.split()[1] for command in commands]
    assert verbs[1:] == [
        "train", "analyze", "refine", "train", "examples/docstring_examples.py", "train", "generate",
    ]  # fmt: skip
    assert "-o model" in commands[1]
    assert resume_command(page) == "primer-search train --resume model"
