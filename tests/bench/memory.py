"""What do the stages need of memory where the stores have the size of the real ones? `make bench`.

Made-up features, 2,304 numbers an event: 34,587 unlabelled videos of 65 events, VidSitu's 23,626
training and 1,326 validation segments, LVU's 11,309 videos with 240 instances each. The disk need
not hold them all: by default one file in a hundred is written and stands under a hundred names; the
stages read each name as a file of its own. `--whole` writes every file (some 54 GB), `--half`
features as float16.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rows import row
from tqdm import tqdm

from hiermovie.base import read_json, write_json
from hiermovie.lvu import Instances, save_instances
from hiermovie.minimovies import World, write_lvu, write_vidsitu
from hiermovie.video import save_features

STAGES = Path(__file__).resolve().parents[2] / "nbs/stages"
DIM, EVENTS, VIDEOS = 2304, 65, 34_587
SEGMENTS = (23_626, 1_326)  # VidSitu's training and validation segments
LVU = (7_900, 1_700, 1_709)  # train, val and test of every task here
LIMIT = 3.0  # GB


def make_store(folder: Path, names: list, events: int, every: int, half: bool) -> None:
    "A finished store; one file of `every` is written, the others are further names of it."
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((64, DIM)).astype(np.float32)  # what varies between events
    for k, name in enumerate(tqdm(names, folder.name, mininterval=5, disable=None)):
        if k % every:
            os.link(folder / f"{names[k - k % every]}_feats.npy", folder / f"{name}_feats.npy")
            continue
        story = rng.standard_normal((events, 64), dtype=np.float32)
        noise = rng.standard_normal((events, DIM), dtype=np.float32)
        save_features(folder, name, story @ directions / 8 + noise, half)
    about = dict(event_s=2.0, convention="time", backbone="made up", dim=DIM)
    write_json(folder / "index.json", about | dict(events=dict.fromkeys(names, events)))


def make_instances(folder: Path, names: list, every: int) -> None:
    "A finished store of instances: two persons a second for two minutes of every video."
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    seconds = np.repeat(np.arange(120), 2)
    tracks, shots = np.tile([0, 1], 120) + 2 * (seconds // 10), seconds // 10
    boxes = np.tile([[0.1, 0.2, 0.4, 0.9], [0.6, 0.2, 0.9, 0.9]], (120, 1)).astype(np.float32)
    for k, name in enumerate(tqdm(names, "instances", mininterval=5, disable=None)):
        if k % every:
            os.link(folder / f"{names[k - k % every]}_inst.npz", folder / f"{name}_inst.npz")
            continue
        features = rng.standard_normal((len(seconds), DIM), dtype=np.float32)
        instances = Instances(seconds, boxes, tracks, shots, features)
        save_instances(folder, name, instances, "made up")
    counts = dict.fromkeys(names, len(seconds))
    write_json(folder / "index.json", dict(backbone="made up", dim=DIM, videos=counts))


def finished_run(folder: Path) -> None:
    write_json(folder / "metrics.json", {})
    write_json(folder / "root.json", dict(root=""))
    write_json(folder / "provenance.json", dict(key=folder.name, reads={}))


def make_runs(runs: Path, every: int, half: bool) -> None:
    "A run of data and one of features, of the size of the real ones."
    data, world = runs / "data", World()
    write_vidsitu(data, world, *SEGMENTS)
    write_lvu(data, world, *LVU)
    (data / "movieclips/videos").mkdir(parents=True)
    films = [f"film{k:07d}" for k in range(VIDEOS)]
    make_store(runs / "features/movieclips", films, EVENTS, every, half)
    segments = []
    for split in ("train", "valid"):
        names = f"vidsitu/vidsitu_annotations/split_files/vseg_split_{split}_lb.json"
        segments += read_json(data / names)
    make_store(runs / "features/vidsitu", segments, 5, every, half)
    durations = (data / "lvu/lvu_1.0/lvu_durations.csv").read_text().splitlines()[1:]
    videos = [line.split(",")[0] for line in durations]
    make_store(runs / "features/lvu", videos, EVENTS, every, half)
    make_instances(runs / "instances/lvu", videos, every)
    for name in ("data", "features", "instances"):
        finished_run(runs / name)


def run_stage(runs: Path, stage: str, **parameters) -> None:
    "Run a stage with papermill; print its time and the peak memory of its process."
    given = dict(out=str(runs / stage), data_run=str(runs / "data"), threads=os.cpu_count())
    given |= parameters
    began = time.perf_counter()
    command = [sys.executable, "-m", "papermill", "--log-output", "--no-progress-bar"]
    notebooks = [str(STAGES / f"{stage}.ipynb"), str(runs / f"{stage}.ipynb")]
    done = subprocess.run(
        [*command, *notebooks, "-y", json.dumps(given)], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    peak = read_json(runs / stage / "provenance.json")["peak_memory_mb"] / 1024
    took = time.perf_counter() - began
    row(f"memory of {stage}, a real store's size", peak, "GB", limit=("wanted", LIMIT))
    print(f"  {took:.0f} s for one pass")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--whole", action="store_true", help="write every file")
    parser.add_argument("--half", action="store_true", help="float16 stores")
    parser.add_argument("--folder", help="where to put them; default: a temporary folder")
    parser.add_argument("--width", type=int, default=64, help="of the contextualizer")
    options = parser.parse_args()
    size = dict(width=options.width, ffn=2 * options.width)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        runs = Path(folder) / "runs"
        make_runs(runs, 1 if options.whole else 100, options.half)
        numbers = VIDEOS * EVENTS * DIM
        gigabytes = numbers * (2 if options.half else 4) / 1e9
        print(f"{VIDEOS:,} videos of {EVENTS} events, {DIM:,} numbers each: {gigabytes:.1f} GB")
        features = dict(features_run=str(runs / "features"), epochs=1)
        instances = dict(instances_run=str(runs / "instances"), epochs=1)
        run_stage(runs, "30_pretrain_contextualizer", **features, **size)
        run_stage(runs, "35_pretrain_objects", **instances)
        head = features | dict(seeds=[0], contextualizer="scratch") | size
        for stage in ("40_verbs", "41_roles", "42_relations"):
            run_stage(runs, stage, **head)
        run_stage(runs, "50_lvu", tasks=["genre"], **head)


if __name__ == "__main__":
    torch.set_num_threads(os.cpu_count())
    main()
