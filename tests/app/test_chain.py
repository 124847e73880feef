"""The main job, from video files to the page: the whole tiny profile; again, changed, killed and
continued.
"""

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import time

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import BIN, ROOT, run
from measures import STAGES
from PIL import Image

from hiermovie.app import unlisted
from hiermovie.base import read_params, read_profile

pytestmark = pytest.mark.slow

PROFILE = ROOT / "runs/profiles/tiny.yaml"
RUNS = read_profile(PROFILE, ROOT / "nbs/stages")


def metrics(folder, name):
    return (folder / name / "metrics.json").read_bytes()


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny")
    code, text, err = run("hiermovie", "reproduce", "--profile", PROFILE, "--out", out)
    assert code == 0, err[-4000:]
    report, after = text.strip().splitlines()[-2:]
    assert report == f"report: {(out / 'report' / 'index.html').as_uri()}"
    assert after == "next: make lab"
    return out


def test_every_run_is_complete(chain):
    for name in RUNS:
        for file in ("params.json", "metrics.json", "provenance.json"):
            assert (chain / name / file).is_file(), (name, file)
        assert load(chain / "notebooks" / f"{name}.ipynb")["cells"]
        provenance = load(chain / name / "provenance.json")
        assert (
            provenance["seconds"] > 0 and provenance["peak_memory_mb"] < 4096 and provenance["key"]
        )


def test_every_file_of_a_run_is_explained(chain):
    "The page of all stages says of every file in a run folder what it is."
    unexplained = {
        name: unlisted(r["stage"], [p.name for p in (chain / name).iterdir()])
        for name, r in RUNS.items()
    }
    assert {name: files for name, files in unexplained.items() if files} == {}


