"""Decoding by torchcodec, which is not among the requirements: skipped where it is not installed.
On processors both decoders give the same bytes, so a training sees the same clips.
"""

import sys
from dataclasses import asdict, replace

import av
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT

from hiermovie.backbone import PretrainConfig, batches_of, build
from hiermovie.base import InputError, pick_device
from hiermovie.minimovies import write_minimovies
from hiermovie.video import CardReader, read_clips, read_kinetics, recent_index, usable_videos


def reader() -> CardReader:
    try:
        return CardReader("cpu")
    except InputError as e:
        pytest.skip(str(e))


def write(path, codec: str, pictures: int = 60):
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as box:
        stream = box.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for k in range(pictures):
            picture = np.full((64, 96, 3), 4 * k, np.uint8)
            picture[:, k : k + 20] = noise.integers(0, 255, 3)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            box.mux(stream.encode(frame))
        box.mux(stream.encode())
    return path


@pytest.mark.parametrize("codec, suffix", [("libx264", "mp4"), ("mpeg4", "mp4"), ("vp9", "webm")])
def test_the_frames_of_read_clips(codec, suffix, tmp_path):
    read = reader()
    path = write(tmp_path / f"film.{suffix}", codec)
    clips = [np.linspace(0, 2.3, 9), [1.0, 1.0, 0.5], [2.2, 5.0]]
    for there, here in zip(read(path, clips), read_clips(path, clips), strict=True):
        assert there.dtype == torch.uint8 and np.array_equal(there.numpy(), here)


def test_a_film_with_a_soundtrack_and_a_turned_one():
    read = reader()
    for name in ("trailer_bbb_small.mp4", "turned_90.mov"):
        path = ROOT / "tests/fixtures" / name
        clips = [np.linspace(0, recent_index(path).times[-1], 5)]
        assert np.array_equal(read(path, clips)[0].numpy(), read_clips(path, clips)[0])


def test_a_training_sees_the_same_clips(tmp_path):
    reader()
    write_minimovies(tmp_path, kinetics=(8, 1), movieclips=0, vidsitu=(1, 1), lvu=(1, 1, 1))
    table = read_kinetics(tmp_path / "kinetics", "train")
    infos, _ = usable_videos(table.path, "kinetics")
    rows = [r | asdict(infos[r["path"]]) for r in table.to_dict("records")]
    videos = pd.DataFrame(rows)
    seen = {}
    for place in ("workers", "device"):
        cfg = PretrainConfig("cvrl", batch=4, augment_on="device", decode_on=place)
        seen[place] = next(iter(batches_of(build(cfg, videos).data, cfg)(1)))
    for a, b in zip(*seen.values(), strict=True):
        assert torch.equal(a, b) or pick_device().type == "cuda"


def test_what_cannot_be_read_is_said(tmp_path, monkeypatch):
    read, path = reader(), write(tmp_path / "film.mp4", "libx264")
    with pytest.raises(InputError, match=r"film.mp4: asked for 9.00 s, but the video ends"):
        read(path, [[9.0]])
    with pytest.raises(InputError, match="at their own size, not at 32"):
        read(path, [[0.0]], 32)
    index = recent_index(path)
    shorter = replace(index, ticks=index.ticks[:-1])
    monkeypatch.setattr("hiermovie.video.card.recent_index", lambda path: shorter)
    with pytest.raises(InputError, match="torchcodec counts 60 frames, the index 59"):
        read(path, [[0.0]])


def test_without_torchcodec_it_says_what_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(InputError, match="needs the package torchcodec and the shared libraries"):
        CardReader("cpu")
