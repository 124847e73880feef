"""Features from files, end to end, against decoding alone and the network alone. `make bench`. All
in one run, in turns, medians of three.

Decoding happens while the network computes, so the whole can be as fast as the slower of the two,
if there is a core for each."""

import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from loading import write
from rows import row

from hiermovie.backbone import Cutting, SlowFast, SlowFastConfig, features_of, keep_freed_memory
from hiermovie.video import read_clips

CUTS = {"a thread": Cutting(batch=16), "a decoding process": Cutting(batch=16, workers=1)}


def decode(paths, cfg):
    for p in paths:
        read_clips(p, CUTS["a thread"].clips(p, cfg.frames), cfg.size)


@torch.no_grad()
def forward(model, clips, times):
    for _ in range(times):
        model(clips)


def whole(paths, model, cut):
    assert all(error is None for _, _, error in features_of(model, paths, cut))


def in_channels_last(model):
    """As `features_of` has them."""
    for p in model.parameters():
        if p.ndim == 5:
            p.data = p.data.contiguous(memory_format=torch.channels_last_3d)
    return model


def medians(sides, events):
    """Events per second of every side, run in turns."""
    times = {name: [] for name in sides}
    for _ in range(3):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - began)
    return {name: events / statistics.median(v) for name, v in times.items()}


def measure(name, model, paths):
    cfg, events = model.cfg, 5 * len(paths)
    clips = torch.randn(5, 3, cfg.frames, cfg.size, cfg.size)
    clips = clips.contiguous(memory_format=torch.channels_last_3d)
    sides = {"decoding": partial(decode, paths, cfg)}
    sides["network"] = partial(forward, model, clips, len(paths))
    for how, cut in CUTS.items():
        sides[f"files to features ({how})"] = partial(whole, paths, model, cut)
    speed = medians(sides, events)
    slower = min(("decoding", "network"), key=speed.get)
    for how in CUTS:
        work = f"files to features, {name}, {cfg.size} x {cfg.size}, {how}"
        limit = (f"{slower} alone", speed[slower])
        row(work, speed[f"files to features ({how})"], "events/s", limit=limit, more=True)


def freed_memory(model):
    """The network alone, before and after it keeps the memory that it frees; from then on all of
    this process does.
    """
    cfg, rates = model.cfg, []
    clips = torch.randn(5, 3, cfg.frames, cfg.size, cfg.size)
    clips = clips.contiguous(memory_format=torch.channels_last_3d)
    for arrange in (lambda: False, keep_freed_memory):
        kept = arrange()
        rates.append(medians({"network": partial(forward, model, clips, 20)}, 100)["network"])
    work = f"features of clips, {cfg.size} x {cfg.size}, freed memory kept"
    if kept:
        row(work, rates[1], "events/s", peer=("given back", rates[0]), more=True)


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    models = {
        "32 frames": SlowFastConfig(18, 16, frames=32, size=64),
        "32 frames, twice the size": SlowFastConfig(18, 16, frames=32, size=128),
    }
    with tempfile.TemporaryDirectory() as folder:
        freed_memory(in_channels_last(SlowFast(models["32 frames, twice the size"]).eval()))
        paths = [Path(folder) / f"{k}.mp4" for k in range(20)]
        for k, p in enumerate(paths):
            write(p, k)
        for name, cfg in models.items():
            # the first decoding and the last forward pass have nothing beside them
            many = 3 * paths if cfg.size == 64 else paths
            measure(name, in_channels_last(SlowFast(cfg).eval()), many)


if __name__ == "__main__":
    main()
