"""Run the commands of docs/block_to_model.md, kill and continue one training, and print the time of each command.

    python benchmarks/block_to_model.py [--folder DIR] [--json]
    python benchmarks/block_to_model.py --budget 20steps --tokens 4096        # quick: shorter trainings, less text

The commands are the lines of the page's code blocks, in their order. They run in a folder with links to `benchmarks/`
and `examples/` of the checkout. The first training is killed (SIGKILL) when it has saved a state, and continued with
the command that the page names. It saves a state every ten seconds, so that a quick run also has one. The search always
has the budget of the page. The output of the commands is in `printed.txt` of the folder.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from primer_search.benchmarks.options_and_hardware import add_json, benchmark_parser, hardware, log

__all__ = ["Step", "page_commands", "resume_command", "run_page"]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "block_to_model.md"

PRINTED = "printed.txt"
"""File with the output of the commands."""

SAVE_EVERY = "10s"
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Step:
    """One command that ran.

    Attributes:
        command: the command.
        seconds: wall clock.
        ending: `done`, or `killed` for the training that is killed.
        last_line: last line of its output.
    """

    command: str
    seconds: float
    ending: str
    last_line: str


def page_commands(page: str) -> list[str]:
    """Return the lines of the page's code blocks that have no language."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [line for language, block in blocks if not language for line in block.splitlines() if line.strip()]


def resume_command(page: str) -> str:
    """Return the command that the text of a page names for an interrupted training."""
    found = re.search(r"`(?:primer-search )?(train\s+--resume\s+\S+)`", page)
    if found is None:
        raise SystemExit("the page does not say how to continue a training")
    return f"primer-search {' '.join(found[1].split())}"


def run_page(page: str, folder: Path, budget: str | None, tokens: int | None) -> list[Step]:
    """Run the commands of a page in a folder; kill and continue the first training."""
    for name in ("benchmarks", "examples"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    steps: list[Step] = []
    for command in page_commands(page):
        changed = _shortened(command, budget, tokens)
        if " train " in command and not any(step.ending == "killed" for step in steps):
            name = resume_command(page).split()[-1]
            steps.append(_run(f"{changed} --save-every {SAVE_EVERY}", folder, killed_with=folder / f"{name}.training"))
            changed = resume_command(page)
        steps.append(_run(changed, folder))
    return steps


def _shortened(command: str, budget: str | None, tokens: int | None) -> str:
    """Return a command with the given budget in steps, and with the given number of tokens to measure on."""
    if budget is not None:
        command = re.sub(r"--budget \d+steps", f"--budget {budget}", command)
    measures = re.match(r"primer-search (analyze|refine) ", command)
    return command if tokens is None or measures is None else f"{command} --tokens {tokens}"


def _run(command: str, folder: Path, killed_with: Path | None = None) -> Step:
    """Run a command to its end, or kill it when the folder `killed_with` has a state."""
    log(f"$ {command}")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                if killed_with is not None and any(killed_with.glob("state-*")):
                    os.killpg(process.pid, signal.SIGKILL)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        seconds = time.monotonic() - start
        output.seek(0)
        printed = output.read()
    with (folder / PRINTED).open("a", encoding="utf-8") as file:
        file.write(f"$ {command}\n{printed}\n")
    expected = 0 if killed_with is None else -signal.SIGKILL
    if process.returncode != expected:
        raise SystemExit(f"{command}\nended with {process.returncode}, not {expected}:\n{printed[-2000:]}")
    step = Step(command, seconds, "done" if killed_with is None else "killed", (printed.splitlines() or [""])[-1])
    log(f"  {step.ending} after {seconds:.0f} s: {step.last_line}")
    return step


def main() -> None:
    """Run the page and print the seconds of each command."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--folder", type=Path, help="empty folder to work in [a temporary one]")
    parser.add_argument("--budget", help="budget of each training instead of the page's, such as 20steps")
    parser.add_argument("--tokens", type=int, help="tokens that analyze and refine read [their default]")
    add_json(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        steps = run_page(PAGE.read_text(encoding="utf-8"), folder, options.budget, options.tokens)
    about, total = hardware("block_to_model.py"), sum(step.seconds for step in steps)
    if options.json:
        print(json.dumps({"about": about, "seconds": total, "steps": [asdict(step) for step in steps]}))
        return
    print(about)
    for step in steps:
        print(f"{step.seconds:8.1f} s  {step.ending:<7} {step.command}")
    print(f"{total:8.1f} s total")


if __name__ == "__main__":
    main()
