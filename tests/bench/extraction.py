"""Features from files, end to end, against decoding alone and the network alone. `make bench`. All
in one run, in turns, medians of three.

Decoding happens while the network computes, so the whole can be as fast as the slower of the two,
if there is a core for each."""

import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from loading import write

from hiermovie.backbone import Cutting, SlowFast, SlowFastConfig, features_of
from hiermovie.video import read_clips


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cuts = {"a thread": Cutting(batch=16), "a decoding process": Cutting(batch=16, workers=1)}
    cut, models = (
        cuts["a thread"],
        {
            "32 frames": SlowFast(SlowFastConfig(18, 16, frames=32, size=64)).eval(),
            "32 frames, twice the size": SlowFast(
                SlowFastConfig(18, 16, frames=32, size=128)
            ).eval(),
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{k}.mp4" for k in range(20)]
        for k, p in enumerate(paths):
            write(p, k)
        events = 5 * len(paths)
        for name, model in models.items():
            cfg = model.cfg

            def decode():
                for p in paths:
                    read_clips(p, cut.clips(p, cfg.frames), cfg.size)

            clips = torch.randn(5, 3, cfg.frames, cfg.size, cfg.size).contiguous(
                memory_format=torch.channels_last_3d
            )  # as `features_of` has them, and the weights
            for p in model.parameters():
                p.data = (
                    p.data.contiguous(memory_format=torch.channels_last_3d)
                    if p.ndim == 5
                    else p.data
                )

            @torch.no_grad()
            def forward():
                for _ in paths:
                    model(clips)

            def whole(how):
                assert all(e is None for _, _, e in features_of(model, paths, cuts[how]))

            sides = {"decoding": decode, "network": forward} | {
                f"files to features ({how})": lambda how=how: whole(how) for how in cuts
            }
            times = {k: [] for k in sides}
            for _ in range(3):
                for key, f in sides.items():
                    began = time.perf_counter()
                    f()
                    times[key].append(time.perf_counter() - began)
            t = {k: events / statistics.median(v) for k, v in times.items()}
            print(
                f"{name}, 340 x 256 H.264 to {cfg.size} x {cfg.size}, {os.cpu_count()} cores: "
                + ", ".join(f"{k} {v:.1f} events/s" for k, v in t.items())
            )
            print(
                "  of the slower of the two: "
                + ", ".join(
                    (
                        f"{how} "
                        f"{100 * t[f'files to features ({how})'] / min(t['decoding'], t['network']):.0f}%"
                    )
                    for how in cuts
                )
                + " (wanted: 85)"
            )


if __name__ == "__main__":
    main()
