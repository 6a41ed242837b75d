"""A hook of mkdocs.yml: README, CONTRIBUTING and CHANGELOG as pages of the site, and the files that pages link to.

Pages link to each other as files of the repository, so that they can be read there; here these links become the site's.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
# File of the repository: page of the site.
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
# Copied as they are, under the same path.
COPIED = ["CITATION.cff", "benchmarks/results/*.json", "benchmarks/experiments/*.yaml"]

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for path, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(REPOSITORY / path)))
    for pattern in COPIED:
        for file in sorted(REPOSITORY.glob(pattern)):
            files.append(File.generated(config, file.relative_to(REPOSITORY).as_posix(), abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    pages = {site: path for path, site in PAGES.items()}
    here = pages.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return _LINK.sub(lambda link: _on_site(link[1], here, page.file.src_uri), markdown)


def _on_site(link: str, here: str, page: str) -> str:
    """A link of a file of the repository, as a link of its page."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(here), link))
    target = PAGES.get(path, path.removeprefix("docs/"))
    return posixpath.relpath(target, posixpath.dirname(page) or ".")
