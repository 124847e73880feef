"""What the tests share: the root of the repository, the command line, and one small set of real
video files.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # small tensors: more threads only wait for each other

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def pytest_collection_modifyitems(items):
    """Quick tests first, so that a small mistake is seen early."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def run(*argv, cwd=ROOT, **kw):
    """Run a program of the environment; gives exit code, stdout, stderr."""
    env = dict(os.environ, PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}", OMP_NUM_THREADS="1")
    done = subprocess.run(
        [str(BIN / argv[0]), *map(str, argv[1:])],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        **kw,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A few films of all four corpora."""
    from hiermovie.minimovies import write_minimovies

    root = tmp_path_factory.mktemp("world")
    write_minimovies(root, kinetics=(16, 4), movieclips=8, vidsitu=(4, 4), lvu=(4, 2, 2))
    return root
