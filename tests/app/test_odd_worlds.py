"""Real stages on data as the web has them: other containers, texts that look like formulas or
markup, data sets that are missing; and profile `paper` at toy size.
"""

import html.parser
import json
import shutil

import av
import pandas as pd
import pytest
import yaml
from conftest import ROOT, run

from hiermovie.base import read_yaml
from hiermovie.minimovies import World, write_minimovies

pytestmark = pytest.mark.slow

ATTACK = "<img src=x onerror=alert(1)>"


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def remux(path, suffix):
    """The same packets in another container."""
    new = path.with_suffix(suffix)
    with av.open(str(path)) as old, av.open(str(new), "w") as out:
        stream = out.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    path.unlink()
    return new


def to_webm(path):
    """The same pictures as VP9."""
    with av.open(str(path)) as old, av.open(str(path.with_suffix(".webm")), "w") as out:
        stream = out.add_stream(
            "libvpx-vp9", rate=old.streams.video[0].average_rate, options=dict(deadline="realtime")
        )
        stream.width, stream.height, stream.pix_fmt = (
            old.streams.video[0].width,
            old.streams.video[0].height,
            "yuv420p",
        )
        for frame in old.decode(video=0):
            frame.pts = None
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    path.unlink()


TEXTS = [
    "a rapper named Ca$$idy",
    "from $5 to $10",
    f"{ATTACK}<script>alert(2)</script>",
    "a_b \\alpha ^\nnew line",
    "</td></table><b>&amp;",
]


def make_odd_kinetics(root):
    """Clips as .webm, and a class whose name is markup."""
    for clip in sorted(root.rglob("*.mp4")):
        to_webm(clip)
    label = sorted(p.name for p in (root / "train").iterdir())[0]
    for split in ("train", "val"):
        table = pd.read_csv(root / f"{split}.csv", dtype=str)
        table.replace({"label": {label: ATTACK}}).to_csv(root / f"{split}.csv", index=False)
        if (root / split / label).is_dir():
            (root / split / label).rename(root / split / ATTACK)


def make_odd_event(event, k):
    """Markup in verb and roles, formulas in texts."""
    names = [f"{name} {ATTACK}" if name.startswith("Arg0") else name for name in event["Args"]]
    event["Args"] = {name: TEXTS[(k + j) % len(TEXTS)] for j, name in enumerate(names)}
    event["VerbID"] = event["VerbID"].replace("open.01", f"{ATTACK}$x_1$.01")


def make_odd_vidsitu(root):
    """Segments as .mkv with markup in their ids, and annotations to fit."""
    ids = sorted(p.stem for p in (root / "videos").glob("*.mp4"))
    names = {i: i.replace("v_", f"v_{ATTACK}", 1) for i in ids}
    for i, new in names.items():
        remux(root / f"videos/{i}.mp4", ".mkv").rename(root / f"videos/{new}.mkv")
    for path in (root / "vidsitu_annotations").rglob("*.json"):
        text = path.read_text()
        for i, new in names.items():
            text = text.replace(f'"{i}"', f'"{new}"')
        entries = json.loads(text)
        for k, entry in enumerate(entries if "vsann" in path.name else []):
            for event in ("Ev1", "Ev2", "Ev3", "Ev4", "Ev5"):
                make_odd_event(entry[event], k)
        path.write_text(json.dumps(entries), encoding="utf-8")


