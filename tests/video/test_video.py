"""Reading by seeking equals decoding from the start, whatever the codec, the keyframes, the rate
and the rotation; several clips are read at once.
"""

import re
import threading
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from hiermovie.backbone import TwoViews, VisualAndMotion
from hiermovie.base import InputError
from hiermovie.video import (
    LabelledClips,
    looped,
    probe,
    read_clips,
    read_frames,
    read_kinetics,
    read_shards,
    usable_videos,
    write_shards,
)

FPS = 8


def write(path, n=64, codec="libx264", pts=None, **options):
    """n frames of noise with a bright column that says the frame number; `pts` in eighths of a
    second.
    """
    r = np.random.default_rng(0)
    with av.open(str(path), "w") as box:
        s = box.add_stream(codec, rate=FPS, options=options)
        s.width, s.height, s.pix_fmt, s.codec_context.time_base = (
            96,
            64,
            "yuv420p",
            Fraction(1, FPS),
        )
        for k in range(n):
            x = r.integers(0, 60, (64, 96, 3), dtype=np.uint8)
            x[:, k] = 255
            f = av.VideoFrame.from_ndarray(x, format="rgb24")
            f.pts, f.time_base = k if pts is None else pts[k], Fraction(1, FPS)
            box.mux(s.encode(f))
        box.mux(s.encode())
    return path


def plain(path):
    """(times, frames) of a decoding from the start."""
    with av.open(str(path)) as box:
        s = box.streams.video[0]
        zero = float((s.start_time or 0) * s.time_base)
        decoded = [(f.time - zero, f.to_ndarray(format="rgb24")) for f in box.decode(s)]
    return np.array([t for t, _ in decoded]), np.stack([x for _, x in decoded])


KINDS = [
    ("a.mp4", "libx264", {"g": "250"}),
    ("b.mp4", "libx264", {"g": "12", "bf": "3"}),
    ("c.mp4", "libx264", {"g": "4", "bf": "2", "sc_threshold": "0"}),
    ("d.mkv", "libx264", {"g": "12", "bf": "3"}),
    ("e.webm", "libvpx-vp9", {"g": "10"}),
    ("f.mp4", "mpeg4", {"g": "12"}),
    ("g.ts", "libx264", {"g": "12", "bf": "3"}),
]


@pytest.mark.parametrize("name,codec,options", KINDS, ids=[k[0] for k in KINDS])
def test_every_frame_by_seeking(name, codec, options, tmp_path):
    path = write(tmp_path / name, codec=codec, **options)
    times, frames = plain(path)
    r = np.random.default_rng(1)
    for k in range(len(times) - 1):
        assert (read_frames(path, [times[k] + 0.06])[0] == frames[k]).all(), k
    for _ in range(10):  # two clips that overlap, touch, or lie far apart, in any order
        clips = [np.sort(r.random(6) * 1.5) + r.random() * 6 for _ in range(2)]
        for clip, got in zip(
            clips, read_clips(path, clips, threads=int(r.integers(1, 4))), strict=True
        ):
            want = frames[
                [max(0, int(np.searchsorted(times, t + 1e-6, "right")) - 1) for t in clip]
            ]
            assert (got == want).all()


