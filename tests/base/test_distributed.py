"""Two and four processes compute what one does: loss and gradient of every objective, whole
trainings, extraction, and what happens when they are killed.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import BIN

from hiermovie.backbone import OBJECTIVES, PretrainConfig, prepare, pretrain
from hiermovie.base import InputError, launch, read_json, write_json
from hiermovie.video import read_kinetics, usable_videos

pytestmark = pytest.mark.slow

SMALL = dict(depth=18, width=8, frames=8, size=32, hidden=16, layers=1, projection=8, queue=16)

EQUAL = """
import json
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import default_collate

from hiermovie.backbone import build, config_from
from hiermovie.base import mine_of, process_group, rank, world
from hiermovie.base import read_json, read_table, sync_batchnorm

folder = sys.argv[1]
cfg = config_from(read_json(folder + "/pretrain.json"))
videos = read_table(folder + "/videos.csv")


def whole():
    return build(cfg, videos).model.double().train()


def batch(part):
    return [x.double() if x.is_floating_point() else x for x in default_collate(part)]


data = build(cfg, videos).data
items = [data[i] for i in range(int(sys.argv[2]))]
alone = whole()
with torch.no_grad():
    alone(*batch(items))  # once before: MoDist's queue is empty at first, and there is no gradient
one = alone(*batch(items))
one.backward()
with process_group():
    mine = mine_of(items)
    model = sync_batchnorm(whole())
    net = DistributedDataParallel(model, broadcast_buffers=False)
    with torch.no_grad():
        model(*batch(mine))
    loss = net(*batch(mine))
    (loss * len(mine) * world() / len(items)).backward()
    total = loss.detach() * len(mine) / len(items)
    dist.all_reduce(total)
    if rank() == 0:
        named = zip(alone.named_parameters(), model.parameters(), strict=True)
        grads = [(a.grad, b.grad) for (n, a), b in named if a.requires_grad]
        worst = max(((a - b).norm() / a.norm().clamp(min=1e-12)).item() for a, b in grads)
        buffers = zip(alone.buffers(), model.buffers(), strict=True)
        apart = max((a.double() - b.double()).abs().max().item() for a, b in buffers)
        size = sum(a.norm().item() for a, _ in grads)
        said = dict(one=one.item(), two=total.item(), gradient=worst, buffers=apart, size=size)
        print(json.dumps(said))
    dist.barrier()  # nobody leaves while the other one still works
