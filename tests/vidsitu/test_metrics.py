"""Scores: the shared cases of the official evaluator to 1e-9, properties against slow loops written
from the definition alone, files, refusals.
"""

import json
import pickle
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import plain_metrics as plain
import pytest
from conftest import ROOT, run
from full_size import full_size
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hiermovie.base import InputError, bootstrap, draws, paired_bootstrap, read_pickle
from hiermovie.lvu import LvuScorer, aggregate, rank_table, ranks
from hiermovie.vidsitu import (
    EVENTS,
    RELATED,
    RELATIONS,
    evaluate,
    read_predictions,
    scorer,
    write_predictions,
)

CASES = ROOT / "tests/fixtures/metric_cases"
TASK = {"vb": "verbs", "vb_arg": "roles", "evrel": "relations"}
many = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def close(got, want):
    assert set(want) <= set(got)
    for key, value in want.items():
        if isinstance(value, dict):
            assert got[key].keys() == value.keys() and all(
                abs(got[key][k] - value[k]) <= 1e-9 for k in value
            ), key
        else:
            assert abs(got[key] - value) <= 1e-9, (key, got[key], value)


@pytest.mark.parametrize("suffix", ["json", "pkl"])
@pytest.mark.parametrize("case", ["pub_vb", "pub_vb_arg", "pub_evrel"])
def test_official_values(case, suffix):
    folder = CASES / case

    def read(name):
        return json.loads(next(folder.glob(f"{name}/*.json")).read_text(encoding="utf-8"))

    task = TASK[json.loads((folder / "case.json").read_text())["task"]]
    got = evaluate(
        task,
        read_predictions(folder / f"pred.{suffix}"),
        read("split_files"),
        read("vinfo_files"),
        read("vseg_ann_files"),
    )
    close(got, json.loads((folder / "expected.json").read_text()))


# --- properties: random data against tests/plain_metrics.py


def pick(*xs):
    return st.sampled_from(xs)


verb = pick(*[f"v{k}.01" for k in range(6)])
words = st.one_of(
    pick(
        "",
        "a",
        "b",
        "a b",
        "b a",
        "a  b",
        " a",
        "a ",
        "a\tb",
        "a\u00a0b",
        "A b",
        "a b c d",
        "the red star is red",
    ),
    st.lists(pick("a", "b", "c", "ab"), max_size=7).map(" ".join),
)
FULL = {
    "Arg0": "Arg0 (who)",
    "Arg1": "Arg1 (what)",
    "Arg2": "Arg2 (whom)",
    "ALoc": "ArgM (location)",
    "AScn": "Scene of the Event",
    "AMnr": "ArgM (manner)",
    "Arg3": "Arg3 (with)",
}
segment_ids = st.integers(1, 4).map(lambda n: [f"v_x{k}_seg_0_10" for k in range(n)])


def shuffled(draw, predictions):
    """In any order, some of them twice: the first counts."""
    order = draw(st.permutations(range(len(predictions))))
    return [predictions[k] for k in order], order


@st.composite
def verb_data(draw):
    split = draw(segment_ids)

    def votes(least):
        return draw(st.lists(verb, min_size=least, max_size=12))

    vinfo = [
        dict(vid_seg_int=s, vbid_lst={e: votes(9 if e == "Ev1" else 0) for e in EVENTS})
        for s in [*split, "v_outside_seg_0_10"]
    ]
    said = [
        dict(ann_idx=k, pred_vbs_ev=[draw(st.lists(verb, max_size=7)) for _ in EVENTS])
        for k in range(len(split))
    ]
    return (
        shuffled(draw, said)[0] + said[: draw(st.integers(0, 1))],
        split,
        draw(st.permutations(vinfo)),
    )


@many
@given(verb_data())
def test_verbs_equal_the_plain_loops(data):
    close(evaluate("verbs", *data, None), plain.verbs(*data))


@st.composite
def relation_data(draw):
    split = draw(segment_ids)
    anns = [
        {e: dict(vid_seg_int=s, EvRel=draw(pick(*RELATIONS, "Null"))) for e in RELATED}
        for s in split
        for _ in range(draw(st.integers(3, 5)))
    ]
    said = [
        dict(
            ann_idx=k,
            pred_evrels_ev=[[draw(pick(*RELATIONS, "Null")) for _ in range(3)] for _ in RELATED],
        )
        for k in range(len(split))
    ]
    return shuffled(draw, said)[0], split, anns


