"""The shared metric cases: agreement with the official evaluator to 1e-9."""
import json
from pathlib import Path

import pytest

from hiermovie.metrics import evaluate, read_predictions

CASES = Path(__file__).parent/"data"/"metric_cases"
TASK = {"vb": "verbs", "vb_arg": "roles", "evrel": "relations"}


@pytest.mark.parametrize("suffix", ["json", "pkl"])
@pytest.mark.parametrize("case", ["pub_vb", "pub_vb_arg", "pub_evrel"])
def test_official_values(case, suffix):
    folder = CASES/case
    read = lambda name: json.loads(next(folder.glob(f"{name}/*.json")).read_text(encoding="utf-8"))
    task = TASK[json.loads((folder/"case.json").read_text())["task"]]
    got = evaluate(task, read_predictions(folder/f"pred.{suffix}"), read("split_files"), read("vinfo_files"), read("vseg_ann_files"))
    expected = json.loads((folder/"expected.json").read_text())
    assert set(expected) <= set(got)
    for key, want in expected.items():
        if isinstance(want, dict):
            assert got[key].keys() == want.keys()
            for k in want: assert abs(got[key][k] - want[k]) <= 1e-9, (key, k)
        else: assert abs(got[key] - want) <= 1e-9, key