def test_variable_frame_rate(tmp_path):
    """Frames at 0, 1, 3, 6, 10, ... eighths: the frame shown is the last one that is not later."""
    pts = [k * (k + 1) // 2 for k in range(12)]
    path = write(tmp_path / "v.mp4", n=12, pts=pts, g="5", bf="2")
    times, frames = plain(path)
    assert np.allclose(times, np.array(pts) / FPS)
    grid = np.arange(0, pts[-1] / FPS, 0.21)
    assert (
        read_frames(path, grid) == frames[np.searchsorted(times, grid + 1e-6, "right") - 1]
    ).all()


@pytest.mark.parametrize(
    "turns,matrix", [(1, (0, 1, 0, -1, 0, 0)), (2, (-1, 0, 0, 0, -1, 0)), (3, (0, -1, 0, 1, 0, 0))]
)
def test_rotated_by_the_container(turns, matrix, tmp_path):
    """A phone's video: stored lying, shown upright. `turns` quarter turns clockwise, written into
    the track header.
    """
    path = write(tmp_path / "r.mp4", n=8)
    stored = plain(path)[1]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    assert data[at : at + 4] == (1 << 16).to_bytes(4, "big")  # the identity stands there
    for k, x in enumerate((*matrix, 0, 0)):
        data[at + 4 * k : at + 4 * k + 4] = (x << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    assert (read_frames(path, [0.3])[0] == np.rot90(stored[2], -turns)).all()
    assert read_frames(path, [0.3], size=32).shape == (1, 32, 32, 3)


def test_a_clip_past_the_end_names_the_file(tmp_path):
    path = write(tmp_path / "s.mp4", n=8)
    assert len(read_clips(path, [[0, 0.5], [0.9, 5.0]])[1]) == 2
    with pytest.raises(InputError, match="s.mp4: asked for 1.20 s, but the video ends at 1.00 s"):
        read_clips(path, [[0.0], [1.2]])


def audio_only(path):
    with av.open(str(path), "w") as box:
        s = box.add_stream("aac", rate=16000)
        for k in range(16):
            f = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            f.sample_rate, f.pts = 16000, 1024 * k
            box.mux(s.encode(f))
        box.mux(s.encode())
    return path


def test_whatever_is_no_video_costs_one_line(tmp_path):
    """Empty, text, zeros, audio, cut off in the middle: each is skipped with its name and its
    reason; the good one is used.
    """
    good = write(tmp_path / "good.mp4")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "zeros.mp4").write_bytes(b"\0" * 4096)
    (tmp_path / "half.mp4").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    audio_only(tmp_path / "audio.mp4")
    infos, coverage = usable_videos(sorted(tmp_path.glob("*.mp4")), "videos")
    why = dict(coverage.table().set_index("item").why)
    assert (
        list(infos) == [good]
        and why["good.mp4"] == ""
        and all(n in why[n] for n in why if n != "good.mp4")
    )
    assert (
        "0 bytes" in why["empty.mp4"]
        and "audio only" in why["audio.mp4"]
        and all("cannot be decoded" in why[n] for n in ("text.mp4", "zeros.mp4", "half.mp4"))
    )


def test_a_video_shorter_than_a_clip_begins_again(tmp_path):
    """Half a second of video in two seconds of clip, for every data set of pretraining."""
    path = write(tmp_path / "short.mp4", n=4)
    infos = {path: probe(path)}
    frames = read_frames(path, looped(0.0, 2.0, 8, infos[path].duration))
    assert (
        (frames[:2] == frames[2:4]).all()
        and (frames[:2] == frames[6:]).all()
        and not (frames[0] == frames[1]).all()
    )
    assert (
        TwoViews(infos, 8, 32)[0][0].shape
        == LabelledClips(pd.DataFrame(dict(path=[path], label=["a"])), infos, ["a"], 8, 32)[0][
            0
        ].shape
        == VisualAndMotion(infos, 8, 32)[0][2].shape
        == (3, 8, 32, 32)
    )


class Ranges(SimpleHTTPRequestHandler):
    """A file server that answers range requests, as object stores do."""

    def do_GET(self):
        data = Path(self.translate_path(self.path)).read_bytes()
        found = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        a, b = (
            (int(found[1]), min(int(found[2] or len(data) - 1), len(data) - 1))
            if found
            else (0, len(data) - 1)
        )
        self.send_response(206 if found else 200)
        for name, value in (
            ("Accept-Ranges", "bytes"),
            ("Content-Length", b - a + 1),
            *([("Content-Range", f"bytes {a}-{b}/{len(data)}")] if found else []),
        ):
            self.send_header(name, str(value))
        self.end_headers()
        try:
            self.wfile.write(data[a : b + 1])
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # FFmpeg has what it wanted

    def log_message(self, *a):
        pass


def test_shards_on_disk_and_over_http(world, tmp_path):
    """Clips in shards are the clips: read from the disk, by range requests, and by the WebDataset
    library.
    """
    table = read_kinetics(world / "kinetics", "train")
    infos, _ = usable_videos(table.path, "clips")
    write_shards(table, infos, tmp_path, shard_mb=0.02)
    assert len(list(tmp_path.glob("shard-*.tar"))) > 2
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for root in (None, f"http://127.0.0.1:{server.server_port}"):
        packed, known = read_shards(tmp_path, root)
        assert list(packed.label) == list(table.label) and list(known.values()) == list(
            infos.values()
        )
        for a, b in list(zip(table.path, packed.path, strict=True))[:5]:
            assert (read_frames(a, [0.2, 3.1]) == read_frames(b, [0.2, 3.1])).all()
        assert all(
            (x == y).all() for x, y in zip(TwoViews(infos)[3], TwoViews(known)[3], strict=True)
        )
    server.shutdown()
    import webdataset

    seen = list(
        webdataset.WebDataset(
            [str(p) for p in sorted(tmp_path.glob("shard-*.tar"))], shardshuffle=False
        ).decode()
    )
    assert (
        [x["__key__"] for x in seen] == list(table.video_id)
        and [x["mp4"] for x in seen] == [p.read_bytes() for p in table.path]
        and [x["json"]["label"] for x in seen] == list(table.label)
    )
