"""The site: `make site`. Notebooks with their stored outputs, the reference of the package, and the
results that ship with the repository become pages; no network is used and nothing is executed.

The pages are written to runs/site/html, or below the folder that is named. `git_url` of
settings.ini decides about links to the source and the buttons for Colab and Binder: they appear
when it is an address at GitHub.
"""

import ast
import configparser
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat
import yaml
from nbformat.v4 import new_markdown_cell

ROOT = Path(__file__).resolve().parents[2]
NBS = ROOT / "nbs"
SITE = Path(sys.argv[1] if sys.argv[1:] else ROOT / "runs/site").resolve()
SOURCE, HTML = SITE / "source", SITE / "html"
CHAPTERS = sorted(
    (p for p in (NBS / "library").iterdir() if p.is_dir()),
    key=lambda p: (not p.name[0].isdigit(), p.name),
)
PACKAGES = [p.name.partition("_")[2] or p.name for p in CHAPTERS]
GITHUB = "https://github.com/"
EXECUTED = "full"  # the profile of runs/reference whose executed stages are shown


def setting(name: str) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "settings.ini")
    return parser["DEFAULT"][name]


# notebooks


def places(notebook: Path) -> str:
    "Links to where a notebook can be read, run and changed; empty without an address at GitHub."
    url, branch = setting("git_url"), setting("branch")
    path = notebook.relative_to(ROOT).as_posix()
    if not url.startswith(GITHUB):
        return ""
    name = url.removeprefix(GITHUB)
    links = {
        "source": f"{url}/blob/{branch}/{path}",
        "open in Colab": f"https://colab.research.google.com/github/{name}/blob/{branch}/{path}",
        "open in Binder": f"https://mybinder.org/v2/gh/{name}/{branch}?labpath={path}",
    }
    return " | ".join(f"[{words}]({link})" for words, link in links.items())


def executed_stages() -> dict:  # stage -> page of the executed notebook
    "Which stages have an executed example among the reference results."
    runs = yaml.safe_load((ROOT / f"runs/profiles/{EXECUTED}.yaml").read_text())["runs"]
    pages = {}
    for page in sorted((ROOT / "runs/reference" / EXECUTED).glob("notebook-*.html")):
        run = runs.get(page.stem.removeprefix("notebook-"))
        if run:
            pages.setdefault(run["stage"], page.name)
    return pages


def sited_links(text: str, depth: int) -> str:
    "Links out of nbs lead to the copies that the site has."
    up = "../" * depth
    text = re.sub(
        r"\((?:\.\./)+runs/reference/(full|mini)/index\.html\)", rf"({up}results/\1.md)", text
    )
    text = re.sub(r"\((?:\.\./)+runs/reference/README\.md\)", f"({up}results/about.md)", text)
    text = re.sub(r"\((?:\.\./)+(CONTRIBUTING\.md|CITATION\.cff)\)", rf"({up}about/\1)", text)
    text = re.sub(r"\((?:\.\./)+runs/reference/full/(\w+\.(?:svg|png))\)", rf"({up}\1)", text)
    return text.replace("about/CITATION.cff", "about/CITATION.md")


def toctree(names: list, caption: str = "", hidden: bool = True) -> str:
    options = [":hidden:"] * hidden + [f":caption: {caption}"] * bool(caption)
    return "\n".join(["```{toctree}", *options, "", *names, "```"])


def for_reading(book) -> None:
    "Without what only nbdev and tests need: directives, and cells that are hidden from readers."
    book.cells = [c for c in book.cells if not c.source.startswith(("#| hide", "#| default_exp"))]
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.source = re.sub(r"^#\| export\n+", "", cell.source)


def copy_notebook(notebook: Path, stages: dict) -> None:
    inside = notebook.relative_to(NBS)
    book, depth = nbformat.read(notebook, 4), len(inside.parts) - 1
    for_reading(book)
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = sited_links(cell.source, depth)
    if links := places(notebook):
        book.cells.insert(1, new_markdown_cell(links))
    if notebook.stem in stages and inside.parts[0] == "stages":
        link = f"../executed/{stages[notebook.stem]}"
        words = f"Executed in profile `{EXECUTED}`: <a href='{link}'>with its outputs</a>."
        book.cells.insert(1, new_markdown_cell(words))
    if notebook.stem == "00_start":
        names = sorted(p.stem for p in notebook.parent.glob("*.ipynb") if p != notebook)
        book.cells.append(new_markdown_cell(toctree(names)))
    target = SOURCE / inside
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, target)


