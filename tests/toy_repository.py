"""A small repository for tests of the graph: the real modules, Snakefile and command line; light
stages that run in a second.

The stages are notebooks like the real ones (parameters, `start_run`, `finish`) and compute a few
numbers from files, from
each other and from the module `toy`. Cells run in the stage's process instead of a kernel;
everything else is the real thing.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import BIN, ROOT

CHAPTERS = {"base": "base", "app": "8_app"}  # of the library, which the graph needs

TOY = """
SCALE = 2.0

def total(values):
    return SCALE * sum(values)

def train(x, lr, steps, state):
    import json, time
    from pathlib import Path
    from hiermovie.base import write_json
    done = json.loads(Path(state).read_text()) if Path(state).exists() else dict(step=0, w=0.0)
    while done["step"] < steps:
        done = dict(step=done["step"] + 1, w=done["w"] + lr * (x - done["w"]))
        write_json(state, done)
        time.sleep(0.05)
    return done["w"]

def score(w, epochs):
    return round(w * epochs, 6)

def nobody_calls_this(x):
    return x
"""

FAST = """
def run_notebook(notebook, executed, parameters, cwd):
    import json, os
    from pathlib import Path
    from hiermovie.base import write_json
    os.chdir(cwd)
    book, names = json.loads(Path(notebook).read_text(encoding="utf-8")), {"__name__": "__main__"}
    try:
        for cell in book["cells"]:
            exec("".join(cell["source"]), names)
            if "parameters" in cell["metadata"].get("tags", []): names.update(parameters)
    except Exception as e:
        said = dict(ename=type(e).__name__, evalue=str(e), traceback=[])
        book["cells"][-1]["outputs"] = [dict(said, output_type="error")]
        raise
    finally:
        write_json(executed, book)
"""

JOURNAL = """
from pathlib import Path
from hiermovie.base import read_json
from hiermovie.base import data_root, need_fitting, read_params, start_run, write_root
from hiermovie.toy import score, total, train
run = start_run(globals())
with open(run.folder.parent/"journal", "a") as f: f.write(f"{run.folder.name} {run.key}\\n")
"""

STAGES = {
    "00_data": (
        'source = "minimovies"\nseed = 0\ncontent = False',
        """
write_root(run.folder, "" if source == "minimovies" else source, content)
films = [len(p.read_bytes()) for p in sorted(Path(source).rglob("*.mp4"))]
labels = [float(x) for p in sorted(Path(source).rglob("*.csv")) for x in p.read_text().split()]
run.finish(dict(sum=total(films + labels) + seed))
""",
    ),
    "10_base": (
        'data_run = ""\nlr = 0.1\nsteps = 8',
        """
w = train(read_json(run.input("data_run")/"metrics.json")["sum"], lr, steps, run/"state.json")
run.finish(dict(w=w))
""",
    ),
    "20_features": (
        'base_run = ""\nnote = ""',
        """
run.finish(dict(w=read_json(run.input("base_run")/"metrics.json")["w"] + len(note)))
""",
    ),
    "40_head": (
        'data_run = ""\nfeatures_run = ""\nepochs = 1',
        """
w = read_json(run.input("features_run")/"metrics.json")["w"]
films = len(list(data_root(run.input("data_run")).rglob("*.mp4")))
run.finish(dict(score=score(w, epochs), films=films))
""",
    ),
    "90_report": (
        "reads_runs = []",
        """
