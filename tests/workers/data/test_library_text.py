"""The built-in text: its documents, splits and place in the cache stay as they are, whatever is done for other text."""

from __future__ import annotations

import random
import sysconfig
from hashlib import sha256
from pathlib import Path

import pytest

from primer_search.workers.config import DataConfig
from primer_search.workers.data.corpus import TextCorpus
from primer_search.workers.data.dataset import Dataset, prepare_dataset
from primer_search.workers.data.splits import SPLITS

IDENTITY = "ee513e2260dbb629879e06830bba44a3"
FOLDER = "16b1f70c09ca08e40956ea2f"
"""Name of the folder of the dataset, which runs look for."""

TEXT = {
    "train": "2f2fa8f506e74897d7d0e9c0721576c10b8fcbb5a97ad84d4804588906a1f552",
    "validation": "d752a49bf9e77875bec9c0e31e2994081d9742c8590add70bb4eebac79df4790",
    "test": "54e6c369ff3e97abd75a5929b61aa16d6fe93286969de1d0161dc2947368e8a0",
}
"""Hashes of the decoded text of the splits."""


def write_library(root: Path) -> Path:
    """Write files as a standard library has them: long ones, near copies, tests, and bytes that are not text."""
    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(3000)]
    for number in range(80):
        count = 30_000 if number == 7 else draw.randint(50, 900)
        lines = [" ".join(draw.choices(words, k=9)) for _ in range(count // 9)]
        name = "os.py" if number == 0 else f"package{number % 4}/module{number}.py"
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if number % 10 == 3:
            (root / f"copy{number}.py").write_text("\n".join(lines) + "\n# a copy\n", encoding="utf-8")
    for folder in ("test", "site-packages", ".hidden", "__pycache__"):
        (root / folder).mkdir()
        (root / folder / "left_out.py").write_text("not read\n")
    (root / "latin.py").write_bytes("é".encode("latin-1"))
    (root / "_sysconfigdata_x.py").write_text("not read\n")
    (root / "notes.txt").write_text("not read\n")
    return root


def test_the_built_in_text_keeps_its_documents_splits_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_library(tmp_path / "library")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(root))
    dataset = Dataset.open(prepare_dataset(DataConfig(tokenizer_bytes=100_000), 400, tmp_path / "cache"))
    decode = dataset.tokenizer().decode
    texts = {split: decode(getattr(dataset, split).tolist()) for split in SPLITS}
    assert TextCorpus.from_source("python-stdlib").identity == IDENTITY
    assert dataset.path.name == FOLDER
    assert {split: sha256(text.encode()).hexdigest() for split, text in texts.items()} == TEXT
    assert "left_out" not in dataset.manifest
