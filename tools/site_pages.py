"""What MkDocs does not do by itself: pages of the site from what lies outside docs/.

The documentation is written to be read in a clone, or where a forge shows one: the README links to
``docs/library.md``, and that to ``../CHANGELOG.md``. On the site all of these are pages side by
side, so their links are written anew; what is linked to and is neither fails the build.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "README.md": "README.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
    "LICENSE": "LICENSE.txt",
}
"""Files of the repository's root, and their places in the site. docs/security.md is another page
than SECURITY.md, also where upper and lower case are one."""

_LINK = re.compile(r"(\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchor(title: str, separator: str = "-") -> str:
    """The anchor of a heading, as forges make it of the heading's text."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", separator)


def place(path: str) -> str:
    """Where a file of the repository is in the site; both as paths from their roots."""
    return OUTSIDE.get(path) or path.removeprefix("docs/")


def source(path: str) -> str:
    """The reverse of :func:`place`."""
    outside = {there: here for here, there in OUTSIDE.items()}
    return outside.get(path) or f"docs/{path}"


def with_links(markdown: str, path: str) -> str:
    """A page with its links within the repository as they are on the site.

    :param path: the page's in the site.
    """
    folder = posixpath.dirname(source(path))

    def anew(match: re.Match[str]) -> str:
        before, link, fragment = match[1], match[2], match[3] or ""
        if re.match(r"[a-z]+:|/", link):
            return match[0]
        linked = place(posixpath.normpath(posixpath.join(folder, link)))
        relative = posixpath.relpath(linked, posixpath.dirname(path) or ".")
        return f"{before}{relative}{fragment})"

    pieces, end = [], 0
    for fence in _FENCE.finditer(markdown):
        pieces += [_LINK.sub(anew, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, _LINK.sub(anew, markdown[end:])])


# --- what MkDocs calls ----------------------------------------------------------------------------


def on_config(config: MkDocsConfig) -> None:
    """Have headings get the anchors by which a forge knows them."""
    config.mdx_configs["toc"] = {"slugify": anchor, "permalink": "#"}


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add what lies outside docs/."""
    for name, there in OUTSIDE.items():
        files.append(File.generated(config, there, abs_src_path=str(ROOT / name)))


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Write a page's links anew."""
    return with_links(markdown, page.file.src_uri)
