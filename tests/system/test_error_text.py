"""One line from errors and output."""

from __future__ import annotations

from primer_search.system.error_text import error_summary, first_line, last_line


def test_lines_are_the_first_and_the_last_that_are_not_blank():
    text = "\n  \n one \ntwo\n\n"
    assert (first_line(text), last_line(text)) == ("one", "two")
    assert (first_line(" \n"), last_line("")) == ("", "")


def test_an_error_without_a_message_is_its_type():
    assert error_summary(ValueError()) == "ValueError"
