"""Published sets through TensorFlow Datasets' own builders: LM1B from an archive of its layout, and sets by name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from primer_search.primitives.errors import UsageError
from primer_search.tests.support.command import command, refused
from primer_search.tests.support.lm1b_archive import sentences, write_archive
from primer_search.workers.config import DataConfig
from primer_search.workers.data import tfds_sets
from primer_search.workers.data.dataset import Dataset, check_source, prepare_dataset
from primer_search.workers.data.splits import SPLITS, is_held_out
from primer_search.workers.data.tfds_builder import LM1B_ARCHIVE, LM1B_URL
from primer_search.workers.data.tfds_sets import TfdsSet, load_set, locate_set
from primer_search.workers.data.tokenizer import END_OF_DOCUMENT

TRAIN, TEST = sentences(4000)[:3600], sentences(4000)[3600:]

needs_tensorflow = pytest.mark.skipif(
    find_spec("tensorflow") is None, reason="building a TFDS set needs the extra lm1b"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("published")


@pytest.fixture(scope="module")
def archive(home: Path) -> Path:
    return write_archive(home / "lookalike.tar.gz", TRAIN, TEST)


@pytest.fixture(scope="module")
def prepared(home: Path, archive: Path) -> tuple[Path, list[str]]:
    """The cache with LM1B prepared by the command, and what it said."""
    cache = home / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIMER_SEARCH_CACHE", str(cache))
        result = command(
            "data", "prepare", "lm1b", "--archive", archive, "--data-dir", home / "tfds", "--vocabulary", "500"
        )
    assert result.code == 0, result.err
    return cache / "data", [*result.err.splitlines(), *result.out.splitlines()]


def dataset_of(cache: Path, source: str = "lm1b", vocabulary: int = 500) -> Dataset:
    return Dataset.open(prepare_dataset(DataConfig(source), vocabulary, cache))


def texts_of(dataset: Dataset, split: str) -> list[str]:
    text = dataset.tokenizer().decode(getattr(dataset, split).tolist())
    return text.split(END_OF_DOCUMENT)[:-1]


@needs_tensorflow
class TestLM1B:
    def test_every_sentence_of_the_archive_is_in_its_split(self, prepared: tuple[Path, list[str]]):
        dataset = dataset_of(prepared[0])
        assert Counter(texts_of(dataset, "test")) == Counter(TEST)
        expected = {text: "validation" if is_held_out(text.encode()) else "train" for text in TRAIN}
        found = {text: split for split in ("train", "validation") for text in texts_of(dataset, split)}
        assert found == expected
        assert 0 < len(texts_of(dataset, "validation")) < 0.02 * len(TRAIN)

    def test_a_lookalike_never_passes_silently(self, prepared: tuple[Path, list[str]], home: Path):
        cache, said = prepared
        assert any("warning" in line and "NOT the published LM1B" in line for line in said)
        manifest = dataset_of(cache).manifest
        assert manifest["published"] is False
        assert manifest["archive"]["published"] is False
        assert len(manifest["archive"]["sha256"]) == 64
        assert not (home / "tfds" / "lm1b").exists(), "TFDS would take it for the benchmark"
        again: list[str] = []
        prepare_dataset(DataConfig("lm1b"), 500, cache, again.append)
        assert len(again) == 1 and "NOT the published LM1B" in again[0]

    def test_the_manifest_says_what_it_was_made_from(self, prepared: tuple[Path, list[str]]):
        manifest = dataset_of(prepared[0]).manifest
        assert manifest["source"] == "lm1b"
        assert manifest["set"].startswith("lm1b/1.")
        assert manifest["tfds_version"] and manifest["tokenizer_sha256"] and manifest["dataset_hash"]
        for split, texts in (("test", TEST),):
            facts = manifest["splits"][split]
            assert facts["documents"] == len(texts)
            assert facts["words"] == sum(len(text.split(" ")) + 1 for text in texts)
            assert facts["bytes"] == sum(len(text.encode()) for text in texts)

    def test_its_losses_are_given_as_perplexity_per_word(self, prepared: tuple[Path, list[str]]):
        perplexity = dataset_of(prepared[0]).nats_per_token_to_word_perplexity(2.0, "test")
        assert perplexity is not None and perplexity > 2.0

    def test_another_vocabulary_needs_no_building_again(self, prepared: tuple[Path, list[str]]):
        other = dataset_of(prepared[0], vocabulary=700)
        assert other.vocabulary == 700
        assert Counter(texts_of(other, "test")) == Counter(TEST)

    def test_reading_gives_what_tfds_gives(self, prepared: tuple[Path, list[str]]):
        found = load_set("lm1b", prepared[0])
        program = (
            "import json, sys, tensorflow_datasets as tfds\n"
            "from pathlib import Path\n"
            "from primer_search.workers.data.tfds_builder import read_texts\n"
            "files = json.loads(sys.argv[1])\n"
            "source = tfds.builder_from_directory(Path(files[0][0]).parent).as_data_source('test')\n"
            "theirs = [record['text'] for record in source]\n"
            "assert read_texts(files, 'text', 0, len(theirs)) == theirs\n"
            "assert read_texts(files, 'text', 17, 40) == theirs[17:40]\n"
            "assert 'tensorflow' not in sys.modules\n"
            "print(len(theirs))"
        )
        files = json.dumps(found.splits["test"]["files"])
        result = subprocess.run([sys.executable, "-c", program, files], capture_output=True, text=True, timeout=120)
        assert result.stdout.strip() == str(len(TEST)), result.stderr

    def test_training_imports_neither_tfds_nor_tensorflow(self, prepared: tuple[Path, list[str]], tmp_path: Path):
        program = (
            "import sys\n"
            "from primer_search.cli.app import main\n"
            "code = main(sys.argv[1:])\n"
            "print(code, *(name for name in ('tensorflow_datasets', 'tensorflow') if name in sys.modules))"
        )
        settings = [
            "model.unit=8",
            "model.layers=1",
            "model.length=16",
            "model.vocabulary=500",
            "search.baseline_trials=1",
        ]
        arguments = ["--data", "lm1b", "--config", "smoke", "--executor", "inline", "--budget", "25s", "--accel", "cpu"]
        overrides = [word for setting in settings for word in ("--set", setting)]
        run = tmp_path / "run"
        result = subprocess.run(
            [sys.executable, "-c", program, *arguments, *overrides, "--run-dir", str(run)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "PRIMER_SEARCH_CACHE": str(prepared[0].parent)},
        )
        assert result.stdout.splitlines()[-1] == "0", result.stderr
        assert "NOT the published LM1B" in result.stderr
        board = command("leaderboard", run, "--json").json
        assert board["baseline"]["word_perplexity"] > 1
        assert all("word_perplexity" in row for row in board["candidates"])
        assert "perplexity per word: baseline" in command("leaderboard", run).out
        assert "word perplexity" in command("show", run, "baseline").out

    def test_an_archive_of_another_layout_is_one_sentence_and_leaves_nothing(self, tmp_path: Path):
        other = tmp_path / "other.tar.gz"
        write_archive(other, (), ())
        with pytest.raises(UsageError, match=r"--archive .* cannot be built as LM1B .*" + LM1B_ARCHIVE) as caught:
            locate_set("lm1b", tmp_path / "cache", tmp_path / "tfds", other)
        assert str(tmp_path / "tfds") not in str(caught.value), "the scratch folder is an internal detail"
        assert [*(tmp_path / "tfds").iterdir(), *(tmp_path / "cache" / "sources").iterdir()] == []

    def test_records_and_their_note_are_all_that_building_leaves(self, prepared: tuple[Path, list[str]], home: Path):
        found = load_set("lm1b", prepared[0])
        folder = Path(found.splits["train"]["files"][0][0]).parent
        assert [path.name for path in folder.parent.parent.iterdir()] == ["lm1b"]
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]
        assert {path.suffix for path in folder.iterdir() if "array_record" not in path.name} == {".json"}
        assert [path.suffix for path in (prepared[0] / "sources").iterdir()] == [".json"]

    @pytest.mark.slow
    def test_a_build_killed_with_all_its_processes_starts_again_and_leaves_nothing(
        self, prepared: tuple[Path, list[str]], archive: Path, tmp_path: Path
    ):
        program = (
            "import sys\nfrom pathlib import Path\nfrom primer_search.workers.data.tfds_sets import locate_set\n"
            "cache, data_dir, archive = map(Path, sys.argv[1:])\nlocate_set('lm1b', cache, data_dir, archive)"
        )
        where = tmp_path / "cache", tmp_path / "tfds", archive
        child = subprocess.Popen([sys.executable, "-c", program, *where], start_new_session=True)
        while not list((tmp_path / "tfds").glob("*/.primer-search/extracted/*")):
            assert child.poll() is None
            time.sleep(0.05)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        found = locate_set("lm1b", *where)
        assert found.identity == load_set("lm1b", prepared[0]).identity
        assert [path.name for path in Path(found.splits["train"]["files"][0][0]).parents[2].iterdir()] == ["lm1b"]
        assert [path.suffix for path in (tmp_path / "cache" / "sources").iterdir()] == [".json"]

    def test_a_download_that_fails_names_the_archive_and_the_option(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # where nothing answers
        with pytest.raises(UsageError) as caught:
            locate_set("lm1b", tmp_path / "cache", tmp_path / "tfds")
        sentence = str(caught.value)
        assert LM1B_ARCHIVE in sentence and LM1B_URL in sentence and "--archive FILE" in sentence
        assert "\n" not in sentence


BUILDER = """
import sys
import numpy as np
import tensorflow_datasets as tfds