@many
@given(relation_data())
def test_relations_equal_the_plain_loops(data):
    predictions, split, annotations = data
    close(evaluate("relations", predictions, split, None, annotations), plain.relations(*data))


@st.composite
def role_data(draw, annotators=st.integers(3, 5)):
    split, anns, said = draw(segment_ids), [], []
    for k, s in enumerate(split):
        common = {
            e: draw(st.lists(pick(*FULL), unique=True, max_size=5)) for e in EVENTS
        }  # roles that all annotators have, in any order
        vb = {e: draw(verb) for e in EVENTS}
        for _ in range(draw(annotators)):
            anns.append(
                {
                    e: dict(
                        vid_seg_int=s, VerbID=vb[e], Args={FULL[r]: draw(words) for r in common[e]}
                    )
                    for e in EVENTS
                }
            )
        output = {
            e: {r: draw(words) for r in common[e] if draw(st.booleans())}
            | {"Arg5": "said but not asked", "vb_id": "x"}
            for e in EVENTS
        }
        if draw(st.integers(0, 5)) == 0:
            del output["Ev1"]  # left out of co-reference
        said.append(dict(ann_idx=k, vb_output=output))
    return shuffled(draw, said)[0], split, anns


def compare_roles(predictions, split, annotations):
    try:
        want = plain.roles(predictions, split, annotations)
    except (
        ValueError
    ):  # a list whose references have no word at all: the official script raises, and so do we
        with pytest.raises(InputError, match="no word in any reference|no scored role"):
            evaluate("roles", predictions, split, None, annotations)
    else:
        close(evaluate("roles", predictions, split, None, annotations), want)


@many
@given(role_data())
def test_roles_equal_the_plain_loops(data):
    compare_roles(*data)


@many
@given(role_data(annotators=st.just(3)))
def test_roles_with_exactly_three_references(data):
    compare_roles(*data)


def test_many_segments_equal_the_plain_loops():
    """Sixty segments of the benchmark's data: repeated strings, groups of one item, five
    annotators.
    """
    split, vinfo, annotations, said = full_size(60, seed=3, verbs=40, words=200)
    close(
        evaluate("roles", said["roles"], split, None, annotations),
        plain.roles(said["roles"], split, annotations),
    )
    close(
        evaluate("verbs", said["verbs"], split, vinfo, None),
        plain.verbs(said["verbs"], split, vinfo),
    )
    close(
        evaluate("relations", said["relations"], split, None, annotations),
        plain.relations(said["relations"], split, annotations),
    )


def test_predictions_in_the_full_layout_are_read_for_coreference():
    """Ev1 with an `Args` dictionary: co-reference reads the Args of all events under full names;
    captions do not see them.
    """
    split, _, annotations, said = full_size(5, seed=1, words=20)
    full = [
        dict(
            p,
            vb_output={
                e: {"Args": {FULL_NAMES[r]: t for r, t in args.items()}}
                for e, args in p["vb_output"].items()
            },
        )
        for p in said["roles"]
    ]
    got, flat = (
        evaluate("roles", full, split, None, annotations),
        evaluate("roles", said["roles"], split, None, annotations),
    )
    close(got, plain.roles(full, split, annotations))
    assert got["lea"] == flat["lea"] and got["cider"] == 0 < flat["cider"]


FULL_NAMES = {
    "Arg0": "Arg0 (agent)",
    "Arg1": "Arg1 (thing)",
    "Arg2": "Arg2 (beneficiary)",
    "ALoc": "ArgM (location)",
    "AScn": "Scene of the Event",
    "AMnr": "ArgM (manner)",
}
eighth = st.integers(0, 8).map(lambda k: k / 8)  # exact in binary, so ties are ties


