"""What people read: README, start page, links, citations, stages as documents, prose."""

import json
import re
from urllib.parse import unquote

import pytest
from conftest import ROOT
from measures import NOTEBOOKS, STAGES, cells, name_of
from pybtex.database import parse_file

from hiermovie.app import readme_text, stage_page, stage_parameters, start_page
from hiermovie.results import outcomes_markdown, primary_lines, read_claims

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted({*NOTEBOOKS, *(ROOT / "nbs").glob("*.ipynb")})
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "runs/reference/README.md"]
BIBLIOGRAPHY = ROOT / "nbs/bibliography.ipynb"


def path_of(path):
    return path.relative_to(ROOT).as_posix()


def prose(path):
    "The Markdown of a file: of a notebook the text cells, and what code cells show as Markdown."
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    shown = [
        "".join(o["data"]["text/markdown"])
        for c in cells(path)
        for o in c["outputs"]
        if "text/markdown" in o.get("data", {})
    ]
    return "\n".join(["".join(c["source"]) for c in cells(path, "markdown")] + shown)


def links(path):
    text = re.sub(r"`[^`]*`|```.*?```", "", prose(path), flags=re.S)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def test_readme_and_start_page_are_up_to_date():
    index = ROOT / "nbs/index.ipynb"
    assert readme_text(index) == README, "run `make readme`"
    (listed,) = [
        "".join(c["source"])
        for c in cells(index, "markdown")
        if "start-page" in c["metadata"].get("tags", [])
    ]
    assert listed == start_page(ROOT / "nbs"), "run `make readme`"
    assert all(f"({p.relative_to(ROOT / 'nbs').as_posix()})" in listed for p in NOTEBOOKS[:-1])


def test_readme_is_short():
    "The tables are left out: that of the results has a line for every claim that fell."
    prose = [line for line in README.splitlines() if not line.startswith("|")]
    assert len(re.sub(r"\]\([^)]*\)", "]", " ".join(prose)).split()) <= 500


def test_readme_has_the_results_whatever_came_out():
    claims = read_claims(ROOT / "runs/reference/full/claims.csv")
    assert outcomes_markdown(claims) in README, "run `make notebooks`"
    against = primary_lines(claims)
    against = against[against.said.str.contains("the opposite is seen")]
    cells_of_readme = [cell for line in README.splitlines() for cell in line.split(" | ")]
    for line in against.itertuples():
        said = f"{line.difference:+.1f} ({line.low:.1f} to {line.high:.1f}) **opposite**"
        assert sum(said in cell for cell in cells_of_readme) >= 1, line.claim


@pytest.mark.parametrize("path", [*PAGES, *TEXTS], ids=path_of)
def test_every_link_resolves(path):
    for link in links(path):
        if re.match(r"(https?:|mailto:|#|attachment:)", link):
            continue
        target = (path.parent / unquote(link.split("#")[0])).resolve()
        assert target.exists(), f"{link} in {path.relative_to(ROOT)}"


def test_every_citation_is_in_the_bibliography_and_every_entry_is_cited():
    entries = set(parse_file(ROOT / "nbs/bibliography.bib").entries)
    cited = {
        link.split("bibliography.ipynb#")[1]
        for path in [*PAGES, *TEXTS]
        for link in links(path)
        if "bibliography.ipynb#" in link
    }
    assert cited - entries == set(), "cited, but not in nbs/bibliography.bib"
    assert entries - cited == set(), "in nbs/bibliography.bib, but cited nowhere"
    shown = prose(BIBLIOGRAPHY)
    assert [key for key in entries if f"## {key}\n" not in shown] == [], "run the notebook"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_papers_are_cited_by_links(path):
    "Authors with a year (`Qian et al. 2021`) stand in a link into the bibliography once at least."
    text = prose(path)
    named = set(re.findall(r"[A-Z][\w-]+ et al\.?,? (?:\w+ )?\(?(?:19|20)\d\d", text))
    linked = re.findall(r"\[([^\]]*)\]\([^)]*bibliography\.ipynb#", text)
    for name in named:
        author = name.split()[0]
        assert any(author in where for where in linked), name


@pytest.mark.parametrize("path", PAGES, ids=path_of)
def test_nothing_refers_to_papers_of_the_workshop(path):
    assert not re.search(r"\b(?:FACTS|METRICS|MINIMOVIES|STYLE|DESIGN)\b", path.read_text("utf-8"))


@pytest.mark.parametrize("path", STAGES, ids=name_of)
def test_a_stage_is_a_document(path):
    text = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    words = sum(len("".join(c["source"]).split()) for c in text if c["cell_type"] == "markdown")
    assert words >= 150, f"{words} words"
    table = stage_parameters(path)
    assert (table.group[1:] != "").all(), "every parameter stands below a heading"
    silent = table[table.meaning == ""].parameter.tolist()
    clear = {"weight_decay", "positions", "dropout", "height", "tasks"}
    endings = ("_run", "_runs", "_dropout")
    assert [p for p in silent if p not in clear and not p.endswith(endings)] == []
    assert "run.finish(" in "".join(text[-1]["source"])
    assert f'start_run(globals(), "{path.stem}")' in "\n".join("".join(c["source"]) for c in text)
    assert "(../stage_parameters.ipynb)" in prose(path)


def test_the_page_of_all_parameters_is_up_to_date():
    page = ROOT / "nbs/stage_parameters.ipynb"
    assert stage_page(ROOT / "nbs/stages") in prose(page), "run `make notebooks`"


METHOD = [p for p in NOTEBOOKS if p.parent.name in ("3_backbone", "4_contextualizer")]


@pytest.mark.parametrize("path", METHOD, ids=name_of)
def test_a_sentence_stands_before_every_exported_cell(path):
    "In the two chapters of the method; a chapter's door and imports need none."
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for before, cell in zip(found, found[1:], strict=False):
        source = "".join(cell["source"])
        code = re.sub(r"^#.*$", "", source, flags=re.M).strip()
        imports = re.match(r"(?:import|from) ", code) and not re.search(
            r"^(?:def|class|@)", code, re.M
        )
        if source.startswith("#| export") and not imports:
            assert before["cell_type"] == "markdown", source[:80]
