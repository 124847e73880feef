"""`make site`: it is built without a warning, every link and picture leads somewhere, nothing is
fetched from elsewhere, and what the front page promises is there.
"""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, ROOT / "nbs/site/build.py", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return folder / "html"


class Page(HTMLParser):
    "Links, what is loaded, and names that links can lead to."

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.names = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.names |= {given[k] for k in ("id", "name") if given.get(k)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        for key in ("src", "data"):
            if given.get(key):
                self.loaded.append(given[key])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "shortcut icon"):
            self.loaded.append(given["href"])


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_notebook_is_a_page(site):
    for notebook in (ROOT / "nbs").rglob("*.ipynb"):
        inside = notebook.relative_to(ROOT / "nbs").with_suffix(".html")
        if ".ipynb_checkpoints" not in notebook.parts and str(inside) != "index.html":
            assert (site / inside).exists(), inside


def test_links_and_pictures_lead_somewhere(site, pages):
    lost = []
    shown = site / "library/7_results/05_page.html"  # a page within a page, without its files
    for path, page in pages.items():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or not (parts.path or parts.fragment) or path == shown:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            name = unquote(parts.fragment)
            known = pages[target].names if target in pages else {name}
            if not target.exists() or (name and name not in known):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert lost == []


def test_nothing_is_fetched_from_elsewhere(site, pages):
    for path, page in pages.items():
        for address in page.loaded:
            assert urlsplit(address).scheme in ("", "data"), (path.relative_to(site), address)
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:", style.read_text(encoding="utf-8")), style


def test_search_finds_mask_prediction(site):
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    notebook = index["docnames"].index("library/4_contextualizer/02_mask_prediction")

    def documents(stem):
        found = index["terms"].get(stem, []), index["titleterms"].get(stem, [])
        return {n for part in found for n in (part if isinstance(part, list) else [part])}

    assert notebook in documents("mask") & documents("predict")


def test_formulas_need_no_script(site):
    page = (site / "library/3_backbone/03_contrastive.html").read_text(encoding="utf-8")
    assert page.count("<math") > 10 and not re.search("<script[^>]*mathjax", page.lower())


def test_the_reference_shows_shapes_and_errors(site):
    page = (site / "reference/backbone.html").read_text(encoding="utf-8")
    assert "nt_xent" in page and "(B, P) projections of the first views" in page
    assert "InputError" in page
    stage = (site / "stages/40_verbs.html").read_text(encoding="utf-8")
    assert "../executed/notebook-verbs" in stage


def test_buttons_come_from_one_setting(tmp_path, monkeypatch):
    sys.path.insert(0, str(ROOT / "nbs/site"))
    monkeypatch.setattr(sys, "argv", ["build.py", str(tmp_path)])
    import build

    notebook = ROOT / "nbs/lessons/a_words.ipynb"
    assert build.places(notebook) == ""  # the address of settings.ini is not one of GitHub
    known = dict(git_url="https://github.com/someone/film", branch="main")
    monkeypatch.setattr(build, "setting", known.get)
    links = build.places(notebook)
    assert "colab.research.google.com/github/someone/film/blob/main/nbs/lessons" in links
    assert "mybinder.org/v2/gh/someone/film/main?labpath=nbs/lessons" in links


def test_binder_installs_from_the_lock():
    folder = ROOT / ".binder"
    assert (folder / "requirements.txt").read_text() == "-r ../requirements.lock\n"
    assert (ROOT / "requirements.lock").exists()
    assert "pip install --no-deps --editable ." in (folder / "postBuild").read_text()