def test_every_run_has_a_page(chain):
    "Executed notebooks as HTML: code folded, formulas set, no script, links that resolve."
    for name in RUNS:
        page = (chain / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        assert "<script" not in page and '<details class="code">' in page, name
        for link in re.findall(r'href="([^"#:]+)"', page):
            assert (chain / "notebooks" / link).resolve().exists(), (name, link)
    assert "<math" in (chain / "notebooks/contextualizer-cvrl.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def checkout(chain, tmp_path_factory):
    "What a reader has after `make reproduce PROFILE=tiny`: stages, and the runs of tiny."
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "nbs/stages", root / "nbs/stages")
    shutil.copy(ROOT / "settings.ini", root)
    (root / "runs").mkdir()
    (root / "runs/tiny").symlink_to(chain)
    return root


@pytest.mark.parametrize("stage", STAGES, ids=lambda p: p.stem)
def test_a_stage_runs_by_hand(checkout, stage):
    "From its own folder, with its defaults, as in JupyterLab; the run folder is one for trials."
    executed = checkout / "executed.ipynb"
    where = checkout / "nbs/stages"
    code, _, err = run("jupyter", "execute", f"--output={executed}", stage.name, cwd=where)
    assert code == 0, err[-2000:]
    assert (checkout / "runs/trials" / stage.stem / "metrics.json").is_file()
    said = "".join(load(executed)["cells"][-1]["outputs"][0]["text"])
    assert f"papermill nbs/stages/{stage.name} runs/trials/{stage.name}" in said


def test_by_hand_a_missing_run_is_told_with_those_that_there_are(checkout):
    text = (checkout / "nbs/stages/40_verbs.ipynb").read_text(encoding="utf-8")
    (checkout / "nbs/stages/40_verbs.ipynb").write_text(
        text.replace("runs/tiny/features-cvrl", "runs/tiny/features-cvr"), encoding="utf-8"
    )
    where = checkout / "nbs/stages"
    code, _, err = run("jupyter", "execute", "40_verbs.ipynb", cwd=where)
    assert code != 0 and "no finished run there" in err
    assert "features-cvrl, features-modist, features-supervised" in err


def test_every_parameter_reaches_its_stage(chain):
    for name, r in RUNS.items():
        stored, used = load(chain / name / "params.json"), read_params(chain / name)
        for k, v in r["params"].items():
            paths = (
                v
                if not k.endswith(("_run", "_runs")) or not v
                else str(chain / v)
                if isinstance(v, str)
                else [str(chain / n) for n in v]
            )
            assert used[k] == paths and stored[k] == v and type(stored[k]) is type(v), (name, k)


def test_pretraining_losses_fall(chain):
    for name in (
        "backbone-supervised",
        "backbone-cvrl",
        "backbone-modist",
        "contextualizer-cvrl",
        "contextualizer-modist",
    ):
        m = load(chain / name / "metrics.json")
        assert m["last_loss"] < m["first_loss"], name
        log = pd.read_csv(chain / name / "log.csv")
        assert len(log) == m["steps"] and log.loss.notna().all()


def test_features_are_stored_as_vidsitu_stores_them(chain):
    import numpy as np

    files = list((chain / "features-cvrl/vidsitu").glob("v_*_seg_*_feats.npy"))
    assert len(files) == 100
    x = np.load(files[0])
    assert x.shape == (5, 576) and x.dtype == np.float32


def test_scores_come_from_the_official_prediction_files(chain):
    from hiermovie.vidsitu import evaluate, read_predictions

    ann = chain / "data/vidsitu/vidsitu_annotations"
    files = [
        load(ann / f)
        for f in (
            "split_files/vseg_split_valid_lb.json",
            "vinfo_files/vinfo_valid_lb.json",
            "vseg_ann_files/vsann_valid_lb.json",
        )
    ]
    for task in ("verbs", "roles", "relations"):
        stored = load(chain / f"{task}-cvrl-maskpred/metrics.json")
        again = evaluate(
            task, read_predictions(chain / f"{task}-cvrl-maskpred/predictions_seed1.pkl"), *files
        )
        assert {k: v for k, v in stored["scores"][1].items() if k != "seed"} == again
        assert set(stored["baselines"]) == {"majority", "random"}


def said_of(film, trained, folder):
    """What `hiermovie predict` writes of a film."""
    from hiermovie.app import make_film_folder

    make_film_folder(folder, film, *trained)
    said = load(folder / "events.json")
    assert said["world"] == dict(name="MiniMovies", of_this_world=True)
    return said


def test_pages_of_test_films_are_right_as_often_as_the_tables_say(chain, tmp_path):
    from hiermovie.app import open_chain
    from hiermovie.video import video_path
    from hiermovie.vidsitu import evaluate, read_segments

    trained = open_chain(chain)
    assert trained[0].encoder == "backbone-cvrl"
    root = chain / "data/vidsitu"
    valid = read_segments(root / "vidsitu_annotations", "valid")
    verbs, relations = [], []
    for k, segment in enumerate(valid.ids):
        said = said_of(video_path(root / "videos", segment), trained, tmp_path / segment)
        by_event = [[v for v in said["verbs"] if v["event"] == e] for e in range(5)]
        names = [[v["verb"] for v in event] for event in by_event]
        scores = [[v["score"] for v in event] for event in by_event]
        verbs.append(dict(ann_idx=k, pred_vbs_ev=names, pred_scores_ev=scores))
        answers = [[r["relation"]] * 3 for r in said["relations"]]
        sure = [[r["score"]] * 3 for r in said["relations"]]
        relations.append(dict(ann_idx=k, pred_evrels_ev=answers, pred_scores_ev=sure))
    files = [root / "vidsitu_annotations" / f"{kind}_files" for kind in ("vinfo", "vseg_ann")]
    infos, annotations = (load(next(f.glob("*_valid_lb.json"))) for f in files)
    for task, predictions, metric in (
        ("verbs", verbs, "Per_Ev_Top_1"),
        ("relations", relations, "Macro_Top_1"),
    ):
        table = load(chain / f"{task}-cvrl-maskpred/metrics.json")["scores"][0][metric]
        shown = evaluate(task, predictions, valid.ids, infos, annotations)[metric]
        assert shown == pytest.approx(table, abs=1e-9), task


def test_pages_of_lvu_test_films_answer_as_the_predictions(chain, tmp_path):
    from hiermovie.app import open_chain
    from hiermovie.lvu import LVU_CLASSES, class_names, read_lvu

    trained = open_chain(chain)
    predicted = load(chain / "lvu-ours/predictions.json")
    videos = chain / "data/lvu/videos"
    for video in read_lvu(chain / "data/lvu", "scene", "test").video_id[:6]:
        said = said_of(videos / f"{video}.mp4", trained, tmp_path / video)
        for row in said["answers"]:
            if row["task"] in LVU_CLASSES:
                scores = predicted[f"{row['task']}_seed0"][video]
                names = class_names(chain / "data/lvu", row["task"])
                assert row["answer"] == names[scores.index(max(scores))]


def test_command_line_scores(chain, tmp_path):
    ann = chain / "data/vidsitu/vidsitu_annotations"
    code, out, err = run(
        "hiermovie",
        "evaluate",
        "relations",
        "--predictions",
        chain / "relations-cvrl-none/predictions_seed0.json",
        "--split-file",
        ann / "split_files/vseg_split_valid_lb.json",
        "--vinfo",
        ann / "vinfo_files/vinfo_valid_lb.json",
        "--annotations",
        ann / "vseg_ann_files/vsann_valid_lb.json",
        "--out",
        tmp_path / "o.json",
    )
    assert code == 0, err
    assert (
        load(tmp_path / "o.json")["Top_1"]
        == load(chain / "relations-cvrl-none/metrics.json")["scores"][0]["Top_1"]
    )
    (tmp_path / "p.json").write_text(
        json.dumps(load(chain / "lvu-ours/predictions.json")["scene_seed0"])
    )
    code, out, err = run(
        "hiermovie",
        "evaluate",
        "lvu",
        "--task",
        "scene",
        "--predictions",
        tmp_path / "p.json",
        "--lvu-root",
        chain / "data/lvu",
        "--out",
        tmp_path / "l.json",
    )
    assert code == 0, err
    assert (
        load(tmp_path / "l.json")["accuracy"]
        == load(chain / "lvu-ours/metrics.json")["scores"]["scene"][0]["accuracy"]
    )


def test_tables_say_what_ran(chain):
    for name, backbones in (("verbs", 4), ("relations", 3), ("roles", 2)):
        t = pd.read_csv(chain / f"report/table_{name}.csv", keep_default_na=False)
        assert (
            not (t.status == "not run").any()
            and t[t.status == "run"].backbone.nunique() == backbones
        )
        assert {"(majority)", "(random)"} <= set(t.backbone) and set(
            t[t.status == "run"].seeds
        ) == {"2.0"}
    lvu = pd.read_csv(chain / "report/table_lvu.csv")
    ranks = lvu.metric.isin(["Top1 rank", "mean rank"])
    assert (
        (lvu[~ranks].status == "run").sum() == 45
        and not (lvu.status == "not run").any()
        and (lvu[ranks].status == "run").sum() == 10
        and lvu[ranks].paper.notna().all()
    )
    assert set(lvu[lvu.status == "extra"].instance) == {
        "Object Transformer ++",
        "Object Transformer ++ (early fusion)",
    }
    best = lvu[lvu.status == "ceiling"].set_index("task")["mean"]
    assert (
        len(best) == 9
        and best["director"] == 100
        and 0.5 < best["genre"] / 100 < 1
        and best["view_count"]
        < lvu[(lvu.task == "view_count") & (lvu.status == "baseline")]["mean"].min()
    )
    accuracy = lvu[(lvu.metric == "accuracy") & (lvu.status == "run")]
    assert (
        (accuracy.low <= accuracy["mean"] + 1e-9) & (accuracy["mean"] <= accuracy.high + 1e-9)
    ).all()


def test_fusion_is_what_both_rows_say(chain):
    """The late row again, from the predictions of its two runs and the weight that was chosen; the
    audit's ranks are the table's.
    """
    from hiermovie.lvu import LVU_CLASSES, LVU_TASKS, fuse, lvu_metrics, read_splits

    fused, scene, instance = (
        load(chain / f"lvu-{k}/metrics.json") for k in ("fused", "ours", "objects-cvrl")
    )
    said = [load(chain / f"lvu-{k}/predictions.json") for k in ("objects-cvrl", "ours")]
    for task in LVU_TASKS:
        t = read_splits(chain / "data/lvu", task)
        for m in fused["scores"][task]:
            again = lvu_metrics(
                task,
                fuse(
                    *(p[f"{task}_seed{m['seed']}"] for p in said), m["weight"], task in LVU_CLASSES
                ),
                t["test"],
                t["train"],
            )
            assert {k: v for k, v in m.items() if k not in ("seed", "weight")} == again
    assert set(fused["early"]) == set(LVU_TASKS) and (scene["model"], instance["model"]) == (
        "scene",
        "instance",
    )
    table = pd.read_csv(chain / "report/table_lvu.csv")
    ranks = {r["row"]: r["mean_rank"] for r in load(chain / "lvu-audit/metrics.json")["ranks"]}
    assert sorted(round(x, 6) for x in ranks.values()) == sorted(
        table[table.metric == "mean rank"]["mean"].round(6)
    )


def test_instances_are_where_the_boxes_are(chain):
    from hiermovie.lvu import read_boxes, read_instance_store

    found, index = read_instance_store(chain / "instances-cvrl/lvu")
    assert len(found) == 48 and index["dim"] == 576
    for video, x in list(found.items())[:5]:
        boxes = read_boxes(chain / f"data/lvu/boxes/{video}.csv")
        known = {(r.second, round(r.x1, 3), round(r.y1, 3)) for r in boxes.itertuples()}
        assert {
            (int(s), round(float(b[0]), 3), round(float(b[1]), 3))
            for s, b in zip(x.seconds, x.boxes, strict=True)
        } <= known and len(set(x.tracks)) < len(x)


def test_probes_stand_beside_untrained_networks(chain):
    """The table of the page has the stored scores; the untrained network of two runs of one
    architecture is one and the same.
    """
    scores = {
        b: load(chain / f"probe-{b}/metrics.json")["scores"]
        for b in ("supervised", "cvrl", "modist")
    }
    assert (
        scores["cvrl"]["random weights"] == scores["modist"]["random weights"]
        and scores["cvrl"]["trained"] != scores["modist"]["trained"]
    )
    page = (chain / "report/index.html").read_text()
    for s in scores.values():
        assert (
            f"{50 * sum(s['trained']['linear']):.1f} ±" in page
            and s["trained"]["n"] == 40
            and len(s["trained"]["linear"]) == 2
        )
    assert "(most frequent class)" in page


def test_shards_processes_and_conventions(chain, tmp_path):
    """Stage 05 and what stages 10 and 20 do in two processes; pretraining from shards ends with the
    bytes of pretraining from files; stage 20 with a checkpoint in place of a run, and verbs on it.
    """
    import numpy as np

    from hiermovie.backbone import X3D, X3DConfig, save_backbone

    save_backbone(tmp_path / "x3d.safetensors", X3D(X3DConfig(8, 1, 4, 32)))

    small = (
        "stage: 10_pretrain_backbone, data_run: data, width: 8, size: 32, batch: 20, hidden: 16, "
        "projection: 8, save_every: 4"
    )
    data = yaml.safe_dump(RUNS["data"]["params"], default_flow_style=True)
    (tmp_path / "more.yaml").write_text(f"""runs:
  data: {{stage: 00_data, {data.strip()[1:-1]}}}
  shards: {{stage: 05_shards, data_run: data, shard_mb: 1}}
  from-files: {{{small}}}
  from-shards: {{{small}, shards_run: shards}}
  two-processes: {{{small}, processes: 2}}
  features-two: {{stage: 20_extract_features, data_run: data, backbone_run: two-processes,
    corpora: [vidsitu], processes: 2, convention: vidsitu}}
  features-given: {{stage: 20_extract_features, data_run: data, corpora: [vidsitu],
    checkpoint: "{tmp_path / "x3d.safetensors"}"}}
  verbs-given: {{stage: 40_verbs, data_run: data, features_run: features-given, standardize: false,
    seeds: [0], epochs: 1}}
""")
    code, _, err = run(
        "hiermovie", "reproduce", "--profile", tmp_path / "more.yaml", "--out", chain
    )
    assert code == 0, err[-3000:]
    shards = load(chain / "shards/metrics.json")
    assert (
        shards["videos"] == 200
        and shards["shards"] == len(list((chain / "shards").glob("shard-*.tar"))) > 1
    )
    assert (chain / "from-files/backbone.safetensors").read_bytes() == (
        chain / "from-shards/backbone.safetensors"
    ).read_bytes()
    assert (
        len(pd.read_csv(chain / "two-processes/log.csv"))
        == len(pd.read_csv(chain / "from-files/log.csv"))
        == 10
    )
    assert load(chain / "features-given/metrics.json")["dim"] == 2048
    assert load(chain / "verbs-given/metrics.json")["scores"][0]["Per_Ev_Top_5"] > 0
    assert len(list((chain / "features-two").glob("coverage-*-of-2.csv"))) == 2 and load(
        chain / "features-two/metrics.json"
    )["videos"] == {"vidsitu": 100}
    assert (
        np.load(next((chain / "features-two/vidsitu").glob("*.npy"))).shape == (5, 288)
        and load(chain / "features-two/vidsitu/index.json")["convention"] == "vidsitu"
    )


def test_other_ways_of_the_high_level(chain, tmp_path):
    """End-to-end tuning and features of the tuned backbone, GPT-2 as decoder, relations from text,
    mixed collections with the second term; and a sweep.
    """
    profile = yaml.safe_load(PROFILE.read_text())
    profile["runs"] |= {
        "tuned": dict(
            stage="40a_verbs_end_to_end",
            backbone_run="backbone-cvrl",
            contextualizer="pretrained",
            contextualizer_run="contextualizer-cvrl",
            data_run="data",
            epochs=4,
            labelled=20,
        ),
        "features-tuned": dict(
            stage="20_extract_features", backbone_run="tuned", corpora=["vidsitu"]
        ),
        "roles-gpt2": dict(
            stage="41_roles",
            features_run="features-tuned",
            decoder="gpt2",
            beam=2,
            no_repeat=3,
            seeds=[0],
            epochs=1,
            max_len=20,
            labelled=20,
        ),
        "relations-text": dict(
            stage="42_relations",
            features_run="features-cvrl",
            inputs="text",
            weigh_classes=True,
            seeds=[0],
            epochs=2,
        ),
        "relations-both": dict(
            stage="42_relations", features_run="features-cvrl", inputs="both", seeds=[0], epochs=2
        ),
        "contextualizer-mixed": dict(
            stage="30_pretrain_contextualizer",
            features_run="features-cvrl",
            corpora=dict(movieclips=2, vidsitu=1, lvu=1),
            window_weight=0.5,
            epochs=2,
        ),
    }
    profile["runs"].pop("report")
    profile["sweeps"] = dict(
        loss=dict(
            parameter="loss",
            values=["queue", "cosine"],
            seeds=[0],
            runs=["contextualizer-cvrl"],
            measure=["verbs-cvrl-maskpred", "verbs-cvrl-none"],
        )
    )
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(profile))
    code, _, err = run(
        "hiermovie",
        "reproduce",
        "--profile",
        tmp_path / "more.yaml",
        "--out",
        chain,
        "roles-gpt2",
        "relations-text",
        "relations-both",
        "contextualizer-mixed",
        "sweep-loss",
    )
    assert code == 0, err[-3000:]
    tuned = load(chain / "tuned/metrics.json")
    assert (
        tuned["last_loss"] < tuned["first_loss"]
        and (chain / "tuned/backbone.safetensors").read_bytes()
        != (chain / "backbone-cvrl/backbone.safetensors").read_bytes()
    )
    assert (
        load(chain / "features-tuned/metrics.json")["videos"] == {"vidsitu": 100}
        and load(chain / "roles-gpt2/metrics.json")["scores"][0]["rouge"] >= 0
    )
    said = load(chain / "relations-text/predictions_seed0.json")
    assert {len(e) for p in said for e in p["pred_evrels_ev"]} == {3}
    mixed = load(
        chain / "contextualizer-mixed/metrics.json"
    )  # 40 + 24 are scored, so they are left out
    assert mixed["left_out"] == 40 + 8 + 16 and mixed["videos"] + mixed["held_out"] == 60 + 60 + 24
    sweep = pd.read_csv(chain / "sweep-loss/sweep.csv", keep_default_na=False)
    assert (
        len(sweep) == 2 + 1 + 1 + 2 * 2
        and set(sweep.value) == {"queue", "cosine", ""}
        and (chain / "sweep-loss/sweep.png").stat().st_size > 10_000
    )


