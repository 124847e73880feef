"""Does it learn at all? The backbone overfits 16 clips, the contextualizer 16 sequences; noise is
not predicted.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hiermovie.backbone import ContrastiveModel, SlowFast, SlowFastConfig, TwoViews
from hiermovie.base import Batches, fit
from hiermovie.contextualizer import (
    Contextualizer,
    ContextualizerConfig,
    MaskConfig,
    MaskPrediction,
    Targets,
    retrieval,
)
from hiermovie.video import (
    FeatureStore,
    LabelledClips,
    Rows,
    Sequences,
    pad_sequences,
    read_kinetics,
    save_features,
    usable_videos,
    write_index,
)

pytestmark = pytest.mark.slow


def narrow():
    torch.manual_seed(0)
    return SlowFast(SlowFastConfig(depth=18, width=16, frames=8, size=64))


def test_backbone_overfits_16_clips(world):
    table = read_kinetics(world / "kinetics", "train")
    infos, _ = usable_videos(table.path, "clips")
    classes = sorted(table.label.unique())
    clips = [LabelledClips(table, infos, classes, train=False)[i] for i in range(16)]
    model = torch.nn.Sequential(narrow(), torch.nn.Linear(576, len(classes)))
    log = fit(model, lambda m, b: F.cross_entropy(m(b[0]), b[1]), Batches(clips, 16), 40, 3e-3)
    assert log.loss.iloc[0] > 1.5 and log.loss.iloc[-1] < 0.1
    x, y = (torch.stack([c[0] for c in clips]), torch.tensor([c[1] for c in clips]))
    assert (model.train()(x).argmax(1) == y).all()


def test_contrastive_loss_falls_on_16_clips(world):
    infos, _ = usable_videos(read_kinetics(world / "kinetics", "train").path, "clips")
    data = TwoViews(infos, strength=0.4)
    pairs = [data[i] for i in range(16)]  # the same two views every time
    log = fit(
        ContrastiveModel(narrow(), 64, 1, 32), lambda m, b: m(*b), Batches(pairs, 16), 25, 3e-3
    )
    assert abs(log.loss.iloc[0] - np.log(31)) < 1.5 and log.loss.iloc[-1] < 0.5


def test_contextualizer_overfits_16_sequences():
    torch.manual_seed(0)
    videos = {
        str(i): x
        for i, x in enumerate(
            np.random.default_rng(0).standard_normal((16, 6, 12)).astype(np.float32)
        )
    }
    flat = torch.from_numpy(np.concatenate(list(videos.values())))
    for loss, good in (("l2", 0.1), ("smooth_l1", 0.1), ("cosine", 0.3), ("nce", 0.3)):
        model = MaskPrediction(
            Contextualizer(ContextualizerConfig(12, 64, 2, 4, 128, 0.0)).standardize(flat),
            Targets(flat, "normalized"),
            MaskConfig(loss),
        )
        log = fit(
            model,
            lambda m, b: m(*b),
            Batches(Sequences(videos, 6), 16, collate=Sequences.collate),
            500,
            3e-3,
        )
        assert log.loss.iloc[-10:].mean() < good * log.loss.iloc[:10].mean(), loss


def losses_of(features, rows) -> list:
    torch.manual_seed(0)
    model = MaskPrediction(
        Contextualizer(ContextualizerConfig(12, 16, 1, 4, 32, 0.0)).standardize(rows),
        Targets(rows, "whitened", 6),
    )
    batches = Batches(Sequences(features, 5), 8, collate=Sequences.collate)
    return fit(model, lambda m, b: m(*b), batches, 3, 1e-3).loss.tolist()


@pytest.mark.parametrize("memory", [0, 500, 2**20])  # bytes that a store may keep
def test_a_store_gives_the_losses_of_arrays_in_memory(tmp_path, memory):
    rng = np.random.default_rng(0)
    films = {f"film{k}": rng.standard_normal((5 + k, 12)).astype(np.float32) for k in range(20)}
    for name, film in films.items():
        save_features(tmp_path, name, film)
    write_index(tmp_path, list(films))
    sizes = {name: len(film) for name, film in films.items()}
    store = FeatureStore(tmp_path, sizes, 12, memory)
    for block in (50, 1000):  # events: six blocks, or one
        in_memory = losses_of(films, Rows(films, rows=block))
        assert losses_of(store, Rows(store, rows=block)) == in_memory
    assert sum(x.nbytes for x in store._kept.values()) <= memory


def test_unpredictable_events_are_not_predicted():
    """The control that must fail: held-out noise cannot be filled in better than by chance."""
    torch.manual_seed(0)

    def draw(n, seed):
        return np.random.default_rng(seed).standard_normal((n, 6, 12)).astype(np.float32)

    flat = torch.from_numpy(draw(32, 0)).flatten(0, 1)
    model = MaskPrediction(
        Contextualizer(ContextualizerConfig(12, 32, 1, 4, 64, 0.0)).standardize(flat),
        Targets(flat, "normalized"),
    )
    fit(
        model,
        lambda m, b: m(*b),
        Batches(Sequences(dict(enumerate(draw(32, 0))), 6), 16, collate=Sequences.collate),
        60,
        3e-3,
    )
    scores = retrieval(model, *pad_sequences(list(draw(200, 1))))
    assert (
        scores["among"] == 100
        and scores["found"]["model"] < 0.03
        and abs(scores["cosine"]["model"]) < 0.1
    )


def stories(n, seed, shuffle=False):
    """Features that know the verb and nothing else, of MiniMovies' stories: (12, 24) each."""
    from hiermovie.base import rng
    from hiermovie.minimovies import VERBS, World, make_movie, tell

    world, code = World(), {v: rng("code", v).standard_normal(24) for v in VERBS}

    def one(i):
        r = rng(seed, "story", i)
        x = np.stack(
            [code[e.verb] for e in tell(make_movie(world, f"stories-{seed}", i), 12, world)]
        )
        if shuffle:
            x = x[r.permutation(len(x))]
        return (x + 0.3 * r.standard_normal(x.shape)).astype(np.float32)

    return {f"v{i}": one(i) for i in range(n)}


