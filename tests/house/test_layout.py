"""The house: chapters whose arrows go down, doors that list what lies behind them, notebooks and
package in step.
"""

import ast
import re
import shutil

import pytest
from conftest import ROOT, run
from measures import (
    BELOW,
    LIBRARY,
    NOTEBOOKS,
    STAGES,
    arrows,
    cells,
    exported_cells,
    functions,
    highest_complexity,
    imports,
    longest_line,
    module_of,
    name_of,
    package_lines,
    public_names,
    source,
)

DOORS = [p for p in LIBRARY if p.stem == "00_start"]
ROOMS = [p for p in LIBRARY if p.stem != "00_start"]


def test_package_is_what_the_notebooks_export(tmp_path):
    shutil.copytree(ROOT / "nbs", tmp_path / "nbs")
    shutil.copy(ROOT / "settings.ini", tmp_path / "settings.ini")
    code, _, err = run("nbdev_export", cwd=tmp_path)
    assert code == 0, err
    fresh, kept = (
        {
            str(p.relative_to(r)): p.read_bytes()
            for p in (r / "hiermovie").rglob("*")
            if p.is_file() and p.parent.name != "__pycache__"
        }
        for r in (tmp_path, ROOT)
    )
    different = [k for k in fresh.keys() | kept.keys() if fresh.get(k) != kept.get(k)]
    assert different == [], "run `make export`"


def test_the_code_is_formatted_and_has_no_finding():
    for argv in (("format", "--check"), ("check",)):
        code, out, err = run("ruff", *argv, "nbs", "tests", "data_scripts", "runs", "setup.py")
        assert code == 0, out + err


def test_no_finding_is_switched_off_in_general():
    texts = [source(p) for p in NOTEBOOKS]
    texts += [p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("*.py")]
    switched = [t for text in texts for t in re.findall(r"#\s*(?:ruff|flake8):\s*noqa.*", text)]
    bare = [t for text in texts for t in re.findall(r"#\s*noqa(?!: [A-Z]+[0-9]+).*", text)]
    assert switched + bare == []


def test_functions_are_short():
    long = [f for f in functions() if f.lines > 40]
    assert long == []


def test_chapters_are_those_of_the_plan():
    assert {module_of(p).split(".")[0] for p in LIBRARY} == set(BELOW)
    assert len(DOORS) == len(BELOW)


@pytest.mark.parametrize("notebook", ROOMS, ids=name_of)
def test_arrows_go_down(notebook):
    """Other chapters through their doors, and only those below; inside a chapter, earlier
    notebooks.
    """
    chapter = module_of(notebook).split(".")[0]
    place = {module_of(p): p.stem for p in notebook.parent.glob("*.ipynb")}
    for module, name in imports(notebook):
        there, _, inner = module.partition(".")
        if there == chapter:
            assert place[module] < notebook.stem, f"{module} comes later"
        else:
            assert there in BELOW[chapter].split(), f"{chapter} may not import {there}"
            assert not inner, f"{module}.{name} lies behind the door of {there}"


@pytest.mark.parametrize("start", DOORS, ids=name_of)
def test_a_door_has_every_public_name(start):
    rooms = [p for p in ROOMS if p.parent == start.parent]
    call = ast.parse("\n".join(exported_cells(start))).body[-1].value
    listed = {k.arg: ast.literal_eval(k.value).split() for k in call.keywords}
    there = {module_of(p).split(".")[1]: public_names(p) for p in rooms}
    wanted = {module: names for module, names in there.items() if names}
    different = {m: (listed.get(m), wanted.get(m)) for m in {*listed, *wanted}}
    different = {m: pair for m, pair in different.items() if pair[0] != pair[1]}
    assert not different, (
        f"{start}: write into its call of door (module: listed, public): {different}"
    )
    every = [n for names in there.values() for n in names]
    assert len(set(every)) == len(every), "one name, one thing"
    assert not set(every) & set(there), "a name would hide the module that is called so"


def test_no_undefined_redefined_or_unused_names_in_the_package():
    code, out, _ = run(
        "ruff", "check", "--isolated", "--select", "F401,F821,F811,F822", "hiermovie"
    )
    assert code == 0, out


def test_nothing_speaks_of_the_flat_modules():
    old = "core identity distributed contrast maskpred truth uncertainty pretrain predict metrics "
    old += "report minimovies_ instances vocabulary windows"
    flat = re.compile(rf"hiermovie[./]({'|'.join(old.split())})\b")
    files = [*NOTEBOOKS, *(ROOT / "tests").rglob("*.py"), *(ROOT / "runs/profiles").iterdir()]
    files += [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile")]
    files = [p for p in files if p.name != "test_layout.py"]
    assert [p.name for p in files if flat.search(p.read_text(encoding="utf-8"))] == []


def test_the_numbers_of_the_house(capsys):
    """Printed, so that a change for the worse is seen; the limits are tests of their own."""
    lengths = sorted(f.lines for f in functions())
    between = {(a.split(".")[0], b.split(".")[0]) for a, b in arrows()}
    between = {(a, b) for a, b in between if a != b}
    rows = {
        "lines of the package (nbdev's index apart)": package_lines(),
        "modules, chapters": (len(ROOMS), len(DOORS)),
        "functions": len(lengths),
        "length of a function, median, 90th percentile, longest": (
            lengths[len(lengths) // 2],
            lengths[len(lengths) * 9 // 10],
            lengths[-1],
        ),
        "longest line": longest_line(),
        "highest complexity": highest_complexity(),
        "arrows between modules, between chapters": (len(arrows()), len(between)),
    }
    with capsys.disabled():
        print()
        for what, value in rows.items():
            print(f"  {what}: {value}")
    assert rows["longest line"][0] <= 100 and rows["highest complexity"][0] <= 10


def test_stages_import_through_doors():
    for stage in STAGES:
        found = re.findall(r"^from hiermovie(\S*) import", source(stage), re.M)
        assert found and all(f.count(".") == 1 for f in found), stage.stem


def test_cells_are_short_and_proved():
    """One class or one table may be longer than 45 lines; the methods of a class may not."""
    for notebook in ROOMS:
        exported = exported_cells(notebook)
        several = [s for s in exported if len(ast.parse(s).body) > 1]
        lengths = [len([line for line in s.splitlines() if line.strip()]) for s in several]
        assert max(lengths, default=0) <= 45, (notebook.stem, max(lengths))
        others = ["".join(c["source"]) for c in cells(notebook)]
        others = [s for s in others if not s.startswith("#| export")]
        proofs = sum(bool(re.search(r"\btest_\w+\(|\bassert\b", s)) for s in others)
        assert proofs >= (len(exported) - 1) / 2, f"{notebook.stem}: few proofs of what it exports"