def shown(page, alt):
    "The picture of a page whose alternative text begins so."
    tags = [tag for tag in re.findall(r"<img[^>]*>", page) if f'alt="{alt}' in tag]
    (tag,) = tags[:1]
    data = re.search(r'src="data:image/\w+;base64,([^"]+)"', tag)[1]
    return Image.open(io.BytesIO(base64.b64decode(data)))


def same_picture(picture, file):
    "Is it the picture of a file, stored again, perhaps smaller and with small losses?"
    original = Image.open(file).convert("RGB")
    again = picture.convert("RGB").resize(original.size)
    apart = np.abs(np.asarray(again, float) - np.asarray(original, float))
    same_shape = abs(picture.width / picture.height * original.height / original.width - 1) < 0.02
    return same_shape and apart.mean() < 10


def test_pictures_and_statistics(chain):
    page = (chain / "report/index.html").read_text()
    context = re.search(r'alt="([\w-]+): frames of a film, two of them hidden', page)[1]
    for name, alt in (
        (f"{context}/mask", f"{context}: frames of a film, two of them hidden"),
        (f"{context}/nearest", f"{context}: frames of a film, one hidden"),
        ("gallery/attention", "Five frames; bars show"),
        ("gallery/before_after", "Clouds of points"),
        ("statistics/statistics", "Bars"),
    ):
        assert same_picture(shown(page, alt), chain / f"{name}.png"), name
    m = load(chain / "statistics/metrics.json")["statistics"]
    assert (
        m["train"]["segments"] == 60
        and m["valid"]["segments"] == 40
        and m["train"]["annotator pairs with the same relation"] is None
        and 0.3 < m["valid"]["pairs of votes for the same verb"] < 0.95
    )
    found = load(chain / "contextualizer-cvrl/metrics.json")["retrieval"]
    assert (
        found["among"] == 100
        and set(found["found"]) == {"model", "mean", "left", "neighbours"}
        and found["found"]["model"] > 3 * found["chance"]
    )