def copy_notebooks() -> None:
    stages = executed_stages()
    for notebook in sorted(NBS.rglob("*.ipynb")):
        if ".ipynb_checkpoints" not in notebook.parts:
            copy_notebook(notebook, stages)
    (SOURCE / "index.ipynb").rename(SOURCE / "start.ipynb")
    for notebook in SOURCE.rglob("*.ipynb"):  # the page with the list of notebooks has another name
        text = notebook.read_text()
        notebook.write_text(re.sub(r"\(((?:\.\./)*)index\.ipynb", r"(\1start.ipynb", text))


def write_bibliography() -> None:
    "The entries are printed by the notebook; here each is a target of links."
    book = nbformat.read(NBS / "bibliography.ipynb", 4)
    printed = [o for c in book.cells if c.cell_type == "code" for o in c.outputs]
    text = next(o.data["text/markdown"] for o in printed if "text/markdown" in o.get("data", {}))
    book.cells = [c for c in book.cells if c.cell_type == "markdown"] + [new_markdown_cell(text)]
    nbformat.write(book, SOURCE / "bibliography.ipynb")


# the package


def header(source: str) -> str:
    "A definition up to its docstring or its first statement, with the comments of its parameters."
    node = ast.parse(source).body[0]
    body = node.body[0]
    first = body.lineno - 1
    lines = source.splitlines()
    if isinstance(node, ast.ClassDef):  # the fields of settings are what a reader looks for
        documented = isinstance(body, ast.Expr) and isinstance(body.value, ast.Constant)
        fields = [b for b in node.body[documented:] if isinstance(b, ast.AnnAssign)]
        kept = lines[:first] + [line for f in fields for line in lines[f.lineno - 1 : f.end_lineno]]
        return "\n".join(kept)
    return "\n".join(lines[:first])


def entry(name: str, thing, home: str) -> str:
    "What the reference says of one public name."
    if not (inspect.isfunction(thing) or inspect.isclass(thing)):
        return f"## {name}\n\n```text\n{name} = {str(thing)[:300]}\n```\n"
    source = textwrap.dedent(inspect.getsource(thing))
    words = inspect.getdoc(thing) or ""
    where = f"Shown in [{Path(home).stem}](../{home})." if home else ""
    return f"## {name}\n\n```python\n{header(source)}\n```\n\n{plain(words)}\n\n{where}\n"


