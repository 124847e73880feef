"""The training loop where it can go wrong: full disks, states that do not fit, numbers that are not
finite, workers, switches.
"""

import subprocess
import sys

import pandas as pd
import pytest
import torch
from torch import nn

from hiermovie.backbone import (
    PretrainConfig,
    SlowFast,
    SlowFastConfig,
    TwoViews,
    VisualAndMotion,
    load_backbone,
    prepare,
    pretrain,
    save_backbone,
)
from hiermovie.base import (
    Batches,
    FitOptions,
    InputError,
    fit,
    load_state,
    load_weights,
    make_optimizer,
    save_state,
)
from hiermovie.video import LabelledClips, read_clip_list, read_kinetics, usable_videos

pytestmark = pytest.mark.slow

FULL_DISK = """
import resource, signal, sys, torch
from torch import nn
from hiermovie.base import Batches, InputError, fit, write_tensors

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing past the limit fails, as on a full disk
data = [(torch.randn(64, generator=torch.Generator().manual_seed(i)),) for i in range(16)]
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 256), nn.Linear(256, 1))
seen = []


def loss(m, b):
    seen.append(1)
    if len(seen) == 6 and len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))
    return m(b[0]).square().mean()


try:
    fit(model, loss, Batches(data, 4), 4, state=sys.argv[1])
except InputError as e:
    print("said:", e)
    try:
        write_tensors(sys.argv[1] + ".safetensors", model.state_dict())
    except InputError as e:
        print("said:", e)
else:
    print("sum", sum(p.double().sum().item() for p in model.parameters()).hex())
"""


def test_a_full_disk_leaves_the_old_state(tmp_path):
    """The second state cannot be written: the message says so, the first is whole, and training
    goes on from it as if nothing had been.
    """
    (tmp_path / "t.py").write_text(FULL_DISK)

    def go(*a):
        run = subprocess.run(
            [sys.executable, tmp_path / "t.py", *a], capture_output=True, text=True
        )
        lines = run.stdout.splitlines()
        return "\n".join(x for x in lines if not x.startswith("train: "))  # progress, when slow

    out = go(tmp_path / "s.pt", "full")
    assert (
        "s.pt: the training state of step 8 cannot be written" in out
        and "the state before it is kept" in out
        and "s.pt.safetensors: cannot be written" in out
    ), out
    assert [p.name for p in tmp_path.glob("*s.pt*")] == ["s.pt"] and torch.load(
        tmp_path / "s.pt", weights_only=True
    )["step"] == 4
    assert go(tmp_path / "s.pt") == go(tmp_path / "other.pt") != ""


@pytest.fixture(scope="module")
def clips(world):
    table = read_kinetics(world / "kinetics", "train")
    return table, usable_videos(table.path, "clips")[0]


