"""How fast do two clips of a video come out of its file? `make bench`.

One core; Kinetics-like files (H.264, 340 x 256, 30 frames a second, 10 s); ours, bare PyAV decoding
of the same frames, and pytorchvideo's LabeledVideoDataset, all in one run, medians of five.
"""

import statistics
import tempfile
import time
import warnings
from pathlib import Path

import av
import numpy as np
import torch
from rows import row

from hiermovie.backbone import two_starts
from hiermovie.base import rng
from hiermovie.video import clip_times, read_clips

T, SECONDS, VIDEOS = 32, 64 / 30, 12  # SlowFast 8x8: 32 frames, every second one


def write(path, seed):
    """Moving blobs over a textured ground, with the encoder's own settings (x264 medium, a keyframe
    at most every 250 frames).
    """
    r = np.random.default_rng(seed)
    ground = (np.kron(r.random((32, 43, 3)), np.ones((8, 8, 1)))[:256, :340] * 160).astype(np.uint8)
    with av.open(str(path), "w") as box:
        s = box.add_stream("libx264", rate=30, options={"crf": "23"})
        s.width, s.height, s.pix_fmt = 340, 256, "yuv420p"
        for k in range(300):
            x = np.roll(ground, (k // 2, k), (0, 1)).copy()
            for j in range(4):
                a, b = int(128 + 90 * np.sin(k / 20 + j)), int(170 + 130 * np.cos(k / 27 + 2 * j))
                x[max(0, a - 20) : a + 20, max(0, b - 20) : b + 20] = 60 * j
            x = np.clip(x + r.integers(0, 12, x.shape), 0, 255).astype(np.uint8)
            box.mux(s.encode(av.VideoFrame.from_ndarray(x, format="rgb24")))
        box.mux(s.encode())


def ours(paths, starts):
    for p, ss in zip(paths, starts, strict=True):
        read_clips(p, [clip_times(s, s + SECONDS, T) for s in ss])


def bare(paths, starts):
    """Only decoding: from the keyframe before the first wanted frame to the last wanted frame,
    nothing converted.
    """
    for p, ss in zip(paths, starts, strict=True):
        with av.open(str(p)) as box:
            s = box.streams.video[0]
            s.codec_context.thread_count = 1
            box.seek(int(min(ss) / s.time_base), stream=s)
            for f in box.decode(s):
                if f.time > max(ss) + SECONDS:
                    break


def theirs(paths, starts):
    """Two clips a video, each an item of the data set, as their training code has it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorchvideo.data import LabeledVideoDataset, make_clip_sampler

        items = LabeledVideoDataset(
            [(str(p), {"label": 0}) for p in paths for _ in range(2)],
            make_clip_sampler("random", SECONDS),
            torch.utils.data.SequentialSampler,
            decode_audio=False,
        )
        for item in items:
            item["video"][:, ::2]


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{k}.mp4" for k in range(VIDEOS)]
        for k, p in enumerate(paths):
            write(p, k)
        starts = [two_starts(10.0, SECONDS, rng(0, k)) for k in range(VIDEOS)]
        times = {"ours": [], "bare decoding": [], "LabeledVideoDataset": []}
        for _ in range(5):  # one after the other, five times: a busy machine is busy for all
            for name, f in zip(times, (ours, bare, theirs), strict=True):
                began = time.process_time()
                f(paths, starts)
                times[name].append(time.process_time() - began)
        seconds = {name: statistics.median(t) for name, t in times.items()}
    clips = {name: 2 * VIDEOS / t for name, t in seconds.items()}
    peer, bare_rate = clips["LabeledVideoDataset"], clips["bare decoding"]
    sides = dict(peer=("LabeledVideoDataset", peer), limit=("bare decoding", bare_rate))
    work = f"two clips of {T} frames of a video, one core"
    row(work, clips["ours"], "clips/s", **sides, more=True)


if __name__ == "__main__":
    main()
