"""Setting up: `make setup`, source distributions, homes that cannot be written to, kernels of
others.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
from conftest import ROOT, run
from toy_repository import Repository

pytestmark = pytest.mark.slow

UV = """import sys
from pathlib import Path

def main():
    with open("installed", "a") as f: f.write(sys.argv[2] + "\\n")
"""


@pytest.fixture
def folder(tmp_path):
    """A folder that can be set up without a network: its lock is empty, and its uv is a program
    that only notes what it was asked for.
    """
    wheel = tmp_path / "uv-0.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as z:
        z.writestr("uv.py", UV)
        z.writestr("uv-0.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: uv\nVersion: 0.0\n")
        z.writestr(
            "uv-0.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        z.writestr("uv-0.0.dist-info/entry_points.txt", "[console_scripts]\nuv = uv:main\n")
        z.writestr(
            "uv-0.0.dist-info/RECORD",
            (
                "uv.py,,\nuv-0.0.dist-info/METADATA,,\nuv-0.0.dist-info/WHEEL,,\n"
                "uv-0.0.dist-info/entry_points.txt,,\nuv-0.0.dist-info/RECORD,,\n"
            ),
        )
    home = tmp_path / "a folder #1"
    (home / "runs").mkdir(parents=True)
    for name in ("Makefile", "settings.ini", "setup.py", "runs/set_up.py"):
        shutil.copy(ROOT / name, home / name)
    (home / "requirements.lock").touch()
    return home, wheel


ALONE = {
    k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "MFLAGS"
}  # not part of the `make test` that runs this


def set_up(home, wheel, python=sys.executable):
    return subprocess.Popen(
        ["make", "setup", f"PYTHON={python}", f"UV={wheel}"],
        cwd=home,
        env=ALONE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def installed(home):
    return (home / "installed").read_text().split() if (home / "installed").exists() else []


def test_two_set_ups_at_once_are_one(folder):
    home, wheel = folder
    both = [set_up(home, wheel) for _ in range(2)]
    said = [p.communicate(timeout=300) for p in both]
    assert [p.returncode for p in both] == [0, 0], said
    assert (
        installed(home) == ["sync", "install"] and sum("setting up" in out for out, _ in said) == 1
    )
    assert set_up(home, wheel).communicate(timeout=60) == ("", "") and installed(home) == [
        "sync",
        "install",
    ]
    (home / "requirements.lock").write_text("# other\n")
    set_up(home, wheel).communicate(timeout=300)
    assert installed(home) == ["sync", "install"] * 2


def test_an_old_python_is_one_line_and_spoils_nothing(folder, tmp_path):
    home, wheel = folder
    old = tmp_path / "python3.10"
    old.write_text(
        f'#!/bin/sh\ncase "$1" in -c) echo "3 10";; *) exec "{sys.executable}" "$@";; esac\n'
    )
    old.chmod(0o755)
    first = set_up(home, wheel, old)
    out, err = first.communicate(timeout=60)
    assert (
        first.returncode
        and err.splitlines()[0]
        == (
            f"error: {old} is Python 3.10; hiermovie needs 3.11 or later: make setup "
            "PYTHON=python3.11"
        )
        and not (home / ".venv").exists()
    )
    (home / ".venv/bin").mkdir(parents=True)  # as an older version of this program left it
    for name in ("python", "pip"):
        shutil.copy(old, home / ".venv/bin" / name)
    second = set_up(home, wheel)
    assert (
        second.communicate(timeout=300)[1] == ""
        and second.returncode == 0
        and installed(home) == ["sync", "install"]
    )


def test_a_copied_folder_is_set_up_again(folder, tmp_path):
    home, wheel = folder
    set_up(home, wheel).communicate(timeout=300)
    copy = tmp_path / "a copy"
    shutil.copytree(home, copy, symlinks=True)
    (copy / "installed").unlink()
    again = set_up(copy, wheel)
    assert again.communicate(timeout=300)[1] == "" and again.returncode == 0
    assert (
        installed(copy) == ["sync", "install"]
        and str(copy).encode() in (copy / ".venv/bin/pip").read_bytes()
    )


def test_a_source_distribution_installs(tmp_path):
    source = tmp_path / "source"
    for item in ("hiermovie", "nbs", "data_scripts"):
        shutil.copytree(
            ROOT / item,
            source / item,
            ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"),
        )
    (source / "runs").mkdir()
    shutil.copytree(ROOT / "runs/profiles", source / "runs/profiles")
    for name in (
        "settings.ini",
        "setup.py",
        "pyproject.toml",
        "MANIFEST.in",
        "README.md",
        "LICENSE",
        "Makefile",
        "requirements.lock",
        "runs/Snakefile",
        "runs/set_up.py",
    ):
        shutil.copy(ROOT / name, source / name)
    code, out, err = run(
        "python", "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, source
    )
    assert code == 0, out + err
    packed = next(tmp_path.glob("*.tar.gz"))
    with tarfile.open(packed) as tar:
        names = {n.split("/", 1)[1] for n in tar.getnames() if "/" in n}
    assert {
        "settings.ini",
        "runs/Snakefile",
        "nbs/stages/00_data.ipynb",
        "nbs/stages/.notest",
        "nbs/bibliography.bib",
        "nbs/trained/minimovies.safetensors",
    } <= names
    code, out, err = run(
        "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        tmp_path / "installed",
        packed,
    )
    assert code == 0, out + err
    for name, kept in (
        ("base/files.py", "hiermovie/base/files.py"),
        ("trained/minimovies.safetensors", "nbs/trained/minimovies.safetensors"),
    ):
        installed = tmp_path / "installed/hiermovie" / name
        assert installed.read_bytes() == (ROOT / kept).read_bytes()


def test_homes_that_cannot_be_written_to_and_kernels_of_others(tmp_path):
    """A real stage with the kernel of the running Python, whatever is called python3."""
    toy = Repository(tmp_path / "toy", fast=False)
    kernels = tmp_path / "foreign/kernels/python3"
    kernels.mkdir(parents=True)
    (kernels / "kernel.json").write_text(
        json.dumps(
            dict(argv=["/bin/false", "{connection_file}"], display_name="foreign", language="R")
        )
    )
    toy.edit_stage("00_data", "run.finish(dict(", "import sys\nrun.finish(dict(python=sys.prefix, ")
    code, out, err = toy.run(
        tmp_path / "runs", "data", HOME="/proc/nowhere", JUPYTER_PATH=str(tmp_path / "foreign")
    )
    assert code == 0, out + err
    assert (
        json.loads((tmp_path / "runs/data/metrics.json").read_text())["python"] == sys.prefix
        and (tmp_path / "runs/.home").is_dir()
    )


def test_make_gives_a_home_where_there_is_none(folder):
    home, _ = folder
    for given, used in (("/proc/nowhere", str(home / ".home")), (str(home), str(home))):
        done = subprocess.run(
            ["make", "-f", "Makefile", "-f", "-", "print-home"],
            input='print-home:\n\t@echo "$$HOME"\n',
            cwd=home,
            env=dict(ALONE, HOME=given),
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == used, done.stderr