class TinyTales(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        text = tfds.features.Text
        features = {"title": text(), "body": text(), "number": tfds.features.Scalar(np.int64)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(name) for name in SPLITS}

    def _generate_examples(self, split):
        for number in range(SPLITS[split]):
            body = " ".join(f"{split}{number * 7 + n} said so" for n in range(60))
            yield number, {"title": f"{split} {number}", "body": body, "number": number}

SPLITS = {SPLITS}
TinyTales(data_dir=sys.argv[1], file_format=sys.argv[2]).download_and_prepare()
"""


def build_tales(data_dir: Path, splits: dict[str, int], file_format: str = "array_record") -> Path:
    data_dir.mkdir()
    program = data_dir.parent / "tiny_tales.py"
    program.write_text(BUILDER.replace("{SPLITS}", repr(splits)))
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command_line = [sys.executable, str(program), str(data_dir), file_format]
    result = subprocess.run(command_line, capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == 0, result.stderr
    return data_dir


@needs_tensorflow
class TestSetsByName:
    def test_a_set_keeps_its_own_splits(self, tmp_path: Path):
        build_tales(tmp_path / "tfds", {"train": 60, "validation": 5, "test": 7})
        locate_set("tfds:tiny_tales:body", tmp_path / "cache", tmp_path / "tfds")
        dataset = dataset_of(tmp_path / "cache", "tfds:tiny_tales:body", 300)
        assert {split: dataset.manifest["splits"][split]["documents"] for split in SPLITS} == {
            "train": 60,
            "validation": 5,
            "test": 7,
        }
        assert all(text.startswith("validation") for text in texts_of(dataset, "validation"))
        assert dataset.manifest["published"] is True
        assert dataset.nats_per_token_to_word_perplexity(1.0, "test") is None

    def test_a_set_with_train_alone_is_split_by_document(self, tmp_path: Path):
        build_tales(tmp_path / "tfds", {"train": 150})
        found = locate_set("tfds:tiny_tales:body", tmp_path / "cache", tmp_path / "tfds")
        assert set(found.splits) == {"train"}
        dataset = dataset_of(tmp_path / "cache", "tfds:tiny_tales:body", 300)
        texts = [text for split in SPLITS for text in texts_of(dataset, split)]
        assert len(texts) == len(set(texts)) == 150
        assert all(texts_of(dataset, split) for split in SPLITS)
        assert len(texts_of(dataset, "train")) > 140

    def test_a_set_of_very_many_files_is_found(self, tmp_path: Path):
        """Its description is longer than a pipe holds."""
        folder = build_tales(tmp_path / "tfds", {"train": 20}) / "tiny_tales" / "1.0.0"
        (only,) = folder.glob("*-train.array_record-*")
        described = json.loads((folder / "dataset_info.json").read_text())
        described["splits"][0]["shardLengths"] = ["20"] * 2000
        (folder / "dataset_info.json").write_text(json.dumps(described))
        for number in range(2000):
            os.link(only, folder / f"tiny_tales-train.array_record-{number:05}-of-02000")
        found = locate_set("tfds:tiny_tales:body", tmp_path / "cache", tmp_path / "tfds")
        assert len(found.splits["train"]["files"]) == 2000
        assert found.splits["train"]["documents"] == 40_000

    def test_a_set_located_once_is_found_again_without_its_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        build_tales(tmp_path / "tfds", {"train": 20})
        source, cache = "tfds:tiny_tales:body", tmp_path / "cache"
        found = locate_set(source, cache, tmp_path / "tfds")
        with monkeypatch.context() as patch:
            patch.setattr(tfds_sets, "run_builder", lambda *_: pytest.fail("TFDS is not needed"))
            lines: list[str] = []
            assert locate_set(source, cache, log=lines.append) == found
        assert str(tmp_path / "tfds") in lines[0]
        Path(found.splits["train"]["files"][0][0]).unlink()
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "empty"))
        with pytest.raises(UsageError, match="tiny_tales as array_record"):
            locate_set(source, cache)

    def test_damaged_records_are_one_sentence(self, tmp_path: Path):
        build_tales(tmp_path / "tfds", {"train": 200})
        found = locate_set("tfds:tiny_tales:body", tmp_path / "cache", tmp_path / "tfds")
        path = Path(found.splits["train"]["files"][0][0])
        path.write_bytes(path.read_bytes()[:3000])
        with pytest.raises(UsageError, match=rf"{path.name} is damaged .*data prepare"):
            dataset_of(tmp_path / "cache", "tfds:tiny_tales:body", 300)

    def test_a_set_without_text_is_refused_before_it_is_downloaded(self, tmp_path: Path):
        with pytest.raises(UsageError, match=r"tfds:mnist .*image, label"):
            locate_set("tfds:mnist", tmp_path / "cache", tmp_path / "tfds")

    def test_which_text_to_read_must_be_clear(self, tmp_path: Path):
        build_tales(tmp_path / "tfds", {"train": 20})
        for source in ("tfds:tiny_tales", "tfds:tiny_tales:number", "tfds:tiny_tales:nothing"):
            with pytest.raises(UsageError, match=r"title, body|body, title"):
                locate_set(source, tmp_path / "cache", tmp_path / "tfds")

    def test_a_set_in_another_format_says_so(self, tmp_path: Path):
        build_tales(tmp_path / "tfds", {"train": 20}, "tfrecord")
        with pytest.raises(UsageError, match=r"as array_record .*another --data-dir"):
            locate_set("tfds:tiny_tales:body", tmp_path / "cache", tmp_path / "tfds")

    def test_a_set_that_does_not_exist_is_one_sentence(self, tmp_path: Path):
        with pytest.raises(UsageError, match=r"tiny_sagas .*correct the name") as caught:
            locate_set("tfds:tiny_sagas", tmp_path / "cache", tmp_path / "tfds")
        assert "\n" not in str(caught.value)

    def test_missing_records_name_the_command_to_run(self, tmp_path: Path):
        build_tales(tmp_path / "tfds", {"train": 20, "validation": 2, "test": 2})
        found = locate_set("tfds:tiny_tales:body", tmp_path / "cache", tmp_path / "tfds")
        Path(found.splits["train"]["files"][0][0]).unlink()
        with pytest.raises(UsageError, match=r"array_record.* run `primer-search data prepare tfds:tiny_tales:body`"):
            dataset_of(tmp_path / "cache", "tfds:tiny_tales:body", 300)


class TestBeforePreparing:
    @pytest.mark.parametrize("source", ["lm1b", "tfds:wiki40b/en", "tfds:wiki40b/en:text"])
    def test_a_source_that_is_not_prepared_says_what_to_run(
        self, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("PRIMER_SEARCH_CACHE", str(tmp_path))
        with pytest.raises(UsageError, match=f"run `primer-search data prepare {source}` first"):
            check_source(source)
        assert f"data prepare {source}" in refused("--data", source, "--budget", "1m", "--config", "smoke")

    @pytest.mark.parametrize("source", ["tfds:", "tfds:../etc", "tfds:a b", "tfds:name:", "lm1b:text"])
    def test_a_malformed_name_is_refused(self, source: str, tmp_path: Path):
        with pytest.raises(UsageError, match=r"data\.source"):
            prepare_dataset(DataConfig(source), 300, tmp_path)

    def test_options_for_other_sources_are_refused(self, tmp_path: Path):
        assert "--archive is for lm1b" in refused("data", "prepare", "python-stdlib", "--archive", tmp_path)
        assert "--data-dir is for lm1b" in refused("data", "prepare", "python-stdlib", "--data-dir", tmp_path)
        assert "--archive is for lm1b" in refused("data", "prepare", "tfds:x", "--archive", tmp_path)
        assert "none.tar.gz is not a file" in refused("data", "prepare", "lm1b", "--archive", tmp_path / "none.tar.gz")

    def test_another_archive_is_another_identity(self):
        facts = {"files": [["a", 5]], "bytes": 10, "documents": 5}
        made = [
            TfdsSet(
                "lm1b", "lm1b/1.1.0", "4.9", "text", {"name": "a", "sha256": sha, "published": True}, {"train": facts}
            )
            for sha in ("1" * 64, "2" * 64)
        ]
        assert made[0].identity != made[1].identity

    def test_without_tensorflow_one_sentence_says_what_to_install(self, tmp_path: Path):
        program = (
            "import sys\n"
            "from importlib.machinery import PathFinder\n"
            "find = PathFinder.find_spec\n"
            "PathFinder.find_spec = lambda name, *rest: None if name == 'tensorflow' else find(name, *rest)\n"
            "from primer_search.workers.data.tfds_builder import build_set\n"
            "from primer_search.primitives.errors import UsageError\n"
            "try:\n    build_set('lm1b', sys.argv[1], None)\n"
            "except UsageError as error:\n    print(error)"
        )
        result = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=120
        )
        assert result.stdout.strip().endswith("`pip install tensorflow importlib_resources`"), result.stderr
