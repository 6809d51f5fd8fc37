"""The documentation as a site: its links lead somewhere, and it loads nothing from elsewhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from tests.docs.documents import ROOT
from tools.site_pages import OUTSIDE, with_links
from tortxd.gateway.control.openapi import document
from tortxd.gateway.control.routes import ENDPOINTS

LOADING = {"src", "srcset", "href", "data", "poster", "action", "style"}
"""Attributes that make a browser load something; ``href`` not where a reader must click."""


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """What `make docs` does."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    there = tmp_path_factory.mktemp("site")
    built = build(ROOT, there)
    assert built.returncode == 0, built.stderr
    return there


class Loaded(HTMLParser):
    """Collects what a browser loads for a page by itself, and what its links lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if tag == "a" and name == "href":
                self.linked.append(value or "")
            elif name in LOADING:
                self.loaded.append(value or "")


def read_page(page: Path) -> Loaded:
    reader = Loaded()
    reader.feed(page.read_text("utf-8"))
    return reader


def test_every_document_is_a_page(site: Path) -> None:
    documents = {file.relative_to(ROOT / "docs") for file in (ROOT / "docs").rglob("*.md")}
    pages = {*map(str, documents), *OUTSIDE.values()}
    for page in pages:
        html = page.replace("README.md", "index.md").replace(".md", ".html")
        assert (site / html).exists(), page


def test_every_page_is_in_the_menu(site: Path) -> None:
    menu = (ROOT / "mkdocs.yml").read_text("utf-8")
    for name in OUTSIDE.values():
        assert name in menu or not name.endswith(".md")
    for file in (ROOT / "docs").rglob("*.md"):
        assert str(file.relative_to(ROOT / "docs")) in menu


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        for url in read_page(page).loaded:
            assert "//" not in url or url.startswith("data:"), f"{page.name} loads {url}"


def test_styles_load_nothing_from_elsewhere(site: Path) -> None:
    styles = list(site.rglob("*.css"))
    assert styles
    for style in styles:
        text = style.read_text("utf-8")
        assert "@import" not in text
        for url in re.findall(r"url\(\s*[\"']?([^\"')]*)", text):
            assert url.startswith("data:") or "//" not in url, f"{style.name} loads {url}"


def test_scripts_name_no_other_server(site: Path) -> None:
    """But for comments, and for names that are no addresses, as SVG's."""
    for script in site.rglob("*.js"):
        text = re.sub(r"/\*.*?\*/|^\s*//.*$", "", script.read_text("utf-8"), flags=re.S | re.M)
        found = set(re.findall(r"[\"'`](?:https?:)?//[\w.-]+[^\"'`]*", text))
        assert found <= {'"http://www.w3.org/2000/svg'}, script.name


def test_links_lead_to_files_of_the_site(site: Path) -> None:
    """Those in the menu and of the theme, too, at which MkDocs does not look."""
    for page in {*site.rglob("*.html")} - {site / "404.html", site / "examples" / "browser.html"}:
        for link in read_page(page).linked:
            path = link.partition("#")[0]
            if path and not re.match(r"\w+:", path):
                assert (page.parent / path).exists(), f"{page.name}: {link}"


def test_the_description_of_the_api_is_a_page_and_a_file(site: Path) -> None:
    api = document(ENDPOINTS)
    assert json.loads((site / "openapi.json").read_text("utf-8")) == api
    page = (site / "http-reference.html").read_text("utf-8")
    for path, item in api["paths"].items():
        method = "ANY" if path == "/proxy" else [*item][-1].upper()
        assert f">{method} {path}<" in page
        for parameter in item.get("parameters", ()):
            assert f"<code>{parameter['name']}</code>" in page
    for name in api["components"]["schemas"]:
        assert f'id="{name.lower()}"' in page
    assert "stands here" not in page  # what a clone says


@pytest.mark.parametrize(
    ("page", "link", "there"),
    [
        ("README.md", "docs/library.md#errors", "library.md#errors"),
        ("README.md", "docs/examples/browser.html", "examples/browser.html"),
        ("README.md", "LICENSE", "LICENSE.txt"),
        ("README.md", "https://example.com/docs/", "https://example.com/docs/"),
        ("README.md", "#curl", "#curl"),
        ("security.md", "../SECURITY.md", "security-policy.md"),
        ("security-policy.md", "docs/security.md", "security.md"),
        ("library.md", "../README.md#curl", "README.md#curl"),
        ("examples/README.md", "../library.md", "../library.md"),
        ("examples/README.md", "../../README.md", "../README.md"),
        ("examples/README.md", "browser.html", "browser.html"),
    ],
)
def test_links_are_written_anew(page: str, link: str, there: str) -> None:
    code = f"```md\n[a]({link})\n```\n"
    assert with_links(f"{code}[a]({link})\n", page) == f"{code}[a]({there})\n"


@pytest.mark.parametrize(
    "link", ["nowhere.md", "../nowhere.md", "../tests/", "library.md#nowhere", "/library.md", "x/"]
)
def test_a_dead_link_fails_the_build(tmp_path: Path, link: str) -> None:
    for name in ("docs", "tools"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in (*OUTSIDE, "mkdocs.yml"):
        shutil.copy(ROOT / name, tmp_path / name)
    with (tmp_path / "docs" / "security.md").open("a") as page:
        page.write(f"\n[a link]({link})\n")
    built = build(tmp_path, tmp_path / "site")
    assert built.returncode == 1
    assert "security.md" in built.stdout + built.stderr


def test_the_configuration_names_no_other_server() -> None:
    """No address of a site, of a repository or of an analysis of visitors."""
    config = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert "//" not in config
    assert yaml.safe_load(config)["theme"]["highlightjs"] is False