"""


@pytest.fixture(scope="module")
def clips(world):
    table = read_kinetics(world / "kinetics", "train")
    return table, usable_videos(table.path, "clips")[0]


@pytest.mark.parametrize(
    "objective,n",
    [("supervised", 8), ("supervised", 7), ("cvrl", 8), ("moco", 8), ("modist", 8)],
)
def test_loss_and_gradient_of_the_joined_batch(objective, n, clips, tmp_path):
    """Of four processes, in double precision: SlowFast, batch normalization over all of them,
    negatives of all, running statistics and queues; with 7 clips three have two and one has one.
    """
    prepare(tmp_path, PretrainConfig(objective, **SMALL), *clips)
    (tmp_path / "equal.py").write_text(EQUAL)
    got = json.loads(
        launch([sys.executable, tmp_path / "equal.py", tmp_path, n], 4).strip().splitlines()[-1]
    )
    assert (
        abs(got["one"] - got["two"]) < 1e-10 * got["one"]
        and got["gradient"] < 1e-6
        and got["buffers"] < 1e-8
        and got["size"] > 0.1
    ), got


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_whole_pretraining_by_two_processes(objective, clips, tmp_path):
    """Six steps; single precision, so nearly but not exactly the same."""
    cfg = dict(SMALL, objective=objective, batch=4, epochs=2, lr=1e-3, optimizer="sgd", labelled=12)
    for n in (1, 2):
        prepare(tmp_path / str(n), PretrainConfig(**cfg), *clips)
        launch(["hiermovie", "pretrain", tmp_path / str(n)], n)
    one, two = (pd.read_csv(tmp_path / n / "log.csv") for n in "12")
    assert len(one) == len(two) >= 6 and (one.lr == two.lr).all()
    assert (abs(one.loss - two.loss) <= 1e-3 * one.loss).all() and one.loss.iloc[-1] > 0, (
        one.loss.tolist(),
        two.loss.tolist(),
    )
    assert abs(one.loss - one.loss[0]).max() > 1e-3  # and something happened


def program(folder, processes):
    run = (
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
            "--no-python",
        ]
        if processes > 1
        else []
    )
    return [*run, str(BIN / "hiermovie"), "pretrain", str(folder)]


def workers(folder):
    """Process ids of the trainings of this folder."""
    found = []
    for p in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = p.read_bytes().split(b"\0")
        except OSError:
            continue
        if (
            str(folder).encode() in words
            and b"pretrain" in words
            and b"torch.distributed.run" not in words
        ):
            found.append(int(p.parent.name))
    return found


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_in_the_middle_of_an_epoch_and_continued(processes, clips, tmp_path):
    """kill -9 of one process; started again it ends with the same bytes as a training that was
    never touched.
    """
    cfg = PretrainConfig("cvrl", **SMALL, batch=4, epochs=10, save_every=3)
    env = dict(os.environ, OMP_NUM_THREADS="1", PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    for name in ("whole", "killed"):
        prepare(tmp_path / name, cfg, *clips)
    launch(["hiermovie", "pretrain", tmp_path / "whole"], processes)
    victim = subprocess.Popen(
        program(tmp_path / "killed", processes),
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.time() + 120
    while not (tmp_path / "killed" / "state.pt").exists() and time.time() < end:
        time.sleep(0.01)
    pids = workers(tmp_path / "killed")
    assert len(pids) == processes
    os.kill(pids[-1], signal.SIGKILL)
    assert victim.wait(60) != 0
    while workers(tmp_path / "killed") and time.time() < end:
        time.sleep(0.05)
    import torch

    step = torch.load(tmp_path / "killed" / "state.pt", weights_only=True)["step"]
    assert (
        0 < step < 40
        and step % 3 == 0
        and not (tmp_path / "killed" / "backbone.safetensors").exists()
    )
    launch(["hiermovie", "pretrain", tmp_path / "killed"], processes)
    for f in ("backbone.safetensors", "log.csv"):
        assert (tmp_path / "whole" / f).read_bytes() == (tmp_path / "killed" / f).read_bytes(), f
    assert not (tmp_path / "killed" / "state.pt").exists()


def test_batches_that_cannot_be_shared(clips, tmp_path):
    prepare(tmp_path, PretrainConfig("cvrl", **SMALL, batch=5), *clips)
    with pytest.raises(InputError, match="batches of 5 .* cannot be shared by 2 processes"):
        launch(["hiermovie", "pretrain", tmp_path], 2)


def test_processes_that_see_different_states(clips, tmp_path, monkeypatch):
    """Two machines without a shared folder: one has a state, the other has none. Going on would
    train silently wrong.
    """
    from hiermovie.base import Stepper

    for name in ("0", "1"):
        prepare(
            tmp_path / name,
            PretrainConfig("cvrl", **SMALL, batch=4, epochs=3, save_every=2),
            *clips,
        )
    step, count = Stepper.__call__, []

    def stops(self, *a):
        count.append(1)
        if len(count) == 6:
            raise InputError("power cut")
        return step(self, *a)

    monkeypatch.setattr(Stepper, "__call__", stops)
    with pytest.raises(InputError, match="power cut"):
        pretrain(tmp_path / "0")
    assert (tmp_path / "0/state.pt").exists() and not (tmp_path / "1/state.pt").exists()
    (tmp_path / "go.py").write_text(
        "import os\nfrom hiermovie.backbone import run_pretrain\n"
        f"run_pretrain(f\"{tmp_path}/{{os.environ['RANK']}}\")\n"
    )
    with pytest.raises(InputError, match=r"do not see the same state \(steps 4, 0\)"):
        launch([sys.executable, tmp_path / "go.py"], 2)
    assert not (tmp_path / "0/backbone.safetensors").exists()


def test_fewer_videos_than_a_batch(clips, tmp_path):
    """Seven videos in a batch of eight for two processes: refused, since negatives are gathered in
    equal shares.
    """
    table, infos = clips
    prepare(tmp_path, PretrainConfig("cvrl", **SMALL, batch=8), table.iloc[:7], infos)
    with pytest.raises(
        InputError, match="7 examples are fewer than a batch of 8; 2 processes cannot share them"
    ):
        launch(["hiermovie", "pretrain", tmp_path], 2)


def test_one_training_at_a_time_in_a_folder(clips, tmp_path):
    from hiermovie.base import lock_folder

    prepare(tmp_path, PretrainConfig("cvrl", **SMALL, batch=4), *clips)
    with lock_folder(tmp_path, "training"):
        done = subprocess.run(program(tmp_path, 1), capture_output=True, text=True)
    assert (
        done.returncode == 2
        and "another training is writing there" in done.stderr
        and done.stderr.count("\n") == 1
    )


def test_extraction_shared_by_two_processes(world, tmp_path):
    """Every video once, the same features as one process makes; a broken file costs one line; a
    second start makes nothing anew.
    """
    import numpy as np
    import torch

    from hiermovie.backbone import (
        Cutting,
        SlowFast,
        SlowFastConfig,
        extract,
        read_coverage,
        save_backbone,
        write_job,
    )

    torch.manual_seed(0)
    save_backbone(tmp_path / "b.safetensors", SlowFast(SlowFastConfig(18, 8, frames=8, size=32)))
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 5000)
    videos = {
        "vidsitu": [*sorted((world / "vidsitu/videos").glob("*.mp4")), tmp_path / "broken.mp4"],
        "movieclips": sorted((world / "movieclips/videos").glob("*.mp4")),
    }
    cuts = dict(vidsitu=Cutting("vidsitu", n_events=5, workers=2), movieclips=Cutting(batch=3))
    for n in (1, 2):
        write_job(
            tmp_path / f"{n}.json", tmp_path / "b.safetensors", tmp_path / str(n), videos, cuts
        )
    extract(tmp_path / "1.json")
    launch(["hiermovie", "extract", tmp_path / "2.json"], 2)
    tables = [read_coverage(tmp_path / f"{n}.json").table() for n in (1, 2)]
    assert (
        tables[0].equals(tables[1])
        and (tables[0].status == "skipped").sum() == 1
        and len(tables[0]) == sum(map(len, videos.values()))
    )
    files = sorted((tmp_path / "1").rglob("*.npy"))
    assert len(files) == len(tables[0]) - 1
    for f in files:
        assert np.array_equal(np.load(f), np.load(tmp_path / "2" / f.relative_to(tmp_path / "1")))
    before = {f: f.stat().st_mtime_ns for f in files}
    extract(tmp_path / "1.json")
    assert before == {f: f.stat().st_mtime_ns for f in files}
    write_json(
        tmp_path / "3.json",
        read_json(tmp_path / "2.json") | {"checkpoint": str(tmp_path / "none.safetensors")},
    )
    with pytest.raises(InputError, match="none.safetensors"):
        launch(["hiermovie", "extract", tmp_path / "3.json"], 2)


def test_a_dead_worker_is_replaced(world, tmp_path):
    """Two workers that know nothing of each other; one is killed while it has a video. The other
    one makes everything, that video included.
    """
    import torch

    from hiermovie.backbone import (
        Cutting,
        SlowFast,
        SlowFastConfig,
        read_coverage,
        save_backbone,
        write_job,
    )

    torch.manual_seed(0)
    save_backbone(tmp_path / "b.safetensors", SlowFast(SlowFastConfig(18, 8, frames=8, size=32)))
    videos = dict(movieclips=sorted((world / "movieclips/videos").glob("*.mp4")))
    job = tmp_path / "job.json"
    write_job(job, tmp_path / "b.safetensors", tmp_path / "s", videos, dict(movieclips=Cutting()))
    code = f"from hiermovie.backbone import extract; extract({str(job)!r}, 2.0)"
    slow = "import time, hiermovie.backbone.extraction as e; save = e.save_features\n"
    slow += "e.save_features = lambda *a: time.sleep(0.5) or save(*a)\n"
    first = subprocess.Popen([sys.executable, "-c", slow + code])
    leases, end = tmp_path / "s/.leases", time.time() + 60
    while not list(leases.glob("*.lease")) and time.time() < end:
        time.sleep(0.02)
    second = subprocess.Popen([sys.executable, "-c", slow + code])
    while not list((tmp_path / "s").rglob("*_feats.npy")) and time.time() < end:
        time.sleep(0.02)
    first.kill()
    first.wait()
    assert list(leases.glob("*.lease"))  # what it had begun
    assert second.wait(120) == 0
    table = read_coverage(job).table()
    assert (table.status == "ok").all() and len(table) == len(videos["movieclips"])
    assert len(list((tmp_path / "s").rglob("*_feats.npy"))) == len(table)
    assert not leases.exists() or not list(leases.glob("*.lease"))
