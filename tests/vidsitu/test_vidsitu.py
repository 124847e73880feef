"""VidSitu's heads: 16 segments by heart, shuffled labels, and everything that must be refused."""

import copy

import numpy as np
import pytest
import torch
from conftest import ROOT

from hiermovie.backbone import SlowFast, SlowFastConfig, save_backbone
from hiermovie.base import Batches, InputError, fit, read_json, rng, write_json
from hiermovie.contextualizer import (
    Contextualizer,
    ContextualizerConfig,
    load_contextualizer,
    save_contextualizer,
)
from hiermovie.minimovies import World, write_vidsitu
from hiermovie.video import save_features, write_index
from hiermovie.vidsitu import (
    EVENTS,
    RELATED,
    RelationModel,
    RoleModel,
    RoleVocabulary,
    TextEncoder,
    Trunk,
    TxD,
    VerbModel,
    baseline,
    class_weights,
    evaluate,
    load_head,
    predict_relations,
    predict_roles,
    predict_verbs,
    read_segments,
    read_verb_vocabulary,
    relation_loss,
    relation_targets,
    role_loss,
    role_tokens,
    save_head,
    score,
    text_tokens,
    verb_loss,
    verb_targets,
    verb_vocabulary,
    with_features,
)

tensors = torch.utils.data.TensorDataset


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """The root of annotations: 16 + 4 segments and, below `many`, 300 + 100; no video."""
    root = tmp_path_factory.mktemp("vidsitu")
    write_vidsitu(root, World(), 16, 4)
    write_vidsitu(root / "many", World(), 300, 100)
    return root


def segments_of(root, split):
    return read_segments(root / "vidsitu/vidsitu_annotations", split)


def features_that_know(segments, dim=96, noise=0.3):
    """Features made of verb, text of each role and relation of each event, and noise."""

    def code(*key):
        return rng("code", *key).standard_normal(dim)

    def event(a, ev):
        return (
            code("verb", a[ev]["VerbID"])
            + sum(code("role", *item) for item in a[ev]["Args"].items())
            + code("relation", a[ev].get("EvRel"))
        )

    r = rng("noise", len(segments.ids))
    return torch.from_numpy(
        np.stack(
            [
                [event(anns[0], ev) + noise * r.standard_normal(dim) for ev in EVENTS]
                for anns in segments.annotations
            ]
        ).astype(np.float32)
    )


def alone(segments):
    """What the official scores need, with the first annotation as the only truth: (split, vinfo,
    annotations).
    """
    one = [anns[0] for anns in segments.annotations]
    return (
        segments.ids,
        [
            dict(vid_seg_int=s, vbid_lst={ev: [a[ev]["VerbID"]] * 10 for ev in EVENTS})
            for s, a in zip(segments.ids, one, strict=True)
        ],
        [a for a in one for _ in range(3)],
    )


def trunk_of(X, context):
    torch.manual_seed(0)
    return Trunk(
        X,
        Contextualizer(ContextualizerConfig(X.shape[-1], 32, 1, 4, 64, 0.0)).standardize(
            X.flatten(0, 1)
        )
        if context
        else None,
    )


