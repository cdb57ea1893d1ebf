"""The tokenizing stage: processes, kills, progress, memory; the bytes are always the same."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from primer_search.primitives.errors import UsageError
from primer_search.system.locks import lock_folder
from primer_search.workers.config import DataConfig
from primer_search.workers.data import corpus, dataset, dataset_builder
from primer_search.workers.data.dataset import Dataset, prepare_dataset

FILES = ("manifest.json", "tokenizer.json", "train.bin", "validation.bin", "test.bin")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 6 MB in 300 documents, some beyond ASCII."""
    root = tmp_path_factory.mktemp("text")
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdluéß", k=rng.randint(2, 9))) for _ in range(5000)]
    for number in range(300):
        (root / f"{number:03}.txt").write_text(" ".join(rng.choices(words, k=3000)), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a dataset made at one go."""
    return content(prepare_dataset(DataConfig(f"text:{folder}"), 600, tmp_path_factory.mktemp("cache"), processes=0))


def content(path: Path) -> dict[str, bytes]:
    assert sorted(file.name for file in path.iterdir()) == sorted(FILES)
    return {name: (path / name).read_bytes() for name in FILES}


PREPARE = """
import sys
from pathlib import Path
from primer_search.workers.config import DataConfig
from primer_search.workers.data import corpus
from primer_search.workers.data.dataset import prepare_dataset
corpus.PORTION_BYTES = 100_000
print(prepare_dataset(DataConfig(sys.argv[1]), 600, Path(sys.argv[2]), processes=int(sys.argv[3])), flush=True)
"""


def preparing(folder: Path, cache: Path, processes: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", PREPARE, f"text:{folder}", str(cache), str(processes)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("processes", [0, 2])
def test_a_killed_build_continues_and_gives_the_same_bytes(
    folder: Path, whole: dict[str, bytes], processes: int, tmp_path: Path
):
    """Killed at each stage: while copies are sought, after the tokenizer, amid the token ids."""
    for stage, least in (("sketches.json", 1), ("tokenizer.json", 1), ("train.bin", 300_000), ("train.bin", 1_500_000)):
        child = preparing(folder, tmp_path, processes)
        deadline = time.monotonic() + 120
        while not any(file.stat().st_size >= least for file in tmp_path.glob(f".*.partial/{stage}")):
            assert child.poll() is None and time.monotonic() < deadline, child.communicate()
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")], "a reader could see it"
    last = preparing(folder, tmp_path, processes)
    out, err = last.communicate(timeout=120)
    assert last.returncode == 0, err
    assert content(Path(out.strip())) == whole
    assert len(list(tmp_path.iterdir())) == 1


def test_after_a_kill_only_what_is_left_is_tokenized(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corpus, "PORTION_BYTES", 100_000)
    encoded: list[int] = []

    class Interrupting(dataset_builder.EncodeJob):
        def __call__(self):
            encoded.append(len(encoded))
            if len(encoded) == 31:
                raise KeyboardInterrupt
            return super().__call__()

    monkeypatch.setattr(dataset_builder, "EncodeJob", Interrupting)
    with pytest.raises(KeyboardInterrupt):
        prepare_dataset(DataConfig(f"text:{folder}"), 600, tmp_path, processes=0)
    portions = sum(1 for _ in corpus.TextCorpus.from_source(f"text:{folder}").portions())
    lines: list[str] = []
    prepare_dataset(DataConfig(f"text:{folder}"), 600, tmp_path, lines.append, processes=0)
    assert len(encoded) == portions + 1
    assert any("where an earlier build stopped" in line for line in lines)


@pytest.mark.parametrize("stage", ["file_sha256", "_publish"])
def test_a_build_killed_after_its_last_token_tokenizes_nothing_again(
    stage: str, folder: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def kill(*_: object):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(dataset, stage, kill)
        prepare_dataset(DataConfig(f"text:{folder}"), 600, tmp_path, processes=0)
    monkeypatch.setattr(dataset_builder.EncodeJob, "__call__", kill)
    assert content(prepare_dataset(DataConfig(f"text:{folder}"), 600, tmp_path, processes=0)) == whole


def test_leftovers_of_killed_builds_of_changed_text_are_deleted_unless_locked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    text, cache = tmp_path / "text", tmp_path / "cache"
    shutil.copytree(folder, text, ignore=lambda _, names: sorted(names)[20:])

    def prepare_changed(extra: str) -> None:
        (text / "extra.txt").write_text(extra * 3000)
        prepare_dataset(DataConfig(f"text:{text}"), 300, cache, processes=0)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(dataset, "_publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        prepare_changed("one ")
    (left,) = cache.iterdir()
    with lock_folder(left):
        prepare_changed("two ")
        assert left.exists()
    prepare_changed("three ")
    assert not [path for path in cache.iterdir() if path.name.startswith(".")]


def test_waiting_for_another_process_is_logged(folder: Path, tmp_path: Path):
    first = preparing(folder, tmp_path, 0)
    while not list(tmp_path.glob(".*.partial/sketches.json")):
        assert first.poll() is None
        time.sleep(0.01)
    lines: list[str] = []
    path = prepare_dataset(DataConfig(f"text:{folder}"), 600, tmp_path, lines.append, processes=0)
    assert any("another process prepares" in line for line in lines)
    assert Path(first.communicate(timeout=60)[0].strip()) == path


def test_the_bytes_do_not_depend_on_the_number_of_processes(folder: Path, whole: dict[str, bytes], tmp_path: Path):
    assert content(prepare_dataset(DataConfig(f"text:{folder}"), 600, tmp_path, processes=3)) == whole


def test_progress_tells_documents_speed_and_the_time_left(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(dataset_builder, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(corpus, "PORTION_BYTES", 1_000_000)
    lines: list[str] = []
    prepare_dataset(DataConfig(f"text:{folder}"), 600, tmp_path, lines.append, processes=0)
    told = [line for line in lines if line.startswith("tokenizing: ")]
    assert all(" of 300 documents, " in line and " MB/s, " in line and line.endswith(" left") for line in told)
    assert told[-1].startswith("tokenizing: 300 of 300 documents") and told[-1].endswith(" 0s left")


def test_text_that_changes_while_it_is_read_is_refused_and_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    text = tmp_path / "text"
    text.mkdir()
    for path in sorted(folder.iterdir())[:40]:
        (text / path.name).write_bytes(path.read_bytes())
    train = dataset_builder.Tokenizer.train

    def train_and_change(*arguments):
        (text / "000.txt").write_text("other words " * 3000)
        return train(*arguments)

    monkeypatch.setattr(dataset_builder.Tokenizer, "train", staticmethod(train_and_change))
    with pytest.raises(UsageError, match=r"data\.source .* changed while"):
        prepare_dataset(DataConfig(f"text:{text}"), 300, tmp_path / "cache", processes=0)
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path):
    program = PREPARE.replace("corpus.PORTION_BYTES = 100_000\n", "") + (
        "import re\n"
        "from pathlib import Path\n"
        "from resource import RUSAGE_CHILDREN, getrusage\n"
        # Not ru_maxrss of the process itself, which starts at the size of the process that forked it.
        "own = int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "print(own, getrusage(RUSAGE_CHILDREN).ru_maxrss)"
    )
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(50_000)]
    peaks = []
    for megabytes in (50, 400):
        path = tmp_path / f"{megabytes}.txt"
        with path.open("w") as file:
            for _ in range(megabytes):
                file.write(" ".join(rng.choices(words, k=154_000)) + "\n\n")
        arguments = [sys.executable, "-c", program, f"text:{path}", str(tmp_path / "cache"), "1"]
        result = subprocess.run(arguments, capture_output=True, text=True, check=True)
        peaks.append(sum(map(int, result.stdout.splitlines()[-1].split())) / 1024)
    assert peaks[1] < 1024, f"{peaks} MiB"
    assert peaks[1] < peaks[0] + 150, f"{peaks} MiB"


def test_a_dataset_built_by_the_default_processes_passes_verification(folder: Path, tmp_path: Path):
    path = prepare_dataset(DataConfig(f"text:{folder}"), 600, tmp_path)
    assert Dataset.open(path, verify=True).manifest["splits"]["train"]["documents"] > 200
