"""Does it learn at all? The backbone overfits 16 clips, the contextualizer 16 sequences; noise is not predicted."""
import numpy as np
import torch
import torch.nn.functional as F

from hiermovie.backbone import SlowFast, SlowFastConfig
from hiermovie.contextualizer import Contextualizer, ContextualizerConfig
from hiermovie.contrast import ContrastiveModel, TwoViews
from hiermovie.features import pad_sequences
from hiermovie.maskpred import MaskPrediction, Sequences, Targets
from hiermovie.train import Batches, fit
from hiermovie.video import LabelledClips, read_kinetics, usable_videos


def narrow():
    torch.manual_seed(0)
    return SlowFast(SlowFastConfig(depth=18, width=16, frames=8, size=64))


def test_backbone_overfits_16_clips(world):
    table = read_kinetics(world/"kinetics", "train")
    infos, _ = usable_videos(table.path, "clips")
    classes = sorted(table.label.unique())
    clips = [LabelledClips(table, infos, classes, train=False)[i] for i in range(16)]
    model = torch.nn.Sequential(narrow(), torch.nn.Linear(576, len(classes)))
    log = fit(model, lambda m, b: F.cross_entropy(m(b[0]), b[1]), Batches(clips, 16), 40, 3e-3)
    assert log.loss.iloc[0] > 1.5 and log.loss.iloc[-1] < .1
    x, y = (torch.stack([c[0] for c in clips]), torch.tensor([c[1] for c in clips]))
    assert (model.train()(x).argmax(1) == y).all()


def test_contrastive_loss_falls_on_16_clips(world):
    infos, _ = usable_videos(read_kinetics(world/"kinetics", "train").path, "clips")
    data = TwoViews(infos, strength=.4)
    pairs = [data[i] for i in range(16)]                     # the same two views every time
    log = fit(ContrastiveModel(narrow(), 64, 1, 32), lambda m, b: m(*b), Batches(pairs, 16), 25, 3e-3)
    assert abs(log.loss.iloc[0] - np.log(31)) < 1.5 and log.loss.iloc[-1] < .5


def test_contextualizer_overfits_16_sequences():
    torch.manual_seed(0)
    videos = {str(i): x for i, x in enumerate(np.random.default_rng(0).standard_normal((16, 6, 12)).astype(np.float32))}
    flat = torch.from_numpy(np.concatenate(list(videos.values())))
    for loss, good in (("l2", .1), ("nce", .3)):
        model = MaskPrediction(Contextualizer(ContextualizerConfig(12, 64, 2, 4, 128, 0.)).standardize(flat), Targets(flat, "normalized"), loss)
        log = fit(model, lambda m, b: m(*b), Batches(Sequences(videos, 6), 16, collate=pad_sequences), 500, 3e-3)
        assert log.loss.iloc[-10:].mean() < good * log.loss.iloc[:10].mean(), loss


def test_unpredictable_events_are_not_predicted():
    """The control that must fail: held-out noise cannot be filled in better than by chance."""
    from hiermovie.maskpred import retrieval
    torch.manual_seed(0)
    draw = lambda n, seed: np.random.default_rng(seed).standard_normal((n, 6, 12)).astype(np.float32)
    flat = torch.from_numpy(draw(32, 0)).flatten(0, 1)
    model = MaskPrediction(Contextualizer(ContextualizerConfig(12, 32, 1, 4, 64, 0.)).standardize(flat), Targets(flat, "normalized"))
    fit(model, lambda m, b: m(*b), Batches(Sequences(dict(enumerate(draw(32, 0))), 6), 16, collate=pad_sequences), 60, 3e-3)
    scores = retrieval(model, *pad_sequences(list(draw(200, 1))))
    assert scores["model"] < .03        # chance is 1/200
