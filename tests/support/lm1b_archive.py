"""A small archive in the layout of the One Billion Word benchmark, its sentences from the standard library's prose."""

from __future__ import annotations

import io
import re
import tarfile
from functools import cache
from pathlib import Path

from primer_search.workers.data.text_sources import read_documents

TOP = "1-billion-word-language-modeling-benchmark-r13output"
TRAIN = f"{TOP}/training-monolingual.tokenized.shuffled/news.en-{{:05}}-of-00100"
HELD_OUT = f"{TOP}/heldout-monolingual.tokenized.shuffled/news.en.heldout-{{:05}}-of-00050"


@cache
def sentences(count: int) -> tuple[str, ...]:
    """So many different sentences, their words and signs between spaces as in the benchmark."""
    found: dict[str, None] = {}
    for document in read_documents("python-stdlib"):
        for text in re.findall(r"[A-Z][a-z]+ [^\n\"#.]{30,160}\.", document.text):
            found[" ".join(re.findall(r"\w+|[^\w\s]", text))] = None
        if len(found) >= count:
            return tuple(found)[:count]
    raise AssertionError("the library has too little prose")


def write_archive(path: Path, train: tuple[str, ...], test: tuple[str, ...]) -> Path:
    """Write an archive with the train sentences in three files and the test sentences in two."""
    with tarfile.open(path, "w:gz") as archive:
        for pattern, lines, parts, first in ((TRAIN, train, 3, 1), (HELD_OUT, test, 2, 0)):
            for part in range(parts):
                content = "".join(f"{line}\n" for line in lines[part::parts]).encode()
                member = tarfile.TarInfo(pattern.format(part + first))
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path
