"""Features from files, end to end, against decoding alone and the network alone. `make bench`. All in one run, in turns, medians of three.

Decoding happens while the network computes, so the whole can be as fast as the slower of the two, if there is a core for each."""
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from hiermovie.backbone import SlowFast, SlowFastConfig
from hiermovie.extraction import Cutting, features_of
from hiermovie.video import read_clips
from loading import write


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cut, models = Cutting(batch=16), {"32 frames": SlowFast(SlowFastConfig(18, 16, frames=32, size=64)).eval(), "32 frames, twice the size": SlowFast(SlowFastConfig(18, 16, frames=32, size=128)).eval()}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder)/f"{k}.mp4" for k in range(20)]
        for k, p in enumerate(paths): write(p, k)
        events = 5 * len(paths)
        for name, model in models.items():
            cfg = model.cfg

            def decode():
                for p in paths: read_clips(p, cut.clips(p, cfg.frames), cfg.size)

            clips = torch.randn(5, 3, cfg.frames, cfg.size, cfg.size)

            @torch.no_grad()
            def forward():
                for _ in paths: model(clips)

            def whole():
                assert all(e is None for _, _, e in features_of(model, paths, cut))

            times = {"decoding": [], "network": [], "files to features": []}
            for _ in range(3):
                for key, f in zip(times, (decode, forward, whole)):
                    began = time.perf_counter()
                    f()
                    times[key].append(time.perf_counter() - began)
            t = {k: events / statistics.median(v) for k, v in times.items()}
            print(f"{name}, 340 x 256 H.264 to {cfg.size} x {cfg.size}, {os.cpu_count()} cores: " + ", ".join(f"{k} {v:.1f} events/s" for k, v in t.items()))
            print(f"  {100 * t['files to features'] / min(t['decoding'], t['network']):.0f}% of the slower of the two (wanted: 85)")


if __name__ == "__main__": main()
