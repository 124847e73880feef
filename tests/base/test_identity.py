"""Results are never stale: what runs again, what does not, and what is refused. On a small
repository with light stages.
"""

import json
import os
import random
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import yaml
from conftest import ROOT
from toy_repository import Repository, cell, journal, metrics

from hiermovie.base import make_plan, read_profile, read_yaml, stage_arguments

pytestmark = pytest.mark.slow


@pytest.fixture
def toy(tmp_path):
    return Repository(tmp_path / "toy")


def complete(toy, out, *targets):
    """Run it to its end; gives the names of what ran, and what was said."""
    before = len(journal(out))
    code, said, err = toy.run(out, *targets)
    assert code == 0, said + err
    return sorted(name for name, _ in journal(out)[before:]), said


def fresh(toy, out):
    complete(toy, out)
    return metrics(out)


ALL = sorted(["data", "base", "features", "head-a", "head-b", "report"])


def test_a_targeted_run_leaves_nothing_stale(toy, tmp_path):
    out = tmp_path / "runs"
    assert complete(toy, out)[0] == ALL
    ran, said = complete(toy, out)
    assert ran == [] and said.startswith(
        f"running runs/profiles/toy.yaml; logs and executed notebooks: {out / 'notebooks'}\n"
        "every run is finished, nothing to do\n"
    )
    assert f"\nreport: {(out / 'report' / 'index.html').as_uri()}\nnext: make lab\n" in said
    toy.runs["base"]["lr"] = 0.25
    toy.save_profile()
    ran, said = complete(toy, out, "features")
    assert ran == ["base", "features"] and "base: lr 0.5 -> 0.25" in said
    assert "report:" not in said  # the one that is there speaks of older results
    assert complete(toy, out)[0] == ["head-a", "head-b", "report"]
    assert metrics(out) == fresh(toy, tmp_path / "fresh")


def test_a_run_killed_before_it_had_begun_is_made(toy, tmp_path):
    """Its folder holds half a file that was to be renamed; a file of somebody else's is not
    touched.
    """
    out = tmp_path / "runs"
    left = out / "base/.2dfe744f64b9.461.tmp.json"
    left.parent.mkdir(parents=True)
    left.write_text("{")
    assert complete(toy, out)[0] == ALL and not left.exists()
    shutil.rmtree(out / "base")
    (out / "base").mkdir()
    (out / "base/thesis.txt").write_text("mine")
    code, _, err = toy.run(out)
    assert code == 2 and "is not a folder of a run" in err
    assert (out / "base/thesis.txt").read_text() == "mine"


def test_keys_decide_not_time(toy, tmp_path):
    """Results newer than everything, no notes of Snakemake, another folder, another clone: only a
    changed key runs.
    """
    out = tmp_path / "runs"
    complete(toy, out)
    shutil.rmtree(out / ".snakemake")
    for p in out.rglob("*"):
        os.utime(p, (2e9, 2e9), follow_symlinks=False)
    assert complete(toy, out)[0] == []
    toy.runs["base"]["lr"] = 0.25
    toy.save_profile()
    assert complete(toy, out)[0] == ["base", "features", "head-a", "head-b", "report"]
    for p in toy.root.rglob("*.ipynb"):
        p.touch()
    for p in out.rglob("*"):
        os.utime(p, (1e9, 1e9), follow_symlinks=False)
    assert complete(toy, out)[0] == []
    shutil.move(out, tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / "head-a")
    assert complete(toy, tmp_path / "moved")[0] == ["head-a"]
    other = Repository(tmp_path / "another clone")
    shutil.rmtree(other.data)
    shutil.copytree(toy.data, other.data)
    other.runs = toy.runs
    other.save_profile()
    assert complete(other, tmp_path / "moved")[0] == []


def test_code_counts_and_comments_do_not(toy, tmp_path):
    out = tmp_path / "runs"
    complete(toy, out)
    toy.edit_library(
        "def score(w, epochs):", 'def score(w, epochs): # better than it looks\n    "How good?"'
    )
    toy.edit_stage("10_base", "run.finish", "# the end\nrun.finish")
    toy.edit_library(
        "def nobody_calls_this(x):\n    return x", "def nobody_calls_this(x):\n    return 2 * x"
    )
    assert complete(toy, out)[0] == []
    toy.edit_library("round(w * epochs, 6)", "round(w * epochs + 1, 6)")
    ran, said = complete(toy, out)
    assert ran == ["head-a", "head-b", "report"] and "head-a: its code" in said
    toy.edit_library("SCALE = 2.0", "SCALE = 3.0")
    assert complete(toy, out)[0] == ALL
    toy.edit_stage("20_features", "run.finish(dict(w=", "run.finish(dict(w=1 + ")
    assert complete(toy, out)[0] == ["features", "head-a", "head-b", "report"]
    assert metrics(out) == fresh(toy, tmp_path / "fresh")


