"""From a user's own films and a table of verbs to trained heads: the profile `own`."""

import json
import shutil

import pandas as pd
import pytest
from conftest import run

from hiermovie.minimovies import World, write_minimovies
from hiermovie.video import list_videos
from hiermovie.vidsitu import EVENTS, read_segments

pytestmark = pytest.mark.slow


@pytest.fixture
def mine(tmp_path):
    "Twenty films of ten seconds, and what happens in them."
    sizes = dict(kinetics=(0, 0), movieclips=0, vidsitu=(15, 5), lvu=(0, 0, 0), boxes=())
    write_minimovies(tmp_path / "world", World(width=48, height=48), **sizes)
    (tmp_path / "films").mkdir()
    rows = []
    for split in ("train", "valid"):
        read = read_segments(tmp_path / "world/vidsitu/vidsitu_annotations", split)
        for k, (name, people) in enumerate(zip(read.ids, read.annotations, strict=True)):
            film = f"{split}_{k}"
            source = tmp_path / f"world/vidsitu/videos/{name}.mp4"
            shutil.copy(source, tmp_path / f"films/{film}.mp4")
            verbs = [people[0][event]["VerbID"] for event in EVENTS]
            rows += [(film, 2 * e, verb, split) for e, verb in enumerate(verbs)]
    table = pd.DataFrame(rows, columns=["video", "start", "verb", "split"])
    table.to_csv(tmp_path / "mine.csv", index=False)
    return tmp_path


def test_the_stages_train_on_a_users_films(mine):
    data, runs = mine / "DATA", mine / "runs"
    code, text, err = run(
        "hiermovie", "data", "own", mine / "mine.csv", "--films", mine / "films", "--out", data
    )
    assert code == 0, err
    assert "20 segments" in text and "15 films" in text
    whole = [p.stem for p in list_videos(data / "movieclips/videos")]
    assert all(name.startswith("train_") for name in whole)  # nothing that is scored
    code, _, err = run("hiermovie", "reproduce", "--profile", "own", "--data", data, "--out", runs)
    assert code == 0, err[-3000:]
    for kind in ("none", "scratch", "maskpred"):
        metrics = json.loads((runs / f"verbs-{kind}/metrics.json").read_text())
        assert (metrics["n"], metrics["of"], len(metrics["scores"])) == (5, 5, 5)
        assert metrics["coverage"]["vidsitu"]["valid"]["share"] == 100
