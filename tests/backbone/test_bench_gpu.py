"""The script behind `make bench-gpu`, with tiny sizes on the CPU: every part runs, the ways to
compute a step are right, and the notebook about benchmarks can read the file.
"""

import pytest
from conftest import ROOT, run

from hiermovie.base import read_json
from hiermovie.results import card_table, measured_cards

pytestmark = pytest.mark.slow


def test_all_parts_with_small_sizes(tmp_path):
    code, out, err = run("python", ROOT / "tests/bench/gpu.py", "--small", "--out", tmp_path)
    assert code == 0, err[-2000:]
    kept = read_json(tmp_path / "small.json")
    assert kept["device"] == "CPU, small sizes"
    works = {"SlowFast, supervised", "SlowFast, CVRL", "SlowFast, MoDist", "Slow, supervised"}
    assert works <= set(kept["training"])
    table = card_table(tmp_path / "small.json")
    assert len(table[table.verdict.isin(["right", "WRONG"])]) >= 20
    # with 16-bit numbers the batch normalization of two clips may turn a gradient round
    exact = table[table.way.isin(["plain", "channels last"]) | table.work.str.contains("superv")]
    assert (exact.verdict == "right").all(), table.to_string()
    assert kept["extraction"] and kept["contextualizer"] and kept["memory"] and kept["kernels"]
    assert len(kept["augmentation"]) == 2
    # torchcodec is not among the requirements
    assert set(kept["not_measured"]) <= {"decoding"} and len(kept["optimizers"]) == 5
    assert measured_cards(tmp_path) == [tmp_path / "small.json"]


def test_without_a_card_nothing_is_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code, _, err = run("python", ROOT / "tests/bench/gpu.py", "--out", tmp_path)
    assert code != 0 and "no graphics card here: nothing was measured" in err
    assert not list(tmp_path.iterdir())