def test_executed_notebooks_show_their_figures(chain):
    """A reader who opens them sees every figure that the stage draws, not the first one only."""

    def figures(name):
        outputs = [
            o
            for c in load(chain / f"notebooks/{name}.ipynb")["cells"]
            for o in c.get("outputs", [])
        ]
        return sum("image/png" in o.get("data", {}) for o in outputs)

    drawn = {
        "backbone-cvrl": 2,
        "features-cvrl": 2,
        "contextualizer-cvrl": 4,
        "verbs-cvrl-maskpred": 3,
        "gallery": 3,
        "lvu-audit": 3,
        "report": 12,
    }
    assert {name: figures(name) for name in drawn} == drawn


def test_the_page_is_self_contained(chain):
    page = (chain / "report/index.html").read_text()
    assert len(re.findall(r"data:image/(?:png|webp|jpeg);base64,", page)) >= 5
    assert "61.2" in page  # the poster's value beside ours
    assert 'src="http' not in page and "<script" not in page and "<link" not in page


def test_claims_are_computed_and_tiny_claims_nothing(chain):
    """Two seeds are too few for a verdict; the differences are those of the tables."""
    claims = pd.read_csv(chain / "report/claims.csv", keep_default_na=False)
    assert (
        set(claims.verdict) == {"cannot be tested here"}
        and len(
            claims[claims.control == "True" if claims.control.dtype == object else claims.control]
        )
        == 4
    )
    t = (
        pd.read_csv(chain / "report/table_verbs.csv")
        .query("metric == 'Acc@1' and status == 'run'")
        .set_index(["backbone", "contextualizer"])["mean"]
    )
    mine = claims[
        (claims.metric == "Acc@1")
        & claims.claim.str.contains("from scratch")
        & (claims.difference != "")
    ].iloc[0]
    assert (
        abs(
            float(mine.difference)
            - (t["Contrastive (CVRL)", "Mask prediction"] - t["Contrastive (CVRL)", "From scratch"])
        )
        < 1e-9
    )
    assert float(mine.low) <= float(mine.difference) <= float(mine.high)
    best = (
        pd.read_csv(chain / "report/table_verbs.csv")
        .query("status == 'ceiling' and metric == 'Acc@1'")["mean"]
        .tolist()
    )
    assert best[0] > best[1] > t.max()


