"""How long does it take until anything happens? `make bench`. Medians of five fresh processes, in
turns: `hiermovie --help` beside a Python that does nothing, and an empty stage notebook beside one
that imports what stages import.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from rows import row

HIERMOVIE = str(Path(sys.executable).parent / "hiermovie")
IMPORTS = """
import pandas as pd
import torch
from hiermovie.base import start_run
from hiermovie.vidsitu import VerbModel
"""
RUN = """
import sys
from pathlib import Path
from hiermovie.base.execution import run_notebook
run_notebook(Path(sys.argv[1]), Path(sys.argv[2]), {}, ".")
"""


def notebook(path: Path, code: str) -> Path:
    cells = [nbformat.v4.new_code_cell("out = ''", metadata=dict(tags=["parameters"]))]
    cells.append(nbformat.v4.new_code_cell(code))
    kernel = dict(name="python3", display_name="Python", language="python")
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=dict(kernelspec=kernel)), path)
    return path


def seconds(argv: list) -> float:
    began = time.perf_counter()
    subprocess.run(argv, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp)
        done = str(folder / "done.ipynb")
        empty = str(notebook(folder / "empty.ipynb", "1"))
        full = str(notebook(folder / "stage.ipynb", IMPORTS))
        sides = {
            "python": [sys.executable, "-c", ""],
            "help": [HIERMOVIE, "--help"],
            "empty": [sys.executable, "-P", "-c", RUN, empty, done],
            "stage": [sys.executable, "-P", "-c", RUN, full, done],
        }
        times = {name: [] for name in sides}
        for _ in range(5):
            for name, argv in sides.items():
                times[name].append(seconds(argv))
        took = {name: statistics.median(t) for name, t in times.items()}
    python, empty = ("an empty Python", took["python"]), ("an empty notebook", took["empty"])
    row("hiermovie --help", took["help"], "s", limit=("wanted", 0.3), beside=python)
    row("start of a stage", took["stage"], "s", limit=("wanted", 2.0), beside=empty)


if __name__ == "__main__":
    main()