@many
@given(
    st.sampled_from(["scene", "genre"]),
    st.lists(
        st.tuples(
            st.lists(st.lists(eighth, min_size=6, max_size=6), min_size=1, max_size=4),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=5,
    ),
    st.lists(st.tuples(st.lists(eighth, min_size=1, max_size=4), eighth), min_size=1, max_size=5),
)
def test_lvu_equals_the_plain_loops(task, classes, numbers):
    K = dict(scene=6, genre=4)[task]
    windows, target = (
        {f"v{k}": [w[:K] for w in ws] for k, (ws, _) in enumerate(classes)},
        {f"v{k}": y for k, (_, y) in enumerate(classes)},
    )
    table = pd.DataFrame(dict(video_id=list(target), target=list(target.values())))
    assert LvuScorer(task, {v: aggregate(w, True) for v, w in windows.items()}, table)()[
        "accuracy"
    ] == pytest.approx(plain.lvu(task, windows, target), abs=1e-9)
    windows, target = (
        {f"v{k}": [[x] for x in ws] for k, (ws, _) in enumerate(numbers)},
        {f"v{k}": y for k, (_, y) in enumerate(numbers)},
    )
    table = pd.DataFrame(dict(video_id=list(target), target=list(target.values())))
    assert LvuScorer("view_count", {v: aggregate(w, False) for v, w in windows.items()}, table)()[
        "mse"
    ] == pytest.approx(plain.lvu("view_count", windows, target), abs=1e-9)


@many
@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(st.lists(eighth, min_size=3, max_size=3), min_size=n, max_size=n)
    )
)
def test_ranks_equal_the_plain_loops(scores):
    up = [True, False, True]
    assert ranks(scores, up).tolist() == plain.ranks(scores, up)
    t = rank_table(pd.DataFrame(scores, columns=["scene", "like_ratio", "genre"]))
    best = [max(s[0] for s in scores), min(s[1] for s in scores), max(s[2] for s in scores)]
    assert t["Top1 rank"].tolist() == [
        sum(a == b for a, b in zip(s, best, strict=True)) for s in scores
    ]
    assert t["mean rank"].tolist() == pytest.approx([sum(r) / 3 for r in plain.ranks(scores, up)])


# --- weights: what bootstrap and partial data stand on


def data_of(task, segments=30, seed=5):
    split, vinfo, annotations, said = full_size(
        segments, annotators=4, seed=seed, verbs=30, words=150
    )
    return said[task], split, vinfo, annotations


@pytest.mark.parametrize("task", ["verbs", "relations", "roles"])
def test_partial_predictions_score_as_weight_zero(task):
    """The references of a segment do not depend on which other segments are there."""
    said, split, vinfo, annotations = data_of(task)
    there = [k for k in range(30) if k % 3]
    part = evaluate(task, [said[k] for k in there], split, vinfo, annotations, allow_missing=True)
    whole = scorer(task, said, split, vinfo, annotations)(
        np.isin(np.arange(30), there).astype(float)
    )
    close(part, whole)
    assert (part["partial"], part["scored"], part["of"], part["missing"]) == (
        True,
        20,
        30,
        [split[k] for k in range(0, 30, 3)],
    )
    with pytest.raises(
        InputError,
        match=r"10 of 30 segments have no prediction: ann_idx 0 \(v_00000000000_seg_0_10\), 3 ",
    ):
        evaluate(task, [said[k] for k in there], split, vinfo, annotations)


def test_a_weight_is_a_repetition():
    """A draw of the bootstrap is the plain score of a data set in which segments occur as often as
    they were drawn.
    """
    said, split, vinfo, annotations = data_of("roles", 8)
    by = {s: [a for a in annotations if a["Ev1"]["vid_seg_int"] == s] for s in split}
    for weights in draws(split, 3, seed=2):
        index = [k for k, w in enumerate(weights.astype(int)) for _ in range(w)]
        names = [f"{split[k]}#{n}" for n, k in enumerate(index)]

        def named(a, name):
            return {e: dict(v, vid_seg_int=name) for e, v in a.items()}

        anns = [named(a, name) for k, name in zip(index, names, strict=True) for a in by[split[k]]]
        references = [
            plain.permuted_references(annotations, split)[k] for k in index
        ]  # the draw keeps the references of the whole split
        with patch.object(plain, "permuted_references", return_value=references):
            want = plain.roles([dict(said[k], ann_idx=n) for n, k in enumerate(index)], names, anns)
        close(scorer("roles", said, split, vinfo, annotations)(weights), want)
        verbs, _, vinfo8, _ = data_of("verbs", 8)
        want = plain.verbs(
            [dict(verbs[k], ann_idx=n) for n, k in enumerate(index)],
            names,
            [dict(vinfo8[k], vid_seg_int=n) for k, n in zip(index, names, strict=True)],
        )
        close(scorer("verbs", verbs, split, vinfo8, None)(weights), want)