ODD = """
defaults:
  10_pretrain_backbone: {data_run: data, width: 8, frames: 4, size: 32, batch: 10, hidden: 16,
    projection: 8, epochs: 1}
  40_verbs: {data_run: data, features_run: features, epochs: 1}
  41_roles: {data_run: data, features_run: features, epochs: 1, max_len: 20, bpe_size: 300}
  42_relations: {data_run: data, features_run: features, epochs: 1}
runs:
  data: {stage: 00_data, source: ""}
  backbone: {stage: 10_pretrain_backbone, objective: supervised}
  probe: {stage: 15_probe_backbone, data_run: data, backbone_run: backbone, epochs: 2}
  features: {stage: 20_extract_features, data_run: data, backbone_run: backbone,
    corpora: [vidsitu, lvu]}
  contextualizer: {stage: 30_pretrain_contextualizer, data_run: data, features_run: features,
    corpora: {vidsitu: 1, lvu: 1}, epochs: 1}
  verbs: {stage: 40_verbs}
  roles: {stage: 41_roles}
  relations: {stage: 42_relations}
  lvu: {stage: 50_lvu, data_run: data, features_run: features, tasks: [director, scene], epochs: 1}
  statistics: {stage: 06_vidsitu_statistics, data_run: data}
  gallery: {stage: 45_gallery, data_run: data, features_run: features,
    contextualizer_run: contextualizer, verbs_run: verbs, roles_run: roles,
    relations_run: relations}
  report: {stage: 90_report, profile: "<b>odd</b><script>alert(3)</script>",
    note: "$x$ <img src=x onerror=alert(4)>", reads_runs: all}
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd")
    write_minimovies(
        root / "data",
        World(5, 48, 48, 8),
        kinetics=(24, 8),
        movieclips=0,
        vidsitu=(12, 8),
        lvu=(6, 3, 3),
        movieclips_s=(30, 31),
        lvu_s=(30, 40),
        boxes=(),
    )
    make_odd_kinetics(root / "data/kinetics")
    make_odd_vidsitu(root / "data/vidsitu")
    for video in sorted((root / "data/lvu/videos").glob("*.mp4")):
        remux(video, ".mov")
    (root / "<b>odd.yaml").write_text(ODD, encoding="utf-8")
    code, out, err = run(
        "hiermovie",
        "reproduce",
        "--profile",
        root / "<b>odd.yaml",
        "--data",
        root / "data",
        "--out",
        root / "runs",
    )
    assert code == 0, out + err[-4000:]
    return root


class Tags(html.parser.HTMLParser):
    """Every tag and attribute of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.values, self.text = set(), set(), [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {(tag, name) for name, _ in attributes}
        self.values += [value for _, value in attributes if value]

    def handle_data(self, data):
        self.text += data


def test_films_are_found_in_every_container(odd):
    assert load(odd / "runs/data/metrics.json")["videos"] == 24 + 8 + 20 + 12
    assert load(odd / "runs/backbone/metrics.json")["videos"] == 24
    for split, n in (("train", 24), ("val", 8)):
        assert (pd.read_csv(odd / f"runs/probe/coverage_{split}.csv").status == "ok").sum() == n
    assert load(odd / "runs/features/metrics.json")["videos"] == {"vidsitu": 20, "lvu": 12}
    for run_ in ("data", "features"):  # every later number carries how much was there
        covered = load(odd / f"runs/{run_}/metrics.json")["coverage"]
        assert {split: n["share"] for split, n in covered["vidsitu"].items()} == {
            "train": 100,
            "valid": 100,
        }
    logs = "".join(p.read_text() for p in (odd / "runs/notebooks").glob("*.log"))
    assert "not drawn" not in logs and "no such video" not in logs
    for name, rows in (("kinetics", 32), ("vidsitu", 20)):
        code, out, err = run(
            "python", ROOT / f"data_scripts/get_{name}.py", "--out", odd / "data", "--count"
        )
        counted = load(odd / f"data/coverage_{name}.json")
        assert code == 0 and sum(s["present"] for s in counted.values()) == rows, out + err


def test_nothing_from_outside_becomes_markup(odd):
    """Markup in ids, texts, verbs, classes, file names and parameters is text in every page."""
    report = odd / "runs/report/index.html"
    executed = [p for p in (odd / "runs/notebooks").glob("*.html")]
    assert len(executed) == len(list((odd / "runs/notebooks").glob("*.ipynb")))
    for path in executed:
        seen = Tags(path.read_text(encoding="utf-8"))
        assert not seen.tags & {"script", "iframe", "object", "embed", "form", "base", "link"}, path
        assert not [name for _, name in seen.attributes if name.startswith("on")], path
    page = report.read_text()
    found = Tags(page)
    tags = "html head meta title style body h1 h2 h3 p div img table thead tbody tr th td br"
    tags += " span a figure video header nav main footer section ul li b details summary svg g"
    tags += " path text tspan defs use image rect clippath"
    assert found.tags <= set(tags.split())
    attributes = "lang charset name content http-equiv class alt src href controls loop muted"
    attributes += " playsinline preload id aria-label aria-labelledby role tabindex scope rowspan"
    attributes += " width height poster viewbox d x y transform fill fill-opacity stroke"
    attributes += " stroke-dasharray stroke-dashoffset stroke-linecap stroke-linejoin stroke-width"
    attributes += " font-size font-style font-weight text-anchor clip-path"
    assert {name for _, name in found.attributes} <= set(attributes.split())
    assert (
        found.text.count(ATTACK) > 10
        and "<script>alert(2)</script>" in found.text
        and "<script>alert(3)</script>" in found.text
        and "a rapper named Ca$$idy" in found.text
    )
    assert (
        "Content-Security-Policy" in found.values
        and any(v.startswith("default-src 'none'; style-src 'sha256-") for v in found.values)
        and page.count('src="data:video/x-matroska;base64,') in (2, 3)
    )


def test_texts_are_drawn_as_they_are():
    import numpy as np

    from hiermovie.vidsitu import show_answers

    event = dict(
        VerbID="walk.01",
        Args={"Arg0 (walker)": "from $5 to $10", "Scene of the Event": "Ca$$idy_1 \\alpha\nx"},
        EvRel="NoRel",
    )
    fig = show_answers(np.zeros((5, 8, 8, 3), np.uint8), {f"Ev{k}": event for k in range(1, 6)})
    texts = [t for ax in fig.axes for t in ax.texts]
    assert not any(t.get_parse_math() for t in texts) and any(
        "from $5 to $10" in t.get_text() for t in texts
    )
    fig.savefig(__import__("io").BytesIO())


def some_runs(odd, names, path, **features):
    """A profile with some of the runs."""
    profile = yaml.safe_load(ODD)
    profile["runs"] = {name: profile["runs"][name] for name in (*names, "report")}
    profile["runs"]["features"] |= features
    path.write_text(yaml.safe_dump(profile))
    return path


def test_a_report_of_one_task_alone(odd, tmp_path):
    """Of the runs that are there already: nothing but the report runs."""
    before = {p: p.stat().st_mtime_ns for p in (odd / "runs").glob("*/metrics.json")}
    path = some_runs(
        odd, ("data", "backbone", "features", "relations"), tmp_path / "relations.yaml"
    )
    code, out, err = run(
        "hiermovie", "reproduce", "--profile", path, "--data", odd / "data", "--out", odd / "runs"
    )
    assert code == 0 and "1 run to do" in out, out + err[-3000:]
    assert {p.parent.name for p in before if p.stat().st_mtime_ns != before[p]} == {"report"}
    status = {
        name: set(pd.read_csv(odd / f"runs/report/table_{name}.csv").status)
        for name in ("verbs", "relations")
    }
    assert "run" in status["relations"] and "run" not in status["verbs"]


def test_a_report_of_lvu_alone(odd, tmp_path):
    """A data folder without VidSitu and MovieClips."""
    for corpus in ("kinetics", "lvu"):
        shutil.copytree(odd / "data" / corpus, tmp_path / "data" / corpus)
    path = some_runs(
        odd, ("data", "backbone", "features", "lvu"), tmp_path / "lvu.yaml", corpora=["lvu"]
    )
    code, out, err = run(
        "hiermovie",
        "reproduce",
        "--profile",
        path,
        "--data",
        tmp_path / "data",
        "--out",
        tmp_path / "runs",
    )
    assert code == 0, out + err[-3000:]
    assert (pd.read_csv(tmp_path / "runs/report/table_lvu.csv").status.isin(["run", "extra"])).any()
    assert (
        tmp_path / "runs/report/two_levels.svg"
    ).stat().st_size > 10_000 and "not drawn" not in (
        tmp_path / "runs/notebooks/report.log"
    ).read_text()


def test_repeated_names_in_prediction_files_are_refused(odd, tmp_path):
    (tmp_path / "p.json").write_text('{"film one": [1, 0], "film two": [0, 1], "film one": [0, 1]}')
    code, out, err = run(
        "hiermovie",
        "evaluate",
        "lvu",
        "--task",
        "director",
        "--predictions",
        tmp_path / "p.json",
        "--lvu-root",
        odd / "data/lvu",
    )
    assert (code, err.count("\n")) == (2, 1) and "p.json: 'film one' stands there twice" in err


# The sizes of profile `paper`; stages, parameters and graph are those of paper.yaml.
SIZES = {
    "10_pretrain_backbone": dict(
        depth=18,
        width=8,
        frames=4,
        size=32,
        clip_s=1.0,
        epochs=1,
        batch=8,
        hidden=16,
        projection=8,
        queue=8,
        flow_size=32,
        short_side=[32, 40],
        precise_bn=2,
        processes=1,
        workers=0,
        threads=1,
        save_every=0,
    ),
    "15_probe_backbone": dict(clip_s=1.0, clips=2, crops=1, threads=1, epochs=2, seeds=[0]),
    "20_extract_features": dict(workers=0, processes=1, threads=1),
    "25_extract_instances": dict(threads=1, most=2),
    "30_pretrain_contextualizer": dict(
        width=16, depth=1, heads=2, ffn=16, target_dims=8, among=20, epochs=1, batch=4, threads=1
    ),
    "35_pretrain_objects": dict(width=16, depth=1, heads=2, ffn=16, epochs=1, threads=1),
    "40_verbs": dict(width=16, depth=1, heads=2, ffn=16, seeds=[0], epochs=1, threads=1),
    "40a_verbs_end_to_end": dict(epochs=1, batch=4, workers=0, threads=1),
    "41_roles": dict(
        width=16,
        depth=1,
        heads=2,
        ffn=16,
        decoder_width=16,
        decoder_depth=1,
        decoder_heads=2,
        decoder_ffn=16,
        bpe_size=300,
        seeds=[0],
        epochs=1,
        threads=1,
    ),
    "42_relations": dict(
        width=16, depth=1, heads=2, ffn=16, hidden=16, seeds=[0], epochs=1, threads=1
    ),
    "50_lvu": dict(
        width=16,
        depth=1,
        heads=2,
        ffn=16,
        object_width=16,
        object_depth=1,
        object_heads=2,
        object_ffn=16,
        seeds=[0],
        epochs=1,
        threads=1,
    ),
    "51_lvu_fusion": dict(seeds=[0], epochs=1, threads=1),
}


def test_profile_paper_runs_through_every_stage(tmp_path):
    write_minimovies(
        tmp_path / "data",
        World(3, 48, 48, 8),
        kinetics=(16, 8),
        movieclips=8,
        vidsitu=(10, 8),
        lvu=(5, 3, 3),
        movieclips_s=(60, 62),
        lvu_s=(60, 62),
        boxes=("movieclips", "lvu"),
    )
    profile = read_yaml(ROOT / "runs/profiles/paper.yaml")

    def sizes(stage, own):
        return own | {k: v for k, v in SIZES.get(stage, {}).items() if k in own}

    profile["defaults"] = {
        stage: sizes(stage, own)
        | {
            k: v
            for k, v in SIZES.get(stage, {}).items()
            if k in ("queue", "flow_size", "epochs", "most")
        }
        for stage, own in profile["defaults"].items()
    }
    profile["runs"] = {name: sizes(own["stage"], own) for name, own in profile["runs"].items()}
    profile.pop("sweeps")
    (tmp_path / "paper.yaml").write_text(yaml.safe_dump(profile))
    code, out, err = run(
        "hiermovie",
        "reproduce",
        "--profile",
        tmp_path / "paper.yaml",
        "--data",
        tmp_path / "data",
        "--out",
        tmp_path / "runs",
    )
    assert code == 0, out + err[-4000:]
    assert all((tmp_path / "runs" / name / "metrics.json").is_file() for name in profile["runs"])
    assert (
        load(tmp_path / "runs/backbone-cvrl/params.json")["weight_decay"] == 5e-07
        and load(tmp_path / "runs/lvu-objects/params.json")["lr"] == 2e-05
    )
    tables = {
        name: pd.read_csv(tmp_path / f"runs/report/table_{name}.csv", keep_default_na=False)
        for name in ("verbs", "roles", "relations", "lvu")
    }
    assert not any((t.status == "not run").any() for t in tables.values())