@pytest.mark.parametrize("context", [False, True], ids=["features", "contextualized"])
def test_every_head_learns_16_segments_by_heart(annotated, context):
    train = segments_of(annotated, "train")
    X = torch.from_numpy(rng("any features").standard_normal((16, 5, 32)).astype(np.float32))
    vocabulary, words, truth = (
        verb_vocabulary(train),
        RoleVocabulary.build(train, size=300),
        alone(train),
    )

    verbs = VerbModel(trunk_of(X, context), len(vocabulary))
    fit(verbs, verb_loss, Batches(tensors(X, verb_targets(train, vocabulary)), 4), 100, 1e-2)
    s = evaluate("verbs", predict_verbs(verbs, X, vocabulary), *truth)
    assert s["Per_Ev_Top_1"] == 1 and s["Per_Vid_Top_1"] == 1

    roles = RoleModel(trunk_of(X, context), TxD(len(words), 64, 1, 4, 128, 0.0))
    fit(roles, role_loss(words.pad), Batches(tensors(X, role_tokens(train, words)), 8), 130, 3e-3)
    s = evaluate("roles", predict_roles(roles, X, train, words), *truth)
    assert s["rouge"] > 0.99 and s["lea"] > 0.99 and s["bleu_1"] > 0.99

    for text in (False, True):
        T = (
            [
                text_tokens(
                    [a[0][ev] for a in train.annotations for ev in EVENTS], words
                ).unflatten(0, (-1, 5))
            ]
            if text
            else []
        )
        relations = RelationModel(
            trunk_of(X, context),
            TextEncoder(len(words), words.pad, 32, 1, 2, 0.0) if text else None,
            64,
        )
        fit(relations, relation_loss, Batches(tensors(X, *T, relation_targets(train)), 4), 60, 3e-3)
        s = evaluate(
            "relations", predict_relations(relations, X, train, words if text else None), *truth
        )
        assert s["Top_1"] == 1 and s["Macro_Top_1"] == 1


def shuffled(segments, what):
    """The same annotations with the answers of one task dealt out anew over all events."""
    out = copy.deepcopy(segments)
    events = [
        a[ev]
        for anns in out.annotations
        for a in anns[:1]
        for ev in (RELATED if what == "relations" else EVENTS)
    ]
    field = {"verbs": ("VerbID",), "relations": ("EvRel",), "roles": ("Args", "Arg_List")}[what]
    old = [[e[f] for f in field] for e in events]
    for e, k in zip(events, rng("deal", what).permutation(len(old)), strict=True):
        e.update(dict(zip(field, old[k], strict=True)))
    return out


@pytest.mark.parametrize("task", ["verbs", "roles", "relations"])
def test_shuffled_labels_teach_nothing(annotated, task):
    """With the true labels a head is far above the majority answer, with shuffled ones not above
    it.
    """
    train, valid = (
        segments_of(annotated / "many", "train"),
        segments_of(annotated / "many", "valid"),
    )
    X, V = features_that_know(train), features_that_know(valid)
    key = {"verbs": "Per_Ev_Top_1", "roles": "cider", "relations": "Top_1"}[task]
    got = {}
    for name, learn in (("true", train), ("shuffled", shuffled(train, task))):
        if task == "verbs":
            vocabulary = verb_vocabulary(train)
            model = VerbModel(trunk_of(X, False), len(vocabulary))
            fit(
                model,
                verb_loss,
                Batches(tensors(X, verb_targets(learn, vocabulary)), 50),
                15,
                3e-3,
                1e-1,
            )
            said = predict_verbs(model, V, vocabulary)
        elif task == "relations":
            model = RelationModel(trunk_of(X, False), hidden=64)
            fit(
                model,
                relation_loss,
                Batches(tensors(X, relation_targets(learn)), 50),
                15,
                3e-3,
                1e-1,
            )
            said = predict_relations(model, V, valid)
        else:
            words = RoleVocabulary.build(train, size=400)
            model = RoleModel(trunk_of(X, False), TxD(len(words), 48, 1, 4, 96, 0.0))
            fit(
                model,
                role_loss(words.pad),
                Batches(tensors(X, role_tokens(learn, words)), 25),
                20,
                5e-3,
            )
            said = predict_roles(model, V, valid, words)
        got[name] = score(task, said, valid)[key]
    majority = score(task, baseline(task, "majority", train, valid), valid)[key]
    print(task, got, "majority", majority)
    assert (
        got["shuffled"] < 1.15 * majority + 0.01
        and got["true"] > 1.3 * got["shuffled"]
        and got["true"] > majority
    )