def test_the_bootstrap_covers_what_it_should():
    """Of 200 made-up test sets with a known true score, the 95% interval holds it in about 95%."""

    class Share:
        def __init__(self, hits):
            self.hits, self.ids = hits, list(range(len(hits)))

        def __call__(self, w=None):
            return {"share": float(np.average(self.hits, weights=w))}

    r, held = np.random.default_rng(0), 0
    for k in range(200):
        low, high = bootstrap(Share(r.random(150) < 0.3), n=300, seed=k)["share"]
        held += low <= 0.3 <= high
    assert 180 <= held <= 199
    a = Share(np.ones(50))
    b = Share(np.zeros(50))
    d = paired_bootstrap(a, b, 50)["share"]
    assert (d["difference"], d["low"], d["high"], d["larger"], d["equal"]) == (
        1.0,
        1.0,
        1.0,
        1.0,
        0.0,
    ) and paired_bootstrap(b, b, 50)["share"]["equal"] == 1
    assert bootstrap(Share(r.random(50)), 100, seed=1) != bootstrap(
        Share(r.random(50)), 100, seed=2
    )
    s = Share(r.random(50))
    assert bootstrap(s, 100, seed=1) == bootstrap(s, 100, seed=1)


# --- files and the command line


@pytest.mark.parametrize("task", ["verbs", "relations", "roles"])
def test_leaderboard_files_score_the_same_and_load_without_us(task, tmp_path):
    said, split, vinfo, annotations = data_of(task)
    files = write_predictions(tmp_path / "said", task, said, split)
    assert [f.name for f in files] == ["said.json", "said.pkl"] and pickle.loads(
        files[1].read_bytes()
    ) == json.loads(files[0].read_text()) == said
    scores = [evaluate(task, read_predictions(f), split, vinfo, annotations) for f in files]
    assert scores[0] == scores[1]


def release(folder, task, segments=12):
    said, split, vinfo, annotations = data_of(task, segments)
    for name, value in (("split", split), ("vinfo", vinfo), ("ann", annotations), ("pred", said)):
        (folder / f"{name}.json").write_text(json.dumps(value))
    return said, [
        "evaluate",
        task,
        "--split-file",
        folder / "split.json",
        "--vinfo",
        folder / "vinfo.json",
        "--annotations",
        folder / "ann.json",
    ]


@pytest.mark.parametrize(
    "task,name,key",
    [
        ("verbs", "Acc@1", "Per_Ev_Top_1"),
        ("roles", "CIDEr", "cider"),
        ("relations", "Macro-Top1", "Macro_Top_1"),
    ],
)
def test_the_command_line_from_files_to_intervals(task, name, key, tmp_path):
    said, argv = release(tmp_path, task)
    (tmp_path / "few.json").write_text(json.dumps(said[2:]))
    (tmp_path / "o.pkl").write_bytes(pickle.dumps(said))
    code, out, err = run(
        "hiermovie", *argv, "--predictions", tmp_path / "o.pkl", "--out", tmp_path / "o.json"
    )
    whole = json.loads((tmp_path / "o.json").read_text())
    assert (
        code == 0
        and "partial" not in out
        and whole["partial"] is False
        and f"{name:12}{100 * whole[key]:8.2f}" in out
    )
    code, out, err = run("hiermovie", *argv, "--predictions", tmp_path / "few.json")
    assert (
        code == 2
        and out == ""
        and err.count("\n") == 1
        and (
            "few.json: 2 of 12 segments have no prediction: ann_idx 0 (v_00000000000_seg_0_10), "
            "1 (v_00000000000_seg_20_30)"
        )
        in err
    )
    argv += [
        "--allow-missing",
        "--bootstrap",
        40,
        "--unit",
        "videos",
        "--compare",
        tmp_path / "o.pkl",
        "--predictions",
        tmp_path / "few.json",
    ]
    code, out, err = run("hiermovie", *argv, "--out", tmp_path / "p.json")
    assert code == 0, err
    lines, part = out.strip().split("\n"), json.loads((tmp_path / "p.json").read_text())
    assert lines[0] == "PARTIAL: 10 of 12 segments have predictions" and all(
        "partial" in line.lower() for line in lines if not line.startswith("note:")
    )
    assert (part["scored"], part["of"], len(part["missing"])) == (10, 12, 2) and all(
        row["partial"] for row in part["table"]
    )
    low, high = part["bootstrap"]["intervals"][key]
    assert (
        low <= part[key] <= high
        and part["bootstrap"]["n"] == 40
        and part["bootstrap"]["unit"] == "videos"
    )
    d = part["comparison"]["differences"][key]
    assert part["comparison"]["scored"] == 10 and (d["difference"], d["low"], d["high"]) == (
        0,
        0,
        0,
    )  # the same predictions, where both have any