def test_a_notebook_that_is_not_exported_stops_it(toy, tmp_path):
    toy.edit_library("SCALE = 2.0", "SCALE = 3.0", exported=False)
    code, said, err = toy.run(tmp_path / "runs")
    assert (
        (code, err.count("\n")) == (2, 1)
        and "99_toy.ipynb: not what the package has; `make export`" in err
        and journal(tmp_path / "runs") == []
    )


def test_real_data_are_input(toy, tmp_path):
    out = tmp_path / "runs"
    complete(toy, out)
    (toy.data / "lvu/labels.csv").write_text("1 2 4")
    ran, said = complete(toy, out)
    assert ran == ALL and "data: files: 1 changed (lvu/labels.csv)" in said
    (toy.data / "vidsitu/videos/a.mp4").unlink()
    (toy.data / "vidsitu/videos/b.mp4").write_bytes(b"another")
    (toy.data / "lvu/videos/c.mp4").write_bytes(b"more")
    ran, said = complete(toy, out)
    assert (
        ran == ALL
        and "2 added (lvu/videos/c.mp4, vidsitu/videos/b.mp4); 1 removed (vidsitu/videos/a.mp4)"
        in said
    )
    (toy.data / "README.txt").write_text("no data set")
    (toy.data / "lvu/labels.csv").touch()
    assert complete(toy, out)[0] == []
    toy.data.rename(toy.root / "moved data")
    toy.data = toy.root / "moved data"
    assert complete(toy, out)[0] == []
    toy.runs["head-a"]["epochs"] = 5
    toy.save_profile()
    assert complete(toy, out)[0] == ["head-a", "report"]  # reads the data where they are now
    assert metrics(out) == fresh(toy, tmp_path / "fresh")
    film = toy.data / "lvu/videos/c.mp4"
    stamp = film.stat()
    film.write_bytes(b"rome")
    os.utime(film, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert complete(toy, out)[0] == []  # nobody has read it
    assert complete(toy, out, "--data-content")[0] == ALL
    film.write_bytes(b"omer")
    os.utime(film, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert "1 changed (lvu/videos/c.mp4)" in complete(toy, out, "--data-content")[1]


def test_code_that_changes_while_it_runs_stops_what_uses_it(toy, tmp_path):
    """What is finished under a key was made from the code that the key says."""
    out = tmp_path / "runs"
    toy.edit_stage(
        "10_base",
        "w = train",
        f"(run.folder.parent.parent/'toy/hiermovie/toy.py').write_text({TOY_CHANGED!r})\nw = train",
    )
    code, said, err = toy.run(out)
    changed = "InputError: the code has changed since this reproduction was started"
    assert code == 1 and f"head-a: {changed}" in err and f"head-b: {changed}" in err
    assert sorted(metrics(out)) == ["base", "data", "features"]  # features use nothing of it


TOY_CHANGED = (
    "SCALE = 2.0\ndef total(values): return SCALE * sum(values)\ndef train(x, lr, steps, state): "
    "return x\ndef score(w, epochs): return 0\n"
)


@pytest.mark.parametrize("name", ["x #2", 'a: b {c} {} 🎬 it\'s "quoted" $HOME `x` %s\\n'])
def test_folders_may_have_any_name(tmp_path, name):
    toy = Repository(tmp_path / "toy")
    toy.data.rename(tmp_path / f"data {name}")
    toy.data, out = tmp_path / f"data {name}", tmp_path / "runs" / name
    assert complete(toy, out)[0] == ALL
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [name]


def test_a_failed_run_is_told_whatever_is_left_of_its_notebook(toy, tmp_path):
    out = tmp_path / "runs"
    toy.edit_stage(
        "40_head",
        "w = read_json",
        (
            "if epochs == 2:\n    import os; "
            f"Path({str(out / 'notebooks/head-a.ipynb')!r}).write_text('{{\"cells\": [{{'); "
            "print('the end is near', flush=True); os._exit(3)\nelse: raise ValueError('no\\n"
            "luck')\nw = read_json"
        ),
    )
    code, said, err = toy.run(out)
    assert code == 1 and "Traceback" not in "".join(
        line for line in err.splitlines() if line.startswith(("failed", "error"))
    )
    assert (
        "failed: head-a: the end is near (see " in err
        and "failed: head-b: ValueError: no luck (see " in err
    )
    assert sorted(metrics(out)) == ["base", "data", "features"]


def test_a_report_of_runs_that_do_not_fit_is_refused(toy, tmp_path):
    from hiermovie.base import InputError, need_fitting

    out = tmp_path / "runs"
    complete(toy, out)
    toy.runs["base"]["lr"] = 0.25
    toy.save_profile()
    complete(toy, out, "base")
    with pytest.raises(
        InputError,
        match=r"features: was made from the run base, which is another one now \(key \w+, was ",
    ):
        need_fitting([out / "head-a", out / "head-b"])


def test_numbers_and_texts_arrive_as_they_were_written(tmp_path):
    """Every value of every profile, and some that profiles could have, through papermill's own cell
    into the stage.
    """
    from papermill.execute import execute_notebook

    odd = dict(
        rate=1e-06,
        small=2.0e-5,
        most=float("inf"),
        least=float("-inf"),
        whole=7,
        zeros="007",
        yes=True,
        nothing=None,
        film="🎬 ",
        date="2026-11-26",
        quoted="a \"b\" 'c' \\n {x} $y #z",
        lists=[1, 1.0, [None, "é"]],
        named={"movieclips": 2, "a b": [True]},
    )
    (tmp_path / "odd.yaml").write_text(
        """
rate: 1e-6
small: 2.0e-5
most: .inf
least: -.inf
whole: 007
zeros: "007"
yes: true
nothing: null
film: "\\U0001F3AC "
date: 2026-11-26
quoted: "a \\"b\\" 'c' \\\\n {x} $y #z"
lists: [1, 1.0, [~, é]]
named: {movieclips: 2, a b: [true]}
""",
        encoding="utf-8",
    )
    assert json.dumps(read_yaml(tmp_path / "odd.yaml")) == json.dumps(odd)
    values = [odd]
    for profile in sorted((ROOT / "runs/profiles").glob("*.yaml")):
        assert read_yaml(profile) == yaml.safe_load(
            profile.read_text()
        )  # nothing in them that the two versions of YAML read differently
        runs = read_profile(profile, ROOT / "nbs/stages", True)
        data = str(ROOT / "tests") if profile.stem == "paper" else None
        plan = make_plan(profile, runs, tmp_path / "out", ROOT, data=data)
        for name, run in json.loads(json.dumps(plan))["runs"].items():
            arguments = stage_arguments(plan, name)[2]
            assert all(
                run["given"][k] == v and type(run["given"][k]) is type(v)
                for k, v in runs[name]["params"].items()
                if k != "source"
            ), name
            values.append({k: v for k, v in arguments.items() if not k.endswith(("_run", "_runs"))})
    (tmp_path / "stage.ipynb").write_text(
        json.dumps(
            dict(cells=[cell("out = ''", "parameters")], metadata={}, nbformat=4, nbformat_minor=5)
        )
    )
    for given in {json.dumps(v, sort_keys=True): v for v in values}.values():
        book = execute_notebook(
            str(tmp_path / "stage.ipynb"),
            None,
            given,
            prepare_only=True,
            kernel_name="python3",
            language="python",
        )
        injected, arrived = (
            next(c for c in book.cells if "injected-parameters" in c.metadata.tags),
            {},
        )
        exec(injected.source, {}, arrived)
        assert repr({k: arrived[k] for k in given}) == repr(given)


def kill_all(process):
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for p in family:
        try:
            os.kill(p.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    psutil.wait_procs(family, timeout=10)


def kill_one(process):
    """The graph alone dies, if it runs by now; its stages notice and end. Where it has not begun
    yet, everything runs to its end.
    """
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "snakemake" in " ".join(child.cmdline()):
                child.kill()
                break
        except psutil.NoSuchProcess:  # it ended meanwhile, or is about to be collected
            continue
    process.wait(300)


class Edits:
    """What a person may do to a repository; from what each leaves behind, it can be completed."""

    def __init__(self, toy, out, r):
        self.toy, self.out, self.r = toy, out, r

    def parameter(self):
        run, name, values = self.r.choice(
            [
                ("base", "lr", [0.5, 0.25]),
                ("head-a", "epochs", [2, 4]),
                ("features", "note", ["", "a {b} #c"]),
            ]
        )
        self.toy.runs[run][name] = self.r.choice(values)
        self.toy.save_profile()

    def code(self):
        scores = ("round(w * epochs, 6)", "round(w * epochs + 1, 6)")
        old, new = self.r.choice([("SCALE = 2.0", "SCALE = 3.0"), scores])
        text = (self.toy.root / "hiermovie/toy.py").read_text()
        if old in text:
            self.toy.edit_library(old, new)
        elif new in text:
            self.toy.edit_library(new, old)

    def comment(self):
        self.toy.edit_library("def train(", "# again\ndef train(")

    def labels(self):
        (self.toy.data / "lvu/labels.csv").write_text(self.r.choice(["1 2 3", "4 5 6"]))

    def films(self):
        corpus = self.r.choice(["lvu", "vidsitu"])
        path = self.toy.data / corpus / "videos" / self.r.choice(["a.mp4", "b.mp4"])
        path.unlink() if path.exists() else path.write_bytes(b"film")
        if path.exists():
            os.utime(path, (1e9, 1e9))

    def killed(self):
        process = self.toy.start(self.out)
        since, until = len(journal(self.out)), time.time() + 20
        wanted = since + self.r.randint(1, 3)
        while process.poll() is None and len(journal(self.out)) < wanted and time.time() < until:
            time.sleep(0.02)
        time.sleep(self.r.random() / 2)
        if process.poll() is None:
            self.r.choice([kill_all, kill_one])(process)
        process.wait(300)

    def deleted(self):
        shutil.rmtree(self.out / self.r.choice(ALL), ignore_errors=True)

    def aged(self):
        for p in list(self.out.rglob("*")):
            when = self.r.choice([1e9, 2e9])
            if p.exists():
                os.utime(p, (when, when), follow_symlinks=False)

    def targeted(self):
        complete(self.toy, self.out, self.r.choice(ALL))

    def notes(self):
        shutil.rmtree(self.out / ".snakemake", ignore_errors=True)


EDITS = [
    "parameter",
    "code",
    "comment",
    "labels",
    "films",
    "killed",
    "deleted",
    "aged",
    "targeted",
    "notes",
]


def state(toy):
    """What a fresh run depends on; its results are computed once for each."""
    files = {
        str(p.relative_to(toy.data)): p.read_text()
        for p in sorted(toy.data.rglob("*"))
        if p.is_file()
    }
    code = (toy.root / "hiermovie/toy.py").read_text().replace("# again\n", "")
    return json.dumps([toy.runs, files, code], sort_keys=True)


def sequence(number, root, known):
    r = random.Random(number)
    toy, out = Repository(root / f"toy {number}"), root / f"runs {number}"
    done = []
    for _ in range(r.randint(4, 7)):
        name = r.choice(EDITS)
        before, since = finished(out), len(journal(out))
        getattr(Edits(toy, out, r), name)()
        done.append(name)
        again = set(journal(out)[since:]) & before
        assert not again, f"sequence {number}, {done}: ran although its key was unchanged: {again}"
    before, since = finished(out), len(journal(out))
    complete(toy, out)
    again = set(journal(out)[since:]) & before
    assert not again, f"sequence {number}, {done}: ran although its key was unchanged: {again}"
    key = state(toy)
    if key not in known:
        known[key] = fresh(toy, root / f"fresh {number}")
    assert metrics(out) == known[key], f"sequence {number}: {done}"
    shutil.rmtree(toy.root)
    shutil.rmtree(out)
    return done


def finished(out):
    """(run, key) of everything that lies there, finished."""
    from hiermovie.base import key_of

    return (
        {(p.name, key_of(p)) for p in Path(out).glob("*") if p.is_dir() and key_of(p)}
        if Path(out).exists()
        else set()
    )


SEQUENCES = 30


def test_random_edits_in_random_order_end_as_a_fresh_run(tmp_path):
    """Parameters, code, comments, data, kill -9, targeted runs, deleted folders and notes: the same
    metrics as from nothing, and nothing ran in vain.
    """
    known = {}
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda k: sequence(k, tmp_path, known), range(SEQUENCES)))
    assert len(done) == SEQUENCES and {n for d in done for n in d} >= {
        "parameter",
        "code",
        "comment",
        "labels",
        "films",
        "killed",
        "deleted",
        "targeted",
        "notes",
    }
