"""How fast text becomes token ids, in megabytes of text a second of CPU time, each step by itself and all together.

    python benchmarks/tokenizing.py [--megabytes 64] [--vocabulary 32768] [--source text:PATH] [--json]

CPU seconds of one process, not wall clock: a shared machine slows the wall, and the steps run on as many cores as there
are. Two kinds of documents: files as they are, and sentences about as long as LM1B's 139 bytes. Steps are those of
`data prepare`: `copies` (sketches that keep near copies in one split; a key alone for sentences), `words` counted,
`ids` (the tokenizer) and, to compare, `library` (the `tokenizers` library by itself).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import time
from collections.abc import Callable
from importlib.metadata import version

from primer_search.workers.data.near_duplicates import sketches, text_key
from primer_search.workers.data.preprocessing_jobs import count_words
from primer_search.workers.data.text_sources import read_documents
from primer_search.workers.data.tokenizer import Tokenizer

SENTENCE_BYTES = 139


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=64.0)
    parser.add_argument("--vocabulary", type=int, default=32_768)
    parser.add_argument("--source", default="python-stdlib")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # as in the processes of `data prepare`, each of them a core's worth
    files = take(arguments.source, int(arguments.megabytes * 1e6))
    tokenizer = Tokenizer.train((content.decode() for content in files), arguments.vocabulary)
    result = {
        "python": platform.python_version(),
        "tokenizers": version("tokenizers"),
        "machine": platform.platform(),
        "vocabulary": tokenizer.size,
        "megabytes": sum(map(len, files)) / 1e6,
        "files": speeds(files, tokenizer, sketches),
        "sentences": speeds(sentences(files), tokenizer, lambda texts: [text_key(text) for text in texts]),
    }
    if arguments.json:
        print(json.dumps(result))
        return
    for kind in ("files", "sentences"):
        print(f"{kind:<10}", *(f"{step} {speed:.1f}" for step, speed in result[kind].items()), "MB/s", sep="  ")


def take(source: str, most: int) -> list[bytes]:
    """Documents of so many bytes, of which there may be less."""
    found: list[bytes] = []
    size = 0
    for document in read_documents(source):
        found.append(document.text.encode())
        size += len(found[-1])
        if size >= most:
            break
    return found


def sentences(contents: list[bytes]) -> list[bytes]:
    """Words and signs between spaces, so many together as one of LM1B's sentences has bytes."""
    found: list[bytes] = []
    for content in contents:
        text = " ".join(re.findall(r"\w+|[^\w\s]", content.decode()))
        found += [part.encode() for part in re.findall(rf".{{1,{SENTENCE_BYTES}}}(?= |$)", text)]
    return found


def speeds(contents: list[bytes], tokenizer: Tokenizer, copies: Callable[[list[bytes]], object]) -> dict[str, float]:
    """Megabytes a CPU second of each step, and of the three that `data prepare` takes together."""
    megabytes = sum(map(len, contents)) / 1e6
    texts = [content.decode() for content in contents]
    packer = tokenizer.packer("<u2")
    seconds = {
        "copies": cpu_seconds(lambda: copies(contents)),
        "words": cpu_seconds(lambda: sum(map(count_words, contents))),
        "ids": cpu_seconds(lambda: packer.pack(contents)),
    }
    library = cpu_seconds(lambda: [tokenizer.encode(text) for text in texts])
    found = {**seconds, "together": sum(seconds.values()), "library": library}
    return {step: megabytes / spent for step, spent in found.items()}


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