def set_in(value, *path):
    *way, last, new = path
    for k in way:
        value = value[k]
    value[last] = new


REFUSED = {
    "an event too few": (
        "verbs",
        "pred",
        lambda v: v[3]["pred_vbs_ev"].pop(),
        "pred.json: segment v_00000000001_seg_0_10: predictions for 4 events, expected 5",
    ),
    "no list of verbs": (
        "verbs",
        "pred",
        lambda v: set_in(v, 3, "pred_vbs_ev", 1, "walk"),
        "pred.json: segment v_00000000001_seg_0_10 Ev2: expected a list of verbs, found 'walk'",
    ),
    "no verbs": (
        "verbs",
        "pred",
        lambda v: set_in(v, 3, "pred_vbs_ev", 1, None),
        "pred.json: segment v_00000000001_seg_0_10 Ev2: expected a list of verbs, found None",
    ),
    "verbs without order": (
        "verbs",
        "pred",
        lambda v: set_in(v, 3, "pred_vbs_ev", 1, {"a": 1, "b": 2}),
        "pred.json: segment v_00000000001_seg_0_10 Ev2: expected a list of verbs, found {",
    ),
    "votes of another kind": (
        "verbs",
        "vinfo",
        lambda v: set_in(v, 4, "vbid_lst", "Ev3", [1] * 10),
        "vinfo.json: segment v_00000000001_seg_20_30 Ev3: expected a list of verb votes",
    ),
    "a segment twice": (
        "verbs",
        "split",
        lambda v: set_in(v, 1, v[0]),
        "split.json: segment v_00000000000_seg_0_10 twice",
    ),
    "an empty split": ("verbs", "split", lambda v: v.clear(), "split.json: no segment"),
    "labels without order": (
        "relations",
        "pred",
        lambda v: set_in(v, 0, "pred_evrels_ev", 0, {"Causes": 1, "NoRel": 2, "Enables": 3}),
        "pred.json: segment v_00000000000_seg_0_10 Ev1: expected a list of relations",
    ),
    "no event": (
        "roles",
        "ann",
        lambda v: set_in(v, 7, "Ev2", None),
        "ann.json: entry 7: expected a dict for Ev2, found None",
    ),
    "no arguments": (
        "roles",
        "ann",
        lambda v: set_in(v, 7, "Ev2", "Args", []),
        "ann.json: entry 7, Ev2: Args is [], expected a dict",
    ),
    "roles as a list": (
        "roles",
        "pred",
        lambda v: set_in(v, 2, "vb_output", "Ev4", ["Arg0"]),
        "pred.json: segment v_00000000000_seg_40_50 Ev4: expected a dict of roles",
    ),
    "deep": (
        "roles",
        "pred",
        lambda v: set_in(v, 2, "vb_output", json.loads("[" * 500 + "]" * 500)),
        "pred.json: prediction with ann_idx 2: vb_output is [[[[[[",
    ),
    "few votes": (
        "verbs",
        "vinfo",
        lambda v: set_in(v, 4, "vbid_lst", "Ev1", ["a"] * 8),
        "vinfo.json: segment v_00000000001_seg_20_30 Ev1: 8 verb votes, at least 9 expected",
    ),
    "no vote entry": (
        "verbs",
        "vinfo",
        lambda v: v.pop(),
        "vinfo.json: segment v_00000000003_seg_40_50: not in the file",
    ),
    "outside": (
        "verbs",
        "pred",
        lambda v: set_in(v, 0, "ann_idx", 12),
        "pred.json: ann_idx 12 outside the split of 12 segments (counted from 0)",
    ),
    "negative": (
        "relations",
        "pred",
        lambda v: set_in(v, 0, "ann_idx", -1),
        "pred.json: ann_idx -1 outside the split",
    ),
    "no number": (
        "relations",
        "pred",
        lambda v: set_in(v, 0, "ann_idx", "0"),
        "pred.json: ann_idx is '0', expected a whole number",
    ),
    "two relations": (
        "relations",
        "pred",
        lambda v: v[5]["pred_evrels_ev"][2].pop(),
        "pred.json: segment v_00000000001_seg_40_50 Ev4: 2 relation predictions, expected 3",
    ),
    "five events": (
        "relations",
        "pred",
        lambda v: v[5]["pred_evrels_ev"].append(["NoRel"] * 3),
        "pred.json: segment v_00000000001_seg_40_50: predictions for 5 events, expected 4",
    ),
    "unknown relation said": (
        "relations",
        "pred",
        lambda v: set_in(v, 0, "pred_evrels_ev", 0, 1, "Because"),
        (
            "pred.json: segment v_00000000000_seg_0_10 Ev1: relation 'Because', expected one of "
            "Causes, Reaction To, Enables, NoRel"
        ),
    ),
    "unknown relation annotated": (
        "relations",
        "ann",
        lambda v: set_in(v, 0, "Ev5", "EvRel", "causes"),
        "ann.json: segment v_00000000000_seg_0_10 Ev5: relation 'causes'",
    ),
    "two references": (
        "roles",
        "ann",
        lambda v: (v.pop(0), v.pop(0)),
        "ann.json: segment v_00000000000_seg_0_10: 2 annotations, at least 3 expected",
    ),
    "two annotations": (
        "relations",
        "ann",
        lambda v: (v.pop(0), v.pop(0)),
        "ann.json: segment v_00000000000_seg_0_10: 2 annotations, at least 3 expected",
    ),
    "role of one reference": (
        "roles",
        "ann",
        lambda v: v[int(np.random.RandomState(5).permutation(4)[1])]["Ev2"]["Args"].pop(
            "Scene of the Event"
        ),
        (
            "ann.json: segment v_00000000000_seg_0_10 Ev2, role Scene of the Event: missing in "
            "another of the three references"
        ),
    ),
    "unknown role": (
        "roles",
        "ann",
        lambda v: [set_in(a, "Ev3", "Args", "ArgM (mood)", "glad") for a in v[:4]],
        (
            "ann.json: segment v_00000000000_seg_0_10 Ev3: role 'ArgM (mood)': not a role name "
            "of VidSitu"
        ),
    ),
    "number for text": (
        "roles",
        "pred",
        lambda v: set_in(v, 2, "vb_output", "Ev4", "AScn", 3),
        "pred.json: segment v_00000000000_seg_40_50 Ev4, role AScn: expected text, found 3",
    ),
    "events missing": (
        "roles",
        "pred",
        lambda v: v[2]["vb_output"].pop("Ev4"),
        "pred.json: segment v_00000000000_seg_40_50: Ev1 is predicted but not Ev4",
    ),
    "no predictions": (
        "roles",
        "pred",
        lambda v: v.clear(),
        "pred.json: 12 of 12 segments have no prediction",
    ),
    "another task": (
        "roles",
        "pred",
        lambda v: set_in(v, 0, {"ann_idx": 0}),
        "pred.json: prediction with ann_idx 0: no field vb_output",
    ),
    "no text in any reference": (
        "roles",
        "ann",
        lambda v: [set_in(a, e, "Args", {k: "" for k in a[e]["Args"]}) for a in v for e in EVENTS],
        "ann.json: no word in any reference of any item",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals_name_file_segment_event_and_role(what, tmp_path, capsys):
    from hiermovie.app import main

    task, file, change, message = REFUSED[what]
    _, argv = release(tmp_path, task)
    value = json.loads((tmp_path / f"{file}.json").read_text())
    change(value)
    (tmp_path / f"{file}.json").write_text(json.dumps(value))
    code = main([str(a) for a in [*argv, "--predictions", tmp_path / "pred.json"]])
    err = capsys.readouterr().err
    assert code == 2 and err.count("\n") == 1 and message in err, err


def test_a_role_only_some_references_have_is_refused_only_when_predicted(tmp_path):
    """Soft LEA needs the CIDEr of every predicted mention, and only roles of the first reference
    have one.
    """
    said, split, _, annotations = data_of("roles", 6)
    third = [a for a in annotations if a["Ev1"]["vid_seg_int"] == split[0]][
        int(np.random.RandomState(5).permutation(4)[2])
    ]
    third["Ev1"]["Args"]["Arg2 (beneficiary)"] = "a dog"
    other = [a for a in annotations[:4] if a is not third]
    for a in other:
        a["Ev1"]["Args"].pop("Arg2 (beneficiary)", None)
    said[0]["vb_output"]["Ev1"].pop("Arg2", None)
    close(evaluate("roles", said, split, None, annotations), plain.roles(said, split, annotations))
    said[0]["vb_output"]["Ev1"]["Arg2"] = "a dog"
    with pytest.raises(
        InputError,
        match=(
            "segment v_00000000000_seg_0_10 Ev1, role Arg2: predicted and in reference 2, but "
            "not in the first reference"
        ),
    ):
        evaluate("roles", said, split, None, annotations)


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "the pickle ran"))