def test_mask_prediction_beats_what_needs_no_learning():
    """On stories of MiniMovies' grammar: mean feature, left neighbour, both neighbours; and on the
    same events in random order it does not.
    """
    found = {}
    for name, shuffle in (("stories", False), ("shuffled", True)):
        torch.manual_seed(0)
        train, held = stories(500, 0, shuffle), stories(60, 1, shuffle)
        flat = torch.from_numpy(np.concatenate(list(train.values())))
        model = MaskPrediction(
            Contextualizer(
                ContextualizerConfig(
                    24,
                    48,
                    2,
                    4,
                    96,
                    0.0,
                    positions="learned",
                    positions_std=0.5,
                    max_events=12,
                    scale=False,
                )
            ).standardize(flat),
            Targets(flat, "whitened", 24),
            MaskConfig("nce", 0.3, token=0.7, swap=0.2),
        )
        fit(
            model,
            lambda m, b: m(*b),
            Batches(Sequences(train, 12), 50, collate=Sequences.collate),
            60,
            3e-3,
        )
        found[name] = retrieval(model, *pad_sequences(list(held.values())))["found"]
    print("found among 100:", found)
    trivial = max(v for k, v in found["stories"].items() if k != "model")
    assert (
        found["stories"]["model"] > 3 * trivial
        and found["stories"]["model"] > 2 * found["shuffled"]["model"]
    )


def test_every_loss_of_mask_prediction_learns_stories():
    """Also the queue of a slow copy and the second term over windows, and sequences of 5 and of 64
    events.
    """
    train = stories(120, 0)
    flat = torch.from_numpy(np.concatenate(list(train.values())))
    for kw, length in (
        (dict(loss="queue", amount=4, queue=4096, momentum=0.99), 12),
        (dict(loss="nce", window_weight=0.5), 12),
        (dict(loss="l2", amount=2, block=True), 5),
        (dict(loss="cosine", amount=0.5), 64),
    ):
        torch.manual_seed(0)
        model = MaskPrediction(
            Contextualizer(ContextualizerConfig(24, 48, 1, 4, 96, 0.0, scale=False)).standardize(
                flat
            ),
            Targets(flat, "whitened", 24),
            MaskConfig(**kw),
        )
        long = (
            {n: np.tile(x, (6, 1)) for n, x in train.items()}
            if length == 64
            else {
                n: np.concatenate([x, train[f"v{(int(n[1:]) + 1) % 120}"]])
                for n, x in train.items()
            }
            if kw.get("window_weight")
            else train
        )
        log = fit(
            model,
            lambda m, b: m(*b),
            Batches(
                Sequences(long, length, windows=1 + bool(kw.get("window_weight"))),
                40,
                collate=Sequences.collate,
            ),
            120 if kw["loss"] == "queue" else 60,
            3e-3,
        )
        start = log.loss[20:40].mean() if kw["loss"] == "queue" else log.loss[:10].mean()
        assert log.loss[-20:].mean() < 0.93 * start, (kw, start, log.loss[-20:].mean())