def test_workers_change_nothing(clips):
    """Every data set of pretraining: the same batches from 0, 1 and 2 worker processes, from the
    middle of an epoch too.
    """
    table, infos = clips
    for data in (
        LabelledClips(table, infos, sorted(table.label.unique()), 4, 32),
        TwoViews(infos, 4, 32),
        VisualAndMotion(infos, 4, 32),
    ):
        first, *others = [
            [
                torch.cat([x.flatten().double() for x in b])
                for b in Batches(data, 6, workers=w)(3, 1)
            ]
            for w in (0, 1, 2)
        ]
        assert len(first) == 2
        for o in others:
            assert all(torch.equal(a, b) for a, b in zip(first, o, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_video_that_disappears_is_named(workers, world, clips, tmp_path):
    """Between the check and the training, with and without worker processes: one line, the file in
    it.
    """
    import shutil

    table, infos = clips
    paths = {p: tmp_path / "v" / p.name for p in table.path}
    (tmp_path / "v").mkdir()
    for a, b in paths.items():
        shutil.copy(a, b)
    prepare(
        tmp_path,
        PretrainConfig(
            "cvrl", depth=18, width=8, size=32, hidden=8, projection=8, batch=4, workers=workers
        ),
        table.assign(path=table.path.map(paths)),
        {paths[p]: i for p, i in infos.items()},
    )
    gone = paths[table.path[5]]
    gone.unlink()
    with pytest.raises(InputError) as e:
        pretrain(tmp_path)
    assert str(e.value) == f"{gone}: no such video"


def test_damage_in_the_middle_is_found_by_decoding_everything(world, tmp_path):
    source = sorted((world / "movieclips/videos").glob("*.mp4"))[0]
    data = bytearray(source.read_bytes())
    for k in range(len(data) // 2, len(data) // 2 + 1500):
        data[k] = (data[k] * 7 + k) % 256
    (tmp_path / "hurt.mp4").write_bytes(data)
    (tmp_path / "whole.mp4").write_bytes(source.read_bytes())
    good, coverage = usable_videos(sorted(tmp_path.glob("*.mp4")), "videos", whole=True)
    assert [p.name for p in good] == ["whole.mp4"] and "hurt.mp4" in coverage.table().why[0]


@pytest.mark.parametrize(
    "values,message",
    [
        ("null", "expected a configuration"),
        ('{"lrr": 1}', "unknown setting lrr"),
        ('{"batch": 0}', "batch: '0'"),
        ('{"epochs": 1.5}', "epochs: '1.5'"),
        ('{"frames": 9}', "multiple of alpha"),
        ('{"depth": 34}', "depth: '34', input should be 18, 50"),
        ('{"objective": "modist"}', "queue: 65536, must be at most the number of videos"),
        ('{"bf16": "yes"}', "bf16: 'yes'"),
        ('{"warmup": 2.0}', "warmup: '2.0'"),
    ],
)
def test_a_configuration_that_makes_no_sense(values, message, clips, tmp_path):
    prepare(tmp_path, PretrainConfig(), *clips)
    (tmp_path / "pretrain.json").write_text(values)
    with pytest.raises(InputError, match=message):
        pretrain(tmp_path)
    assert not (tmp_path / "backbone.safetensors").exists()


def test_not_finite_names_the_videos(clips, tmp_path):
    """A learning rate that is far too high: the message has the files of the batch."""
    prepare(
        tmp_path,
        PretrainConfig(
            "cvrl",
            depth=18,
            width=8,
            size=32,
            hidden=8,
            projection=8,
            batch=4,
            epochs=3,
            lr=1e30,
            optimizer="sgd",
            clip_norm=0,
            warmup=0,
        ),
        *clips,
    )
    with pytest.raises(
        InputError,
        match=(
            r"is (nan|inf) at epoch 0, step \d of cvrl; lower the learning rate or look at the "
            r"examples: .*\.mp4, .*\.mp4"
        ),
    ):
        pretrain(tmp_path)


@pytest.mark.parametrize(
    "change,message",
    [
        (
            dict(classes=7),
            r"2 tensors do not fit: 1.weight has shape \(5, 576\), expected \(7, 576\)",
        ),
        (dict(width=8), "do not fit"),
        (dict(optimizer="sgd"), None),
    ],
)
def test_a_state_of_something_else(change, message, tmp_path):
    """Another head, another backbone, another optimizer."""

    def build(width=16, classes=5, optimizer="adamw"):
        model = nn.Sequential(
            SlowFast(SlowFastConfig(18, width, frames=8, size=32)), nn.Linear(36 * width, classes)
        )
        return model, make_optimizer(model, optimizer, 0.1)

    model, optimizer = build()
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    save_state(tmp_path / "s.pt", model, optimizer, 3, [])
    assert load_state(tmp_path / "s.pt", *build()) == (3, [])
    with pytest.raises(InputError, match=message or "state of a training with AdamW, expected SGD"):
        load_state(tmp_path / "s.pt", *build(**change))


def test_a_checkpoint_of_another_architecture(tmp_path):
    save_backbone(tmp_path / "a.safetensors", SlowFast(SlowFastConfig(18, 8, frames=8, size=32)))
    with pytest.raises(InputError, match="a.safetensors: .* tensors do not fit"):
        load_weights(
            SlowFast(SlowFastConfig(18, 16)),
            load_backbone(tmp_path / "a.safetensors").state_dict(),
            tmp_path / "a.safetensors",
        )


@pytest.mark.parametrize(
    "options",
    [
        FitOptions("sgd"),
        FitOptions("lars"),
        FitOptions(bf16=True),
        FitOptions(channels_last=False),
        FitOptions(accumulate=2),
        FitOptions(bf16=True, channels_last=False),
    ],
    ids=str,
)
def test_every_switch_learns(options):
    """A small network of convolutions over time learns to tell bright clips from dark ones."""
    g = torch.Generator().manual_seed(0)
    data = [
        (torch.rand(3, 4, 8, 8, generator=g) * 0.5 + 0.5 * (i % 2), float(i % 2)) for i in range(32)
    ]
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv3d(3, 8, 3, padding=1),
        nn.BatchNorm3d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(8, 1),
    )
    log = fit(
        model,
        lambda m, b: nn.functional.binary_cross_entropy_with_logits(
            m(b[0]).squeeze(1).float(), b[1].float()
        ),
        Batches(data, 8),
        20,
        50.0 if options.optimizer == "lars" else 0.05,
        options=options,
    )
    assert log.loss.iloc[-4:].mean() < 0.5 * log.loss.iloc[:4].mean(), log


def test_compiled_is_the_same(tmp_path):
    """torch.compile needs a C++ compiler; where there is none, the switch says so by failing, not
    by computing something else.
    """
    data = [(torch.randn(4, generator=torch.Generator().manual_seed(i)),) for i in range(8)]

    def go(options):
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        return fit(
            model, lambda m, b: m(b[0]).square().mean(), Batches(data, 4), 3, options=options
        )

    plain = go(FitOptions())
    try:
        compiled = go(FitOptions(compile=True))
    except torch._dynamo.exc.BackendCompilerFailed as e:
        pytest.skip(f"no compiler here: {type(e).__name__}")
    assert abs(plain.loss - compiled.loss).max() < 1e-5


def test_logs_for_people(clips, tmp_path):
    """CSV and TensorBoard have the same numbers; a continued training writes no step twice."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    prepare(
        tmp_path / "r",
        PretrainConfig(
            "cvrl", depth=18, width=8, size=32, hidden=8, projection=8, batch=4, epochs=2
        ),
        *clips,
    )
    pretrain(tmp_path / "r", str(tmp_path / "tb"))
    log, events = pd.read_csv(tmp_path / "r/log.csv"), EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert list(log.step) == list(range(8)) and [e.step for e in events.Scalars("loss")] == list(
        log.step
    )
    assert (
        max(abs(e.value - x) for e, x in zip(events.Scalars("loss"), log.loss, strict=True)) < 1e-5
        and (log.gradient > 0).all()
    )


def test_supervised_learns_from_a_list(world, tmp_path):
    """A CSV list instead of folders; a class per line."""
    table = read_kinetics(world / "kinetics", "train")
    (tmp_path / "clips.csv").write_text(
        "".join(f"{r.path},{r.label}\n" for r in table.itertuples())
    )
    listed = read_clip_list(tmp_path / "clips.csv")
    assert list(listed.label) == list(table.label) and list(listed.path) == list(table.path)
    prepare(
        tmp_path / "r",
        PretrainConfig("supervised", depth=18, width=8, size=32, batch=8, epochs=2),
        listed,
        usable_videos(listed.path, "list")[0],
    )
    pretrain(tmp_path / "r")
    assert load_backbone(tmp_path / "r/backbone.safetensors").dim == 288