def test_a_pickle_with_code_in_it_is_refused_and_does_not_run(tmp_path):
    _, argv = release(tmp_path, "verbs")
    (tmp_path / "evil.pkl").write_bytes(
        pickle.dumps([dict(ann_idx=0, pred_vbs_ev=Runs(tmp_path / "ran"))])
    )
    code, out, err = run("hiermovie", *argv, "--predictions", tmp_path / "evil.pkl")
    assert (
        code == 2
        and "evil.pkl: the pickle asks for" in err
        and "Path" in err
        and not (tmp_path / "ran").exists()
    )
    for value, name in (
        (Path("x"), "Posix"),
        (pd.DataFrame(), "pandas"),
        (np.random.default_rng(0), "numpy.random"),
        (slice(1), "builtins.slice"),
        (getattr, "builtins.getattr"),
        (TASK.items, "builtins.getattr"),
    ):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps([value]))
        with pytest.raises(InputError, match=f"x.pkl: the pickle asks for .*{name}"):
            read_pickle(tmp_path / "x.pkl")


def text(s):
    return b"X" + len(s).to_bytes(4, "little") + s.encode()


DTYPE, SCALAR, EMPTY = (
    b"cnumpy\ndtype\n",
    b"cnumpy._core.multiarray\nscalar\n",
    b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R",
)
# numpy's own pickles can be told to take bytes for addresses: none of this may reach numpy
HOSTILE = {
    "an object from bytes": (
        SCALAR + DTYPE + text("O8") + b"\x89\x88\x87RC\x08" + b"A" * 8 + b"\x86R",
        "calls scalar",
    ),
    "an object type without its flags": (
        DTYPE
        + text("O8")
        + b"\x89\x88\x87R(K\x03"
        + text("|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
        "holds a class",
    ),
    "fields": (DTYPE + text("V8") + b"\x89\x88\x87R", "array of type 'V8'"),
    "an array of objects from bytes": (
        EMPTY + b"(K\x01K\x01\x85" + DTYPE + text("O8") + b"\x85R\x89C\x08" + b"A" * 8 + b"tb",
        "objects that are no list",
    ),
    "an impossible shape": (
        EMPTY
        + b"(K\x01J\xff\xff\xff\xff\x85"
        + DTYPE
        + text("f8")
        + b"\x85R\x89C\x08"
        + b"A" * 8
        + b"tb",
        "impossible shape",
    ),
    "a shape without data": (
        EMPTY
        + b"(K\x01J\xff\xff\xff\x7f\x85"
        + DTYPE
        + text("f8")
        + b"\x85R\x89C\x08"
        + b"A" * 8
        + b"tb",
        "not a readable pickle",
    ),
    "gigabytes of nothing": (b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R", "calls bytearray"),
    "an attribute of a class": (b"cbuiltins\nset\n}" + text("pop") + b"K\x01sb", "sets the state"),
    "an extension": (b"\x82\x01", "instruction EXT1"),
    "another process's object": (b"K\x01Q", "instruction BINPERSID"),
    "a class called": (b"(cbuiltins\nset\no", "instruction OBJ"),
    "an unfinished one": (b"(K\x01", "not a readable pickle"),
    "one without value": (b"", "not a readable pickle"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_pickles(what, tmp_path):
    body, message = HOSTILE[what]
    (tmp_path / "x.pkl").write_bytes(
        b"\x80\x04" + body + (b"" if what == "an unfinished one" else b".")
    )
    with pytest.raises(InputError, match="x.pkl: .*" + message):
        read_pickle(tmp_path / "x.pkl")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_of_every_protocol_are_read(protocol, tmp_path):
    lists = np.empty(2, object)
    lists[0], lists[1] = [1, 2], [3, 4]
    value = {
        "a": [1, 2.5, None, True, "ü", b"x", [1], {1}, frozenset({2}), 2 + 3j, bytearray(b"y")],
        "n": np.arange(6.0).reshape(2, 3),
        "s": np.float32(0.5),
        "o": np.array(["x", None], object),
        "f": np.asfortranarray(np.eye(2)),
        "l": lists,
    }
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(value, protocol))
    got = read_pickle(tmp_path / "p.pkl")
    assert (
        got["a"] == value["a"]
        and (got["n"] == value["n"]).all()
        and got["s"] == value["s"]
        and got["o"].tolist() == ["x", None]
        and (got["f"] == np.eye(2)).all()
        and got["l"].tolist() == [[1, 2], [3, 4]]
    )


def test_no_java_no_compiler_no_network(tmp_path):
    """Scores of all three tasks with an empty PATH and no sockets."""
    import subprocess
    import sys

    release(tmp_path, "roles")
    code = (
        "import socket, sys\ndef no(*a, **k): raise OSError('no network')\nsocket.socket = no\n"
        "from hiermovie.app import main\nsys.exit(main(sys.argv[1:]))"
    )
    for task in ("verbs", "roles", "relations"):
        _, argv = release(tmp_path, task)
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                code,
                *map(str, argv),
                "--predictions",
                str(tmp_path / "pred.json"),
                "--out",
                str(tmp_path / "o.json"),
            ],
            env={"PATH": ""},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


def test_standard_output_is_json_and_an_output_never_replaces_an_input(tmp_path):
    _, argv = release(tmp_path, "relations")
    argv += ["--predictions", tmp_path / "pred.json"]
    code, out, err = run("hiermovie", *argv)
    assert (
        code == 0
        and json.loads(out)["Top_1"]
        == evaluate(
            "relations",
            *[
                json.loads((tmp_path / f"{n}.json").read_text())
                for n in ("pred", "split", "vinfo", "ann")
            ],
        )["Top_1"]
        and "Top1" in err
    )
    before = (tmp_path / "pred.json").read_bytes()
    for bad, message in (
        (tmp_path / "pred.json", "is one of the files that are read"),
        (tmp_path, "expected the name of a file"),
        ("", "expected the name of a file"),
        (tmp_path / "ann.json" / "x" / "o.json", "cannot be made"),
    ):
        code, out, err = run("hiermovie", *argv, "--out", bad)
        assert code == 2 and err.count("\n") == 1 and message in err, err
    assert (tmp_path / "pred.json").read_bytes() == before


def test_nothing_scored_says_so_with_intervals_too(tmp_path):
    """Three different labels everywhere: no record in any draw, no interval, a note."""
    ann = [
        {e: dict(vid_seg_int=s, EvRel=x) for e in RELATED}
        for s in ("v_a_seg_0_10", "v_b_seg_0_10")
        for x in RELATIONS[:3]
    ]
    for name, value in (
        ("split", ["v_a_seg_0_10", "v_b_seg_0_10"]),
        ("ann", ann),
        ("pred", [dict(ann_idx=k, pred_evrels_ev=[["NoRel"] * 3] * 4) for k in (0, 1)]),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    code, out, err = run(
        "hiermovie",
        "evaluate",
        "relations",
        "--predictions",
        tmp_path / "pred.json",
        "--split-file",
        tmp_path / "split.json",
        "--annotations",
        tmp_path / "ann.json",
        "--bootstrap",
        5,
        "--compare",
        tmp_path / "pred.json",
        "--out",
        tmp_path / "o.json",
    )
    assert (
        code == 0
        and "nothing was scored" in out
        and json.loads((tmp_path / "o.json").read_text())["bootstrap"]["intervals"]["Top_1"]
        == [None, None]
    ), err