def test_the_vocabulary_of_the_release(annotated):
    """1,560 entries, four of them no verbs: the head has as many outputs, and never says a sign."""
    vocabulary = read_verb_vocabulary(ROOT / "tests/fixtures/verb_vocabulary.json")
    assert len(vocabulary) == 1560 and vocabulary[:5] == [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        "speak.01",
    ]
    train = segments_of(annotated, "train")
    targets = verb_targets(train, vocabulary)
    assert (
        all(
            vocabulary[t] == a[0][ev]["VerbID"]
            for anns, row in zip(train.annotations, targets, strict=True)
            for ev, t, a in zip(EVENTS, row, [anns] * 5, strict=True)
            if t >= 0
        )
        and (targets >= 4).float().mean() > 0.9
    )
    X = torch.randn(16, 5, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = VerbModel(Trunk(X), 1560)
    model.head[-1].bias.data[:4] = 99.0  # it would love to say a sign
    assert not [
        v
        for p in predict_verbs(model, X, vocabulary)
        for e in p["pred_vbs_ev"]
        for v in e
        if v.startswith("<")
    ]


def test_class_weights_turn_the_classifier_to_rare_relations(annotated):
    train = segments_of(annotated / "many", "train")
    Y, X = (
        relation_targets(train),
        torch.zeros(300, 5, 4),
    )  # nothing to see: the classifier can only learn the shares
    rare = Y.flatten().bincount().argmin().item()
    p = {}
    for name, w in (("plain", None), ("weighted", class_weights(Y))):
        torch.manual_seed(0)
        model = RelationModel(Trunk(torch.randn(300, 5, 4)), hidden=16, weights=w)
        fit(model, relation_loss, Batches(tensors(X, Y), 50), 30, 1e-2)
        p[name] = model(X[:1]).softmax(-1).mean((0, 1))
    share = Y.flatten().bincount().float() / Y.numel()
    assert abs(p["plain"][rare] - share[rare]) < 0.04 and (p["weighted"] - 0.25).abs().max() < 0.06


# ---- what must be refused


def test_stores_that_do_not_belong(annotated, tmp_path):
    train = segments_of(annotated, "train")
    for s in train.ids:
        save_features(tmp_path / "s", s, np.ones((5, 6)))
    write_index(tmp_path / "s", train.ids, backbone="b1")
    _, X = with_features(train, tmp_path / "s")
    save_contextualizer(
        tmp_path / "c.safetensors",
        Contextualizer(ContextualizerConfig(6, 8, 1, 2, 8)),
        backbone="b2",
    )
    with pytest.raises(
        InputError,
        match=(
            "c.safetensors: was pretrained on features of backbone run b2, but the features at "
            "hand are of b1"
        ),
    ):
        load_contextualizer(tmp_path / "c.safetensors", X.shape[-1], "b1")
    with pytest.raises(
        InputError,
        match="c.safetensors: reads features of 6 numbers, but the features at hand have 7",
    ):
        load_contextualizer(tmp_path / "c.safetensors", 7)
    save_features(
        tmp_path / "s", train.ids[2], np.ones((5, 7))
    )  # another network wrote over one entry
    with pytest.raises(
        InputError, match=f"{train.ids[2]}_feats.npy: features of 7 numbers, expected 6"
    ):
        with_features(train, tmp_path / "s")
    save_features(tmp_path / "s", train.ids[2], np.ones((4, 6)))
    with pytest.raises(
        InputError, match=f"{train.ids[2]}_feats.npy: has 4 events, the index says 5"
    ):
        with_features(train, tmp_path / "s")
    write_index(tmp_path / "s", train.ids, backbone="b1")
    with pytest.raises(InputError, match=f"{train.ids[2]} has 4 events, expected 5"):
        with_features(train, tmp_path / "s")
    save_features(tmp_path / "s", train.ids[2], np.ones((5, 6)))
    write_index(tmp_path / "s", train.ids, backbone="b1")
    (tmp_path / "s" / f"{train.ids[4]}_feats.npy").unlink()
    with pytest.raises(InputError, match=f"{train.ids[4]}_feats.npy: no such feature file"):
        with_features(train, tmp_path / "s")
    write_index(tmp_path / "s", [s for s in train.ids if s not in train.ids[4:6]], backbone="b1")
    with pytest.raises(
        InputError, match=f"no features for 2 of the 16 segments, first {train.ids[4]}"
    ):
        with_features(train, tmp_path / "s")
    kept, X = with_features(train, tmp_path / "s", allow_missing=True)
    assert len(kept.ids) == len(X) == 14 and not (X == 0).all(-1).any()
    write_index(tmp_path / "s", train.ids[:1], backbone="b1")
    with pytest.raises(InputError, match="no features for 1 of the 1 segments"):
        with_features(train.select(train.ids[1:2]), tmp_path / "s", allow_missing=True)


def with_change(annotated, tmp_path, file, change):
    root = tmp_path / "ann"
    for f in (
        "split_files/vseg_split_valid_lb.json",
        "vinfo_files/vinfo_valid_lb.json",
        "vseg_ann_files/vsann_valid_lb.json",
    ):
        x = read_json(annotated / "vidsitu/vidsitu_annotations" / f)
        if file in f:
            x = change(x) or x
        write_json(root / f, x)
    with pytest.raises(InputError) as e:
        read_segments(root, "valid")
    return str(e.value)


@pytest.mark.parametrize(
    "file, change, words",
    [
        (
            "vsann",
            lambda x: x[5].pop("Ev4") and None,
            "vsann_valid_lb.json, entry 5: must contain ['Ev4'] properties",
        ),
        (
            "vsann",
            lambda x: x[5]["Ev4"].pop("VerbID") and None,
            "vsann_valid_lb.json, entry 5, Ev4: must contain ['VerbID'] properties",
        ),
        (
            "vsann",
            lambda x: x[5]["Ev4"].update(Args=["a"]),
            "vsann_valid_lb.json, entry 5, Ev4, Args: must be object",
        ),
        (
            "vsann",
            lambda x: x[5]["Ev4"]["Args"].update({"Arg9 (x)": "y"}),
            "vsann_valid_lb.json, entry 5, Ev4, Args: role 'Arg9 (x)': not a role name",
        ),
        (
            "vsann",
            lambda x: x[5]["Ev4"]["Args"].update({"Arg1 (x)": None}),
            "entry 5, Ev4, Args, Arg1 (x): must be string",
        ),
        (
            "vsann",
            lambda x: {"all": x},
            "vsann_valid_lb.json: expected a list of entries, got dict",
        ),
        ("vsann", lambda x: x[:0] + x[6:], "has no annotation entry"),
        ("vinfo", lambda x: x[:-1], "has no vinfo entry"),
        (
            "vinfo",
            lambda x: x[1].update(vbid_lst=dict(Ev1="walk.01")),
            "vinfo_valid_lb.json, entry 1, vbid_lst, Ev1: must be array",
        ),
        ("split", lambda x: x.append(x[0]), "is there twice"),
        ("vinfo", lambda x: x.append(x[0]), "vinfo_valid_lb.json: segment"),
        (
            "vinfo",
            lambda x: x[1].pop("vbid_lst") and None,
            "has no votes (vbid_lst) for all five events",
        ),
        (
            "vinfo",
            lambda x: x[1].update(vbid_lst=dict(other=["walk.01"])),
            "has no votes (vbid_lst) for all five events",
        ),
        ("split", lambda x: x.clear(), "vseg_split_valid_lb.json: no segments"),
        (
            "split",
            lambda x: x.append("abc"),
            "vseg_split_valid_lb.json, entry 4: must match pattern",
        ),
    ],
)
def test_annotations_that_are_broken(annotated, tmp_path, file, change, words):
    assert words in with_change(annotated, tmp_path, file, change)


def test_half_a_character_is_no_text(annotated, tmp_path):
    """JSON can hold half of an emoji; nothing that writes UTF-8 can."""
    from hiermovie.vidsitu import read_entries

    text = (
        annotated / "vidsitu/vidsitu_annotations/vseg_ann_files/vsann_valid_lb.json"
    ).read_text()
    a = read_json(annotated / "vidsitu/vidsitu_annotations/vseg_ann_files/vsann_valid_lb.json")
    (tmp_path / "a.json").write_text(text.replace(a[0]["Ev1"]["VerbID"], "walk\\ud83d.01", 1))
    with pytest.raises(InputError, match="a.json, entry 0: has half a character"):
        read_entries(tmp_path / "a.json", "vsann")


def test_a_segment_without_any_label_does_not_stop_training(annotated):
    train = segments_of(annotated, "train")
    for ev in RELATED:
        train.annotations[3][0][ev]["EvRel"] = "Null"
    X, Y = torch.randn(16, 5, 8), relation_targets(train)
    assert (Y[3] == -100).all()
    log = fit(RelationModel(Trunk(X), hidden=8), relation_loss, Batches(tensors(X, Y), 1), 1)
    assert log.loss.notna().all() and (log.loss == 0).sum() == 1


def test_heads_and_vocabularies_that_do_not_belong(annotated, tmp_path):
    train = segments_of(annotated, "train")
    words, other = RoleVocabulary.build(train, size=300), RoleVocabulary.build(train, size=310)
    model = RoleModel(Trunk(torch.randn(2, 5, 8)), TxD(len(words), 16, 1, 2, 16))
    save_head(tmp_path / "roles.safetensors", model, words.tokens)
    with pytest.raises(InputError, match="roles.safetensors: was trained with another vocabulary"):
        load_head(
            tmp_path / "roles.safetensors",
            RoleModel(Trunk(torch.randn(2, 5, 8)), TxD(len(other), 16, 1, 2, 16)),
            other.tokens,
        )
    with pytest.raises(InputError, match="roles.safetensors: .*tensors do not fit"):
        load_head(
            tmp_path / "roles.safetensors",
            RoleModel(Trunk(torch.randn(2, 5, 8)), TxD(len(words), 16, 2, 2, 16)),
            words.tokens,
        )
    with pytest.raises(InputError, match="they do not belong together"):
        predict_roles(model, torch.zeros(16, 5, 8), train, other)
    save_backbone(tmp_path / "b.safetensors", SlowFast(SlowFastConfig(18, 8, frames=8, size=32)))
    with pytest.raises(InputError, match="b.safetensors: a backbone, expected a head"):
        load_head(tmp_path / "b.safetensors", model, words.tokens)


def test_a_split_of_the_size_of_the_release_is_read(annotated, tmp_path):
    """23,626 training segments: schema and cross-checks, all of them."""
    base = read_json(annotated / "vidsitu/vidsitu_annotations/vseg_ann_files/vsann_train_lb.json")
    ids, anns = [f"v_{k:011d}_seg_0_10" for k in range(23626)], []
    for k, s in enumerate(ids):
        anns.append({ev: dict(base[k % 16][ev], vid_seg_int=s) for ev in EVENTS})
    write_json(tmp_path / "vseg_ann_files/vsann_train_lb.json", anns)
    write_json(tmp_path / "split_files/vseg_split_train_lb.json", ids)
    write_json(tmp_path / "vinfo_files/vinfo_train_lb.json", [dict(vid_seg_int=s) for s in ids])
    assert len(read_segments(tmp_path, "train").ids) == 23626
    anns[-1]["Ev5"]["EvRel"] = "Maybe"
    write_json(tmp_path / "vseg_ann_files/vsann_train_lb.json", anns)
    with pytest.raises(InputError, match="entry 23625, Ev5, EvRel"):
        read_segments(tmp_path, "train")