def test_three_segments_play_in_the_page(chain):
    page = (chain / "report/index.html").read_text()
    assert (
        page.count('src="data:video/mp4;base64,') in (2, 3)
        and re.search('class="(?:right|part)"', page)
        and 'class="wrong"' in page
    )
    films = [
        base64.b64encode(p.read_bytes()).decode()
        for p in (chain / "data/vidsitu/videos").glob("*.mp4")
    ]
    assert sum(f in page for f in films) in (
        2,
        3,
    )  # the median segment may be the first or the last one too


def test_a_run_is_compared_with_its_reference(chain, tmp_path):
    """Kept as the reference, compared with itself, then with one number moved by more than luck
    moves it, and with other data.
    """
    code, out, err = run(
        "hiermovie", "check", "--out", chain, "--reference", tmp_path / "ref", "--keep"
    )
    assert code == 0 and "files" in out, err
    page = (tmp_path / "ref/index.html").read_text()
    assert not page.count("../notebooks/") and 'href="notebook-lvu-ours.html"' in page
    assert sum(p.stat().st_size for p in (tmp_path / "ref").iterdir()) < 8e6
    code, out, err = run("hiermovie", "check", "--out", chain, "--reference", tmp_path / "ref")
    assert (
        code == 0
        and out.strip().endswith("nothing moved beyond its tolerance")
        and " within" not in out
        and "MOVED" not in out
    ), out + err
    n = len(RUNS) - 1  # the report is not compared with itself
    assert f"metrics of {n} runs: {n} equal to the bit\n" in out, out
    table = pd.read_csv(tmp_path / "ref/table_verbs.csv", keep_default_na=False, na_values=[""])
    table.loc[0, "mean"] += 40
    table.to_csv(tmp_path / "ref/table_verbs.csv", index=False)
    told = load(tmp_path / "ref/metrics.json")
    told["data"]["fingerprint"] = "other"
    (tmp_path / "ref/metrics.json").write_text(json.dumps(told))
    code, out, err = run("hiermovie", "check", "--out", chain, "--reference", tmp_path / "ref")
    assert (
        code == 1
        and out.count("MOVED: verbs, Supervised / None, Acc@1") == 1
        and "OTHER ANNOTATIONS in data" in out
        and "equal to the bit; other: data\n" in out
    ), out + err