def plain(words: str) -> str:
    "A docstring as Markdown: what would be taken for markup is shown as it is, outside of code."
    parts = words.split("`")
    parts[::2] = [re.sub(r"([<>*_$\[\]{}])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def homes() -> dict:  # module -> notebook, both as paths
    found = {}
    for notebook in sorted((NBS / "library").rglob("*.ipynb")):
        book = nbformat.read(notebook, 4)
        exports = re.findall(r"#\| default_exp ([\w.]+)", "\n".join(c.source for c in book.cells))
        if exports:
            found[f"hiermovie.{exports[0]}"] = notebook.relative_to(NBS).as_posix()
    return found


def write_reference() -> None:
    known = homes()
    (SOURCE / "reference").mkdir()
    for package in PACKAGES:
        module = importlib.import_module(f"hiermovie.{package}")
        parts = [f"# hiermovie.{package}\n\n{plain(module.__doc__ or '')}\n"]
        for name in sorted(module.__all__, key=str.lower):
            thing = getattr(module, name)
            home = known.get(getattr(thing, "__module__", ""), "")
            parts.append(entry(name, thing, home))
        (SOURCE / f"reference/{package}.md").write_text("\n".join(parts))


# results


def results_page(profile: str) -> str:
    folder = ROOT / "runs/reference" / profile
    report = f"<a href='../reports/{profile}/index.html'>The whole report</a>"
    parts = [f"# Results of profile {profile}\n", f"{report}, with every claim.\n"]
    names = dict(claims="Claims", ladder="Where the points are lost", efficiency="Labels")
    for figure, title in names.items():
        if (folder / f"{figure}.svg").exists():
            parts.append(f"## {title}\n\n![{title}](../figures/{profile}/{figure}.svg)\n")
    for task in ("verbs", "roles", "relations", "lvu"):
        table = folder / f"table_{task}.md"
        if table.exists():
            parts.append(f"## {task}\n\n{table.read_text()}\n")
    return "\n".join(parts)


def write_results() -> None:
    (SOURCE / "results").mkdir()
    for profile in ("full", "mini"):
        (SOURCE / f"results/{profile}.md").write_text(results_page(profile))
        folder = ROOT / "runs/reference" / profile
        for kind, pattern in (("extra/reports", "*"), ("figures", "*.svg")):
            target = SOURCE / kind / profile
            target.mkdir(parents=True)
            for file in folder.glob(pattern):
                shutil.copy(file, target)
    executed = SOURCE / "extra/executed"
    executed.mkdir()
    for page in executed_stages().values():
        shutil.copy(ROOT / "runs/reference" / EXECUTED / page, executed)
    about = (ROOT / "runs/reference/README.md").read_text()
    (SOURCE / "results/about.md").write_text(about)
    for name in ("two_levels.svg", "segment.png"):
        shutil.copy(ROOT / "runs/reference/full" / name, SOURCE)


# the whole


def write_front() -> None:
    lessons = sorted(f"lessons/{p.stem}" for p in (NBS / "lessons").glob("*.ipynb"))
    guides = sorted(f"guides/{p.stem}" for p in (NBS / "guides").glob("*.ipynb"))
    stages = sorted(f"stages/{p.stem}" for p in (NBS / "stages").glob("*.ipynb"))
    trees = {
        "Begin": ["start"],
        "Lessons": lessons,
        "Guides": guides,
        "Chapters": [f"library/{p.name}/00_start" for p in CHAPTERS],
        "Stages": [*stages, "stage_parameters"],
        "Results": ["results/full", "results/mini", "results/about"],
        "Reference": [f"reference/{p}" for p in PACKAGES],
        "About": ["bibliography", "changelog", "about/CONTRIBUTING", "about/CITATION"],
    }
    story = (NBS / "site/story.md").read_text()
    parts = [story, *(toctree(names, caption) for caption, names in trees.items())]
    (SOURCE / "index.md").write_text("\n\n".join(parts) + "\n")
    (SOURCE / "about").mkdir()
    shutil.copy(ROOT / "CONTRIBUTING.md", SOURCE / "about")
    citation = (ROOT / "CITATION.cff").read_text()
    (SOURCE / "about/CITATION.md").write_text(f"# How to cite\n\n```yaml\n{citation}```\n")
    for name in ("changelog.md", "conf.py", "site_extension.py"):
        shutil.copy(NBS / "site" / name, SOURCE)
    (SOURCE / "_static").mkdir()
    for name in ("site.css", "icon.svg"):
        shutil.copy(NBS / "site" / name, SOURCE / "_static")


PRINTED_LINK = re.compile(r'(href="(?!\w+:)[^"#]*)\.ipynb(["#])')  # within tables, in reports


def mend(page: Path) -> None:
    "What the theme forgets: levels of captions, a keyboard for what scrolls, printed links."
    html = page.read_text(encoding="utf-8")
    html = html.replace('role="heading"', 'role="heading" aria-level="2"')
    html = re.sub(r'<summary aria-label="[^"]*">', "<summary>", html)
    html = PRINTED_LINK.sub(r"\1.html\2", html)
    html = re.sub(r"<table(?![^>]*tabindex)", '<table tabindex="0"', html)
    html = html.replace("<pre>", '<pre tabindex="0">')
    html = html.replace('<div class="formula">', '<div class="formula" tabindex="0">')
    sidebar = '<aside class="sidebar-drawer"'
    html = html.replace(f"{sidebar}>", f'{sidebar} aria-label="pages">')
    page.write_text(html, encoding="utf-8")


def mend_report(page: Path, depth: int) -> None:
    "Links of a report to notebooks lead to the pages of the site."
    html = page.read_text(encoding="utf-8")
    html = html.replace("../../../nbs/stages/../", "../" * depth)
    html = html.replace("../../../nbs/", "../" * depth)
    page.write_text(PRINTED_LINK.sub(r"\1.html\2", html), encoding="utf-8")


def main() -> int:
    shutil.rmtree(SITE, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    copy_notebooks()
    write_bibliography()
    write_reference()
    write_results()
    write_front()
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going"]
    code = subprocess.run([*command, str(SOURCE), str(HTML)]).returncode
    for page in HTML.rglob("*.html"):
        inside = page.relative_to(HTML).parts
        if inside[0] in ("executed", "reports"):
            mend_report(page, len(inside) - 1)
        else:
            mend(page)
    print((HTML / "index.html").as_uri() if not code else "the site has faults: see above")
    return code


if __name__ == "__main__":
    sys.exit(main())
