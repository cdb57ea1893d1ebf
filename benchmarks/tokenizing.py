"""Speed of tokenization in megabytes of text per CPU second, for each step and for all steps together.

    python benchmarks/tokenizing.py [--megabytes 64] [--vocabulary 32768] [--source text:PATH] [--json]

It measures CPU seconds of one process, because other load on the machine affects the wall clock. It uses two kinds of
documents: whole files, and sentences of about 139 bytes, the mean of LM1B. The steps are those of `data prepare`:
`copies` (sketches that find near-duplicates; for sentences only the keys that find equal ones), `words` (counting
words) and `ids` (encoding). `library` is the `tokenizers` library alone, for comparison.
"""

from __future__ import annotations

import json
import os
import platform
import re
import time
from collections.abc import Callable
from importlib.metadata import version

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser
from primer_search.workers.data.near_duplicates import sketches, text_key
from primer_search.workers.data.preprocessing_jobs import count_words
from primer_search.workers.data.text_sources import read_documents
from primer_search.workers.data.tokenizer import CachingEncoder, Tokenizer

SENTENCE_BYTES = 139


def main() -> None:
    """Run the benchmark and print the speeds."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--megabytes", type=float, default=64.0, help="amount of text (default 64)")
    parser.add_argument("--vocabulary", type=int, default=32_768, help="number of token ids (default 32768)")
    parser.add_argument("--source", default="python-stdlib", help="source of text (default python-stdlib)")
    add_json(parser)
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # as in the worker processes of `data prepare`
    files = first_documents(arguments.source, int(arguments.megabytes * 1e6))
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


def first_documents(source: str, most: int) -> list[bytes]:
    """Return the first documents of a source, about `most` bytes in total."""
    found: list[bytes] = []
    size = 0
    for document in read_documents(source):
        found.append(document.text.encode())
        size += len(found[-1])
        if size >= most:
            break
    return found


def sentences(contents: list[bytes]) -> list[bytes]:
    """Cut documents into sentences of LM1B's mean length, and separate words and punctuation by spaces."""
    found: list[bytes] = []
    for content in contents:
        text = " ".join(re.findall(r"\w+|[^\w\s]", content.decode()))
        found += [part.encode() for part in re.findall(rf".{{1,{SENTENCE_BYTES}}}(?= |$)", text)]
    return found


def speeds(contents: list[bytes], tokenizer: Tokenizer, copies: Callable[[list[bytes]], object]) -> dict[str, float]:
    """Return the megabytes per CPU second of each step, and of the three steps of `data prepare` together."""
    megabytes = sum(map(len, contents)) / 1e6
    texts = [content.decode() for content in contents]
    encoder = CachingEncoder(tokenizer, "<u2")
    seconds = {
        "copies": cpu_seconds(lambda: copies(contents)),
        "words": cpu_seconds(lambda: sum(map(count_words, contents))),
        "ids": cpu_seconds(lambda: encoder.encode(contents)),
    }
    library = cpu_seconds(lambda: [tokenizer.encode(text) for text in texts])
    found = {**seconds, "together": sum(seconds.values()), "library": library}
    return {step: megabytes / spent for step, spent in found.items()}


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
