"""A user's mistake: one clear line that names the file, row or parameter, an exit code that is not
zero, and nothing finished is lost.
"""

import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, run

from hiermovie.backbone import SlowFast, SlowFastConfig, save_backbone
from hiermovie.base import InputError
from hiermovie.lvu import read_lvu
from hiermovie.video import list_videos, read_kinetics

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("c") / "backbone.safetensors"
    save_backbone(path, SlowFast(SlowFastConfig(18, 16, frames=8, size=64)))
    return path


def one_line(code, out, err, *words):
    assert code == 2 and "Traceback" not in err
    assert len(err.strip().splitlines()) == 1, err
    for w in words:
        assert w in err, err


def test_unknown_profile():
    one_line(*run("hiermovie", "reproduce", "--profile", "huge"), "huge", "tiny")


def test_unknown_parameter(tmp_path):
    (tmp_path / "p.yaml").write_text("runs:\n  data: {stage: 00_data, frames_per_second: 8}\n")
    one_line(
        *run("hiermovie", "reproduce", "--profile", tmp_path / "p.yaml"),
        "run data",
        "unknown parameter frames_per_second",
    )


def test_unknown_run(tmp_path):
    (tmp_path / "p.yaml").write_text("runs:\n  b: {stage: 10_pretrain_backbone, data_run: dta}\n")
    one_line(*run("hiermovie", "reproduce", "--profile", tmp_path / "p.yaml"), "run b", "dta")


def test_features_of_broken_videos(tmp_path, checkpoint):
    film = ROOT / "tests/fixtures/trailer_bbb_small.mp4"
    (tmp_path / "cut.mp4").write_bytes(film.read_bytes()[:3000])
    (tmp_path / "empty.mp4").touch()
    for bad, why in (
        ("cut.mp4", "cannot be decoded"),
        ("empty.mp4", "empty"),
        ("none.mp4", "no such video"),
    ):
        one_line(
            *run(
                "hiermovie",
                "features",
                tmp_path / bad,
                "--checkpoint",
                checkpoint,
                "--out",
                tmp_path / "f",
            ),
            bad,
            why,
        )
    code, out, err = run(
        "hiermovie",
        "features",
        tmp_path / "cut.mp4",
        film,
        "--checkpoint",
        checkpoint,
        "--out",
        tmp_path / "f",
    )
    assert code == 2 and np.load(tmp_path / "f/trailer_bbb_small_feats.npy").shape == (27, 576)
    table = pd.read_csv(tmp_path / "f/coverage.csv")  # rows of earlier calls stay
    assert table.status.value_counts().to_dict() == dict(skipped=3, ok=1)
    assert table.item.is_unique


def test_wrong_checkpoint(tmp_path):
    (tmp_path / "c.pyth").write_bytes(b"not weights")
    one_line(
        *run(
            "hiermovie",
            "features",
            ROOT / "tests/fixtures/trailer_bbb_small.mp4",
            "--checkpoint",
            tmp_path / "c.pyth",
            "--out",
            tmp_path,
        ),
        "c.pyth",
        "not a checkpoint",
    )


def test_empty_folder_and_wrong_column(tmp_path):
    with pytest.raises(InputError, match="is empty"):
        list_videos(tmp_path)
    (tmp_path / "train.csv").write_text("class,youtube_id,time_start,time_end\na,b,0,4\n")
    with pytest.raises(InputError, match="train.csv: no column label"):
        read_kinetics(tmp_path, "train")
    (tmp_path / "genre").mkdir()
    (tmp_path / "genre/test.csv").write_text(
        "class_id class_name youtube_id imdb_id\n0 Comedy a t\n7 Opera b t\n"
    )
    with pytest.raises(InputError, match="test.csv, row 3: class_id 7"):
        read_lvu(tmp_path, "genre", "test")


