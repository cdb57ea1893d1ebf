"""Hooks of MkDocs: README.md is the first page, and files of the repository that pages link to are part of the site.

Pages link to files as they lie in the repository (`../benchmarks/results/copying.txt`), so that the links work where
the pages are read as Markdown. The site has copies of these files under `files/`. The API reference is made from a
temporary folder of symbolic links to the package's modules and folders. The repository's root cannot be used: it is the
package, but it also holds much else.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

__all__ = ["on_config", "on_files", "on_page_markdown", "on_post_build"]

LINK = re.compile(r"(\]\()(?!https?:|#)([^)#\s]+)")
README = "README.md"
_package = tempfile.TemporaryDirectory(prefix="primer-search-docs-")


@event_priority(100)  # before mkdocstrings reads its settings
def on_config(config: Any) -> Any:
    """Let mkdocstrings find the package, and nothing else of the repository."""
    root, package = Path(config.docs_dir).parent, Path(_package.name) / "primer_search"
    package.mkdir(exist_ok=True)
    for path in [*root.glob("*.py"), *(init.parent for init in root.glob("[a-z]*/__init__.py"))]:
        (package / path.name).symlink_to(path)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_package.name]
    return config


def on_post_build(config: Any) -> None:
    """Remove the temporary folder of symbolic links to the package."""
    _package.cleanup()


def on_files(files: Any, config: Any) -> Any:
    """Add README.md as the index, and every linked file outside of the documentation."""
    docs = Path(config.docs_dir)
    root = docs.parent
    files.append(File.generated(config, "index.md", content=(root / README).read_text(encoding="utf-8")))
    pages = [root / README, *docs.rglob("*.md")]
    for target in sorted({target for page in pages for target in _targets(page, docs) if target.is_file()}):
        files.append(File.generated(config, _address(target, root), abs_src_path=str(target)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Make links to files outside of `docs/` lead to their copies, and links of README.md to pages of the site."""
    docs = Path(config.docs_dir)
    source = docs.parent / README if page.file.src_uri == "index.md" else docs / page.file.src_uri
    up = "../" * page.file.src_uri.count("/")

    def rewritten(link: re.Match[str]) -> str:
        target = (source.parent / link[2]).resolve()
        inside = target.is_relative_to(docs)
        return link[1] + up + (target.relative_to(docs).as_posix() if inside else _address(target, docs.parent))

    return LINK.sub(rewritten, markdown)


def _targets(page: Path, docs: Path) -> list[Path]:
    """Return the files outside of the documentation that a page links to."""
    links = [(page.parent / link).resolve() for _, link in LINK.findall(page.read_text(encoding="utf-8"))]
    return [target for target in links if not target.is_relative_to(docs)]


def _address(target: Path, root: Path) -> str:
    """Return the place of a file in the site. A Markdown file would become a page, so its copy has another suffix."""
    address = "files/" + target.relative_to(root).as_posix()
    return address.removesuffix(".md") + ".txt" if address.endswith(".md") else address
