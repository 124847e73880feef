"""Reading by seeking equals decoding from the start, whatever the codec, the keyframes, the rate and the rotation; several clips are read at once."""
from fractions import Fraction

import av
import numpy as np
import pytest

from hiermovie.core import InputError
from hiermovie.video import read_clips, read_frames

FPS = 8


def write(path, n=64, codec="libx264", pts=None, **options):
    """n frames of noise with a bright column that says the frame number; `pts` in eighths of a second."""
    r = np.random.default_rng(0)
    with av.open(str(path), "w") as box:
        s = box.add_stream(codec, rate=FPS, options=options)
        s.width, s.height, s.pix_fmt, s.codec_context.time_base = 96, 64, "yuv420p", Fraction(1, FPS)
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


KINDS = [("a.mp4", "libx264", {"g": "250"}), ("b.mp4", "libx264", {"g": "12", "bf": "3"}), ("c.mp4", "libx264", {"g": "4", "bf": "2", "sc_threshold": "0"}), ("d.mkv", "libx264", {"g": "12", "bf": "3"}),
         ("e.webm", "libvpx-vp9", {"g": "10"}), ("f.mp4", "mpeg4", {"g": "12"}), ("g.ts", "libx264", {"g": "12", "bf": "3"})]


@pytest.mark.parametrize("name,codec,options", KINDS, ids=[k[0] for k in KINDS])
def test_every_frame_by_seeking(name, codec, options, tmp_path):
    path = write(tmp_path/name, codec=codec, **options)
    times, frames = plain(path)
    r = np.random.default_rng(1)
    for k in range(len(times) - 1): assert (read_frames(path, [times[k] + .06])[0] == frames[k]).all(), k
    for _ in range(10):                          # two clips that overlap, touch, or lie far apart, in any order
        clips = [np.sort(r.random(6) * 1.5) + r.random() * 6 for _ in range(2)]
        for clip, got in zip(clips, read_clips(path, clips, threads=int(r.integers(1, 4)))):
            want = frames[[max(0, int(np.searchsorted(times, t + 1e-6, "right")) - 1) for t in clip]]
            assert (got == want).all()


def test_variable_frame_rate(tmp_path):
    """Frames at 0, 1, 3, 6, 10, ... eighths: the frame shown is the last one that is not later."""
    pts = [k * (k + 1) // 2 for k in range(12)]
    path = write(tmp_path/"v.mp4", n=12, pts=pts, g="5", bf="2")
    times, frames = plain(path)
    assert np.allclose(times, np.array(pts) / FPS)
    grid = np.arange(0, pts[-1] / FPS, .21)
    assert (read_frames(path, grid) == frames[np.searchsorted(times, grid + 1e-6, "right") - 1]).all()


@pytest.mark.parametrize("turns,matrix", [(1, (0, 1, 0, -1, 0, 0)), (2, (-1, 0, 0, 0, -1, 0)), (3, (0, -1, 0, 1, 0, 0))])
def test_rotated_by_the_container(turns, matrix, tmp_path):
    """A phone's video: stored lying, shown upright. `turns` quarter turns clockwise, written into the track header."""
    path = write(tmp_path/"r.mp4", n=8)
    stored = plain(path)[1]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    assert data[at:at + 4] == (1 << 16).to_bytes(4, "big")        # the identity stands there
    for k, x in enumerate((*matrix, 0, 0)): data[at + 4 * k:at + 4 * k + 4] = (x << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    assert (read_frames(path, [.3])[0] == np.rot90(stored[2], -turns)).all()
    assert read_frames(path, [.3], size=32).shape == (1, 32, 32, 3)


def test_a_clip_past_the_end_names_the_file(tmp_path):
    path = write(tmp_path/"s.mp4", n=8)
    assert len(read_clips(path, [[0, .5], [.9, 5.]])[1]) == 2
    with pytest.raises(InputError, match="s.mp4: asked for 1.20 s, but the video ends at 1.00 s"): read_clips(path, [[0.], [1.2]])
