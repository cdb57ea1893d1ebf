"""README.md and docs/ agree with the code: tables, links and commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import primer_search
from primer_search.benchmarks.library_table import decode_results, library_markdown
from primer_search.cli.app import app
from primer_search.primitives.ops.op_formats import format_op_markdown
from primer_search.tests.test_architecture import PACKAGE_FILES

ROOT = Path(primer_search.__file__).parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"(?:^|[`/ ])(primer-search (?:[^`#\n\\]|\\\n)+)", re.MULTILINE)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands_in(page: Path) -> Iterator[str]:
    """Command lines in code, inline or in blocks, on one line each."""
    text = page.read_text(encoding="utf-8")
    code = re.findall(r"^```.*?^```|^(?: {4}[^\n]*\n)+|`[^`]+`", text, re.MULTILINE | re.DOTALL)
    for command in COMMAND.findall("\n".join(code)):
        yield " ".join(command.replace("\\\n", " ").split())


def refused_options(command: str) -> list[str]:
    """Options in a command line that the command does not have."""
    item: Any = typer.main.get_command(app)
    words = re.sub(r"[\[\]()]|\"[^\"]*\"", " ", command).split()[1:]
    while words and words[0] in getattr(item, "commands", {}):
        item = item.commands[words.pop(0)]
    known = {name for parameter in item.params for name in parameter.opts} | {"--help"}
    return [word for word in words if word.startswith("-") and len(word) > 1 and word.split("=")[0] not in known]


def test_the_table_of_primitives_is_the_op_table() -> None:
    assert format_op_markdown().strip() in (ROOT / "docs" / "primitives.md").read_text(encoding="utf-8")


def test_the_table_of_programs_is_the_library() -> None:
    assert library_markdown(decode_results()) in (ROOT / "docs" / "library.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_of_the_repository(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_use_options_that_exist(page: Path) -> None:
    wrong = {command: found for command in commands_in(page) if (found := refused_options(command))}
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_in_a_sentence_is_on_one_line(page: Path) -> None:
    text = re.sub(r"^```.*?^```|^\|.*?$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert not [code for code in re.findall(r"`[^`]+`", text) if "\n" in code]


def test_the_readme_shows_commands() -> None:
    commands = list(commands_in(ROOT / "README.md"))
    assert "primer-search --budget 24h --accel tpu" in commands
    assert len(commands) > 10


@pytest.mark.parametrize("page", [*PAGES, *PACKAGE_FILES], ids=name_of)
def test_nothing_advises_to_install_an_unpublished_name_from_an_index(page: Path) -> None:
    """Whoever registers the name on an index would own the machines of those who follow the page."""
    text = page.read_text(encoding="utf-8")
    assert not re.findall(
        r"(?:pip|uv|pipx)[^\n]* (?:install|add|download)[^\n]*?[ '\"]primer[-_]search(?![-_\d.\w])", text
    )


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 220
