"""The reader, the validation and the canonical form, tested with random, mutated and damaged DNA documents.

    python benchmarks/damaged_programs.py [--documents 1000000] [--seed 0] [--json]

A third of the documents are random well-formed programs. In another third, one to three values of the JSON are
replaced, moved or removed; in the last third, some bytes are changed. Each document must be read or refused with a
documented error. Any other exception ends the benchmark and prints the document. The result has the number of documents
per CPU second of this process, and the growth of its resident memory over all documents.
"""

from __future__ import annotations

import io
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, hardware, log
from primer_search.primitives import InvalidProgramError, MalformedProgramError, build_graph
from primer_search.primitives.ops.op_table import OPS
from primer_search.primitives.programs.library import LIBRARY
from primer_search.primitives.programs.program_json import dna_to_json
from primer_search.search.results.program_reference import read_dna
from primer_search.tests.support.strategies import random_dna

__all__ = ["document", "outcome"]

KINDS = ("random", "mutated", "damaged")

STRANGE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("inf"), float("nan"), "", "call:0",
    "call:1", "call:99999999999", "call:-1", "\ud800", "\x00", "x" * 5000, [], {}, [[]], [0] * 300, {"op": "ADD"}, *OPS,
)  # fmt: skip
"""Values that replace others. Some of them are not valid JSON, and the reader must refuse those."""


def document(kind: str, rng: np.random.Generator) -> bytes:
    """Return a document of a kind in `KINDS`."""
    if rng.random() < 0.1:
        text = dna_to_json(LIBRARY[str(rng.choice(sorted(LIBRARY)))].dna)
    else:
        text = dna_to_json(random_dna(rng, subprograms=int(rng.integers(1, 5)), instructions=int(rng.integers(1, 12))))
    if kind == "mutated":
        data = json.loads(text)
        for _ in range(int(rng.integers(1, 4))):
            _mutate(data, rng)
        return json.dumps(data).encode()
    content = bytearray(text.encode())
    if kind == "damaged":
        for _ in range(int(rng.integers(1, 6))):
            _damage(content, rng)
    return bytes(content)


def outcome(content: bytes) -> str:
    """Read a document, validate it and make its canonical form; return `malformed`, `invalid` or `valid`.

    Exceptions other than the documented ones are raised.
    """
    try:
        graph = build_graph(read_dna("a document", io.BytesIO(content)), length_dependent=True)
    except MalformedProgramError:
        return "malformed"
    except InvalidProgramError:
        return "invalid"
    assert len(graph.structure_hash) > 0
    return "valid"


def _mutate(data: Any, rng: np.random.Generator) -> None:
    """Replace, remove, repeat or move one value at a random place."""
    parent: Any = data
    while True:
        keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        if not keys:
            return
        key = keys[int(rng.integers(len(keys)))]
        child = parent[key]
        if isinstance(child, dict | list) and child and rng.random() < 0.9:
            parent = child
            continue
        break
    action = int(rng.integers(4))
    if action == 0:
        del parent[key]
    elif action == 1 and isinstance(parent, list):
        parent.append(deepcopy(child))
    elif action == 2 and isinstance(parent, dict):
        parent[str(rng.choice(["op", "in1", "names", "format", ""]))] = parent.pop(key)
    else:
        parent[key] = deepcopy(STRANGE[int(rng.integers(len(STRANGE)))])  # a later mutation may change it


def _damage(content: bytearray, rng: np.random.Generator) -> None:
    """Change, remove, insert or repeat some bytes."""
    start = int(rng.integers(len(content) + 1))
    stop = min(len(content), start + int(rng.integers(1, 1 + int(rng.choice([1, 4, 64, 4096])))))
    action = int(rng.integers(5))
    if action == 0:
        content[start:stop] = bytes(rng.integers(0, 256, stop - start, dtype=np.uint8))
    elif action == 1:
        del content[start:stop]
    elif action == 2:
        content[start:start] = content[start:stop] * int(rng.integers(1, 50))
    elif action == 3:
        del content[start:]
    else:
        content[start:start] = bytes(rng.choice(list(b'[]{}",:-.e0123456789\\u')) for _ in range(stop - start))


def _resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--documents", type=int, default=100_000, help="number of documents (default 100,000)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the documents (default 0)")
    add_json(parser)
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    outcomes = {kind: Counter() for kind in KINDS}
    for kind in KINDS * 50:  # the first calls import modules and fill caches
        outcome(document(kind, rng))
    memory, seconds, largest = _resident_bytes(), 0.0, 0
    for number in range(options.documents):
        kind = KINDS[number % len(KINDS)]
        content = document(kind, rng)
        largest = max(largest, len(content))
        started = time.process_time()
        try:
            outcomes[kind][outcome(content)] += 1
        except BaseException:
            sys.stdout.write(f"document {number}, {kind}: {content!r}\n")
            raise
        seconds += time.process_time() - started
        if number % 20_000 == 0 and number:
            log(f"{number:,} documents")
    growth = _resident_bytes() - memory
    result = {
        **hardware("damaged_programs.py", arguments),
        "documents": options.documents,
        "outcomes": {kind: dict(sorted(found.items())) for kind, found in outcomes.items()},
        "documents_per_cpu_second": options.documents / seconds,
        "largest_document_bytes": largest,
        "memory_growth_mib": growth / 2**20,
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{options.documents:,} documents, each of them read or refused with a documented error")
    for kind, found in outcomes.items():
        print(f"  {kind:<8} {', '.join(f'{count:,} {name}' for name, count in sorted(found.items()))}")
    print(f"  {result['documents_per_cpu_second']:,.0f} a CPU second; largest {largest:,} bytes")
    print(f"  resident memory grew by {result['memory_growth_mib']:.1f} MiB")


if __name__ == "__main__":
    main()