need_fitting(reads_runs)
scores = {Path(r).name: read_json(Path(r)/"metrics.json") for r in reads_runs}
(run/"index.html").write_text(str(scores))
run.finish(scores)
""",
    ),
}

PROFILE = {
    "data": {"stage": "00_data", "source": ""},
    "base": {"stage": "10_base", "data_run": "data", "lr": 0.5},
    "features": {"stage": "20_features", "base_run": "base"},
    "head-a": {"stage": "40_head", "data_run": "data", "features_run": "features", "epochs": 2},
    "head-b": {"stage": "40_head", "data_run": "data", "features_run": "features", "epochs": 3},
    "report": {"stage": "90_report", "reads_runs": "all"},
}


def cell(source, *tags):
    return dict(
        cell_type="code",
        id=f"c{abs(hash(source)) % 10**7}",
        metadata=dict(tags=list(tags)),
        execution_count=None,
        outputs=[],
        source=source,
    )


def write_notebook(path, *cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(dict(cells=list(cells), metadata={}, nbformat=4, nbformat_minor=5)),
        encoding="utf-8",
    )


class Repository:
    """The small repository in `root`, with its profile and its data; `run` is `hiermovie reproduce`
    in it.
    """

    def __init__(self, root, fast=True):
        self.root, self.data = Path(root), Path(root) / "real data"
        for item in ("hiermovie/__init__.py", "runs/Snakefile"):
            (self.root / item).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / item, self.root / item)
        for package, chapter in CHAPTERS.items():
            for folder in (f"nbs/library/{chapter}", f"hiermovie/{package}"):
                skip = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
                shutil.copytree(ROOT / folder, self.root / folder, ignore=skip)
        for module, notebook, code in (("toy", "99_toy", TOY), ("base/execution", "99_fast", FAST)):
            if module == "toy":
                write_notebook(
                    self.root / f"nbs/library/{notebook}.ipynb",
                    cell("#| default_exp toy"),
                    cell("#| export" + code),
                )
                (self.root / "hiermovie/toy.py").write_text(code)
            elif fast:
                self.append("base/15_execution", module, code)
        for stage, (parameters, code) in STAGES.items():
            write_notebook(
                self.root / f"nbs/stages/{stage}.ipynb",
                cell(f'out = ""\n{parameters}', "parameters"),
                cell(JOURNAL),
                cell(code),
            )
        self.runs = json.loads(json.dumps(PROFILE))
        self.save_profile()
        for corpus in ("kinetics", "movieclips", "vidsitu", "lvu"):
            (self.data / corpus / "videos").mkdir(parents=True)
            (self.data / corpus / "labels.csv").write_text("1 2 3")
            (self.data / corpus / "videos/a.mp4").write_bytes(b"film")

    def append(self, notebook, module, code):
        """Add an exported cell to a library notebook and its code to the module."""
        path = self.root / f"nbs/library/{notebook}.ipynb"
        book = json.loads(path.read_text())
        book["cells"].append(cell("#| export" + code))
        path.write_text(json.dumps(book))
        with open(self.root / f"hiermovie/{module}.py", "a") as f:
            f.write(code)

    def save_profile(self):
        import yaml

        (self.root / "runs/profiles").mkdir(parents=True, exist_ok=True)
        (self.root / "runs/profiles/toy.yaml").write_text(
            yaml.safe_dump(dict(runs=self.runs), allow_unicode=True)
        )

    def edit_library(self, old, new, exported=True):
        """Change the module `toy` and its notebook; without `exported` the notebook only."""
        book = self.root / "nbs/library/99_toy.ipynb"
        cells = json.loads(book.read_text())["cells"]
        assert old in cells[1]["source"], old
        cells[1]["source"] = cells[1]["source"].replace(old, new)
        write_notebook(book, *cells)
        if exported:
            module = self.root / "hiermovie/toy.py"
            module.write_text(module.read_text().replace(old, new))

    def edit_stage(self, stage, old, new):
        """Change the last cell of a stage."""
        path = self.root / f"nbs/stages/{stage}.ipynb"
        cells = json.loads(path.read_text())["cells"]
        assert old in cells[-1]["source"], old
        cells[-1]["source"] = cells[-1]["source"].replace(old, new)
        write_notebook(path, *cells)

    def argv(self, out, *targets):
        return [
            sys.executable,
            "-c",
            "import sys; from hiermovie.app import main; sys.exit(main())",
            "reproduce",
            "--profile",
            "toy",
            "--data",
            str(self.data),
            "--out",
            str(out),
            "--cores",
            "2",
            *targets,
        ]

    def environment(self):
        return dict(
            os.environ, PYTHONPATH=str(self.root), PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}"
        )

    def start(self, out, *targets):
        """The reproduction as a process of its own session."""
        return subprocess.Popen(
            self.argv(out, *targets),
            cwd=self.root,
            env=self.environment(),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def run(self, out, *targets, **env):
        """Exit code, stdout, stderr of a reproduction."""
        done = subprocess.run(
            self.argv(out, *targets),
            cwd=self.root,
            env=self.environment() | env,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr


def journal(out):
    """(run, key) of every stage that was ever started there."""
    path = Path(out) / "journal"
    return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []


def metrics(out):
    """Run -> bytes of its metrics."""
    return {p.parent.name: p.read_bytes() for p in sorted(Path(out).glob("*/metrics.json"))}
