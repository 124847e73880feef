"""LVU: nine tasks of one row at tiny's size, for both models, and the memory of 1,000 videos at the
paper's feature length. `make bench`.

The time of a row is what stage 50 does with the features in memory: per task a fresh model, 15
epochs, all windows of the test videos."""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rows import row

from hiermovie.base import rng
from hiermovie.lvu import (
    LVU_CLASSES,
    LVU_TASKS,
    Instances,
    InstanceWindows,
    LvuModel,
    ObjectConfig,
    ObjectModel,
    ObjectTransformer,
    SceneWindows,
    read_splits,
    run_task,
    sample_events,
)
from hiermovie.minimovies import World, write_lvu
from hiermovie.video import read_store, save_features, write_index
from hiermovie.vidsitu import Trunk


def films(videos, dim):
    for i, v in enumerate(videos):
        r = rng("bench lvu", i)
        yield v, r.standard_normal((int(r.integers(30, 101)), dim)).astype(np.float32)


def nine_tasks(kind, root):
    splits = {t: read_splits(root, t) for t in LVU_TASKS}
    videos = [v for t in splits["genre"].values() for v in t.video_id]
    features = dict(films(videos, 576))
    persons = {
        v: Instances(
            np.repeat(np.arange(len(x)), 2) * 2,
            np.tile(
                np.array([[0.1, 0.2, 0.4, 0.9], [0.6, 0.2, 0.9, 0.9]], np.float32), (len(x), 1)
            ),
            np.tile([0, 1], len(x)),
            np.repeat(np.arange(len(x)), 2) // 4,
            np.repeat(x, 2, 0),
        )
        for v, x in features.items()
    }
    cfg = ObjectConfig(576, 48, 2, 4, 96, 0.1)
    windows = SceneWindows(features) if kind == "scene" else InstanceWindows(persons, cfg)
    start = time.perf_counter()
    for task in LVU_TASKS:
        X, K = (
            sample_events(features, list(splits[task]["train"].video_id)),
            LVU_CLASSES.get(task, 1),
        )
        run_task(
            LvuModel(Trunk(X), K)
            if kind == "scene"
            else ObjectModel(ObjectTransformer(cfg).standardize(X), K),
            task,
            windows,
            splits[task],
            epochs=15,
            choose="last",
        )
    return time.perf_counter() - start


def memory(folder):
    """In a process of its own: a store of 1,000 videos is read, one task learned for an epoch and
    all windows of its test videos scored.
    """
    root = Path(folder) / "lvu"
    features, _ = read_store(Path(folder) / "store")
    splits = read_splits(root, "genre")
    X = sample_events(features, list(splits["train"].video_id))
    done = run_task(LvuModel(Trunk(X), 4), "genre", SceneWindows(features), splits, epochs=1)
    store = sum(x.nbytes for x in features.values()) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    row("memory for an LVU task on 1,000 videos", peak, "GiB", beside=("their features", store))
    assert len(done["test"]) == 150


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_lvu(Path(folder), World(), 24, 8, 16)
        seconds = {k: nine_tasks(k, Path(folder) / "lvu") for k in ("scene", "instance")}
        scene = ("scene model", seconds["scene"])
        row("nine LVU tasks, instance model", seconds["instance"], "s", beside=scene)
        write_lvu(Path(folder), World(), 700, 150, 150)
        videos = [
            v for t in read_splits(Path(folder) / "lvu", "genre").values() for v in t.video_id
        ]
        for v, x in films(videos, 2304):
            save_features(Path(folder) / "store", v, x)
        write_index(Path(folder) / "store", videos)
        subprocess.run([sys.executable, __file__, folder], check=True)


if __name__ == "__main__":
    memory(sys.argv[1]) if len(sys.argv) > 1 else main()