def test_a_chain_with_bad_data(tmp_path, world):
    """Two backbones: one broken clip is skipped and written down; a CSV without its column stops
    the run with one line; mended, it makes the data run again, and the terminal says why.
    """
    data = tmp_path / "data"
    shutil.copytree(world / "kinetics", data / "kinetics")
    clips = sorted((data / "kinetics/train").rglob("*.mp4"))
    clips[0].write_bytes(clips[0].read_bytes()[:500])
    profile = {
        "runs": {
            "data": {"stage": "00_data", "source": str(data)},
            "backbone": {
                "stage": "10_pretrain_backbone",
                "data_run": "data",
                "objective": "supervised",
                "batch": 8,
            },
        }
    }
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(profile))

    def go():
        return run(
            "hiermovie", "reproduce", "--profile", tmp_path / "p.yaml", "--out", tmp_path / "runs"
        )

    (data / "kinetics/train.csv").rename(data / "kinetics/kept.csv")
    pd.read_csv(data / "kinetics/kept.csv").rename(columns={"label": "class"}).to_csv(
        data / "kinetics/train.csv", index=False
    )
    code, out, err = go()
    assert code == 1
    line = [x for x in err.splitlines() if x.startswith("failed: backbone")]
    assert len(line) == 1 and "train.csv: no column label" in line[0], err
    assert (tmp_path / "runs/data/metrics.json").is_file(), "what was finished must be kept"

    (data / "kinetics/kept.csv").rename(data / "kinetics/train.csv")
    code, out, err = go()
    assert (
        code == 0
        and "data: files: 1 changed (kinetics/train.csv); 1 removed (kinetics/kept.csv)" in out
    ), out + err
    for name, total in (("data", 20), ("backbone", 16)):
        coverage = pd.read_csv(tmp_path / f"runs/{name}/coverage.csv")
        skipped = coverage[coverage.status == "skipped"]
        assert (
            len(coverage) == total
            and list(skipped.item) == [clips[0].name]
            and clips[0].name in skipped.why.iloc[0]
        )


def test_unknown_target():
    one_line(
        *run("hiermovie", "reproduce", "--profile", "tiny", "verbs-of-another-world"),
        "no run called verbs-of-another-world",
    )


def test_a_missing_video_makes_every_number_partial(tmp_path, world):
    """One validation video is gone: predictions keep the official numbering, scores are of three of
    four segments and say so, in files and in the report.
    """
    import json

    data, out = tmp_path / "data", tmp_path / "runs"
    for corpus in ("kinetics", "vidsitu"):
        shutil.copytree(world / corpus, data / corpus)
    ann = data / "vidsitu/vidsitu_annotations"
    split = json.loads((ann / "split_files/vseg_split_valid_lb.json").read_text())
    (data / f"vidsitu/videos/{split[0]}.mp4").unlink()
    fast = dict(epochs=1, seeds=[0], data_run="data", features_run="features", allow_missing=True)
    profile = {
        "runs": {
            "data": {"stage": "00_data", "source": str(data)},
            "backbone": {
                "stage": "10_pretrain_backbone",
                "data_run": "data",
                "objective": "supervised",
                "epochs": 1,
                "batch": 8,
                "depth": 18,
                "width": 16,
                "frames": 8,
                "size": 64,
            },
            "features": {
                "stage": "20_extract_features",
                "data_run": "data",
                "backbone_run": "backbone",
                "corpora": ["vidsitu"],
            },
            "verbs": {"stage": "40_verbs"} | fast,
            "roles": {"stage": "41_roles"} | fast,
            "report": {"stage": "90_report", "reads_runs": "all"},
        }
    }
    (tmp_path / "p.yaml").write_text(
        yaml.safe_dump(profile).replace("allow_missing: true", "allow_missing: false")
    )
    code, _, err = run("hiermovie", "reproduce", "--profile", tmp_path / "p.yaml", "--out", out)
    assert (
        code == 1
        and (
            f"no features for 1 of the 4 segments, first {split[0]}; to go on without them, set "
            "allow_missing"
        )
        in err
    ), err
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(profile))
    code, _, err = run("hiermovie", "reproduce", "--profile", tmp_path / "p.yaml", "--out", out)
    assert code == 0, err
    for task in ("verbs", "roles"):
        m = json.loads((out / task / "metrics.json").read_text())
        scores = m["scores"][0]
        assert (m["n"], m["of"], scores["partial"], scores["missing"]) == (3, 4, True, split[:1])
        assert [
            p["ann_idx"] for p in json.loads((out / task / "predictions_seed0.json").read_text())
        ] == [1, 2, 3]
        argv = [
            "evaluate",
            task,
            "--predictions",
            out / task / "predictions_seed0.pkl",
            "--split-file",
            ann / "split_files/vseg_split_valid_lb.json",
            "--vinfo",
            ann / "vinfo_files/vinfo_valid_lb.json",
            "--annotations",
            ann / "vseg_ann_files/vsann_valid_lb.json",
            "--out",
            tmp_path / "o.json",
        ]
        one_line(
            *run("hiermovie", *argv),
            "predictions_seed0.pkl: 1 of 4 segments have no prediction",
            split[0],
        )
        assert run("hiermovie", *argv, "--allow-missing")[0] == 0
        again = json.loads((tmp_path / "o.json").read_text())
        assert {k: v for k, v in scores.items() if k != "seed"} == {
            k: v for k, v in again.items() if k != "table"
        }
        table = (out / f"report/table_{task}.md").read_text()
        assert "†" in table and "PARTIAL, of 4" in table
