"""What is counted in the house: lines, functions, complexity, chapters and arrows, all in the
notebooks' own code.
"""

import ast
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from conftest import BIN, ROOT

LIBRARY = sorted((ROOT / "nbs/library").glob("*/*.ipynb"))
STAGES = sorted((ROOT / "nbs/stages").glob("*.ipynb"))
LESSONS = sorted((ROOT / "nbs/lessons").glob("*.ipynb"))
GUIDES = sorted((ROOT / "nbs/guides").glob("*.ipynb"))
NOTEBOOKS = [*LIBRARY, *STAGES, *LESSONS, *GUIDES, ROOT / "nbs/index.ipynb"]
CHECKED = ["nbs", "tests", "data_scripts", "runs", "setup.py"]

# what a chapter may import from; the order is that of the chapters
BELOW = {
    "base": "",
    "minimovies": "base",
    "video": "base",
    "backbone": "base video",
    "contextualizer": "base video backbone",
    "vidsitu": "base video backbone contextualizer minimovies",
    "lvu": "base video backbone contextualizer vidsitu",
    "results": "base video backbone contextualizer vidsitu lvu",
    "data": "base video vidsitu lvu",
    "app": "base video backbone contextualizer vidsitu lvu results data",
    "course": "base video backbone contextualizer vidsitu lvu results data app minimovies",
}


def cells(path, kind="code"):
    return [
        c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == kind
    ]


def source(path):
    return "\n".join("".join(c["source"]) for c in cells(path))


def exported_cells(path):
    sources = ["".join(c["source"]) for c in cells(path)]
    return [s for s in sources if s.startswith("#| export")]


def module_of(notebook):
    """Dotted name of the module that a library notebook exports to: `backbone.encoders`."""
    return re.search(r"^#\| default_exp (\S+)", source(notebook), re.M)[1]


@dataclass
class Function:
    notebook: str
    name: str
    lines: int


def functions(notebooks=LIBRARY):
    """Every function of the exported code with its length in formatted lines."""
    found = []
    for path in notebooks:
        for cell in exported_cells(path):
            for node in ast.walk(ast.parse(cell)):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                    found.append(Function(path.stem, node.name, node.end_lineno - first + 1))
    return found


def imports(notebook):
    """(module, name) of everything that a notebook's exported code imports from the package."""
    nodes = [n for cell in exported_cells(notebook) for n in ast.walk(ast.parse(cell))]
    found = [n for n in nodes if isinstance(n, ast.ImportFrom)]
    ours = [n for n in found if (n.module or "").split(".")[0] == "hiermovie"]
    return [(n.module.removeprefix("hiermovie").lstrip("."), a.name) for n in ours for a in n.names]


def public_names(notebook):
    """Names that a notebook defines for others: without an underscore, and not by `exporti`."""
    names = []
    public = [cell for cell in exported_cells(notebook) if not cell.startswith("#| exporti")]
    for node in (n for cell in public for n in ast.parse(cell).body):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            stored = [n for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
            names += [n.id for n in stored if isinstance(n.ctx, ast.Store)]
    return [n for n in dict.fromkeys(names) if not n.startswith("_")]


def package_lines():
    """Lines of the package as nbdev writes it, its index apart."""
    modules = [p for p in (ROOT / "hiermovie").rglob("*.py") if p.name != "_modidx.py"]
    return sum(len(p.read_text(encoding="utf-8").splitlines()) for p in modules)


def longest_line():
    """(characters, where) of the longest line of code in notebooks, tests and scripts."""
    files = [(p, source(p)) for p in NOTEBOOKS]
    for folder in CHECKED[1:]:
        scripts = [ROOT / folder] if folder.endswith(".py") else (ROOT / folder).rglob("*.py")
        files += [(p, p.read_text(encoding="utf-8")) for p in scripts]
    return max((len(line), str(p.name)) for p, text in files for line in text.splitlines())


def highest_complexity():
    """(complexity, function) as ruff counts it, over the library."""
    argv = ["check", "--select", "C90", "--config", "lint.mccabe.max-complexity=1"]
    argv += ["--output-format", "json", "--isolated", "nbs/library"]
    done = subprocess.run([BIN / "ruff", *argv], cwd=ROOT, capture_output=True, text=True)
    messages = [m["message"] for m in json.loads(done.stdout)]
    found = [re.match(r"`(\w+)` is too complex \((\d+) > 1\)", m) for m in messages]
    return max((int(m[2]), m[1]) for m in found)


def arrows():
    """Which module imports which: (from, to), both dotted; a door is `chapter`."""
    found = set()
    for notebook in LIBRARY:
        here = module_of(notebook)
        found |= {(here, there) for there, _ in imports(notebook)}
    return sorted(found)


def name_of(path):
    return str(Path(path).relative_to(ROOT / "nbs")).removesuffix(".ipynb")