def test_nothing_is_done_twice_and_a_changed_parameter_runs_only_what_it_touches(chain, tmp_path):
    before = {n: (chain / n / "metrics.json").stat().st_mtime_ns for n in RUNS}
    profile = yaml.safe_load(PROFILE.read_text())
    profile["runs"]["verbs-cvrl-none"]["epochs"] = 3
    (tmp_path / "changed.yaml").write_text(yaml.safe_dump(profile))
    for path, touched in (
        (PROFILE, set()),
        (tmp_path / "changed.yaml", {"verbs-cvrl-none", "report"}),
    ):
        code, _, err = run("hiermovie", "reproduce", "--profile", path, "--out", chain)
        assert code == 0, err[-3000:]
        after = {n: (chain / n / "metrics.json").stat().st_mtime_ns for n in RUNS}
        assert {n for n in RUNS if after[n] != before[n]} == touched


def test_killed_and_continued_gives_the_same_numbers(chain, tmp_path):
    """A second chain in another folder is killed (SIGKILL, all its processes) in the middle of
    contrastive pretraining, then continued: metrics are equal to the byte.
    """
    argv = [
        str(BIN / "hiermovie"),
        "reproduce",
        "--profile",
        str(PROFILE),
        "--out",
        str(tmp_path / "second run"),
        "verbs-cvrl-maskpred",
        "roles-supervised-none",
    ]
    env = dict(os.environ, PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    going = subprocess.Popen(
        argv,
        cwd=ROOT,
        env=env,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    state, limit = tmp_path / "second run/backbone-cvrl/state.pt", time.time() + 240
    while not state.exists() and time.time() < limit and going.poll() is None:
        time.sleep(0.1)
    assert state.exists(), "contrastive pretraining never got to its first checkpoint"
    kill_family(going.pid)
    going.wait()
    assert not (tmp_path / "second run/backbone-cvrl/metrics.json").exists()
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in (
        "data",
        "backbone-cvrl",
        "backbone-supervised",
        "features-cvrl",
        "contextualizer-cvrl",
        "verbs-cvrl-maskpred",
        "roles-supervised-none",
    ):
        assert metrics(chain, name) == metrics(tmp_path / "second run", name), name


def kill_family(pid):
    """SIGKILL for a process and everything that it has started."""
    import psutil

    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for p in family:
        try:
            os.kill(p.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    psutil.wait_procs(family, timeout=10)


@pytest.mark.parametrize(
    "name, rows", [("kinetics", 240), ("movieclips", 60), ("vidsitu", 100), ("lvu", 9 * 48)]
)
def test_data_scripts_count_what_is_there(chain, tmp_path, name, rows):
    shutil.copytree(chain / "data" / name, tmp_path / name)
    code, out, err = run(
        "python", ROOT / f"data_scripts/get_{name}.py", "--out", tmp_path, "--count"
    )
    assert code == 0, err
    counted = load(tmp_path / f"coverage_{name}.json")
    assert sum(split["present"] for split in counted.values()) == rows
    assert all(split["share"] == 100 for split in counted.values()) and "share" in out
