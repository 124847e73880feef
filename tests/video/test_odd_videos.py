"""Every way of reading equals plain decoding, in every codec and container that can be written
here; whatever a header says, and whatever is wrong with one file of many.
"""

import os
import re
import shutil
import sys
from fractions import Fraction

import av
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT

import hiermovie.backbone.extraction
import hiermovie.video.frames
from hiermovie.app import main
from hiermovie.backbone import (
    Cutting,
    SlowFast,
    SlowFastConfig,
    TwoViews,
    VisualAndMotion,
    extract,
    features_of,
    read_coverage,
    save_backbone,
    video_features,
    write_job,
)
from hiermovie.base import InputError, read_table, write_root, write_table
from hiermovie.data import check_data
from hiermovie.video import (
    LabelledClips,
    Memory,
    VideoIndexes,
    frame_orientation,
    index_video,
    open_video,
    probe,
    read_clip_list,
    read_clips,
    read_frames,
    upright,
    usable_videos,
)

FPS, N = 25, 60
SHARED = ROOT.parent / "shared/reference"


def pictures(n=N, size=(96, 64)):
    """Noise with a bright column that says the number."""
    r = np.random.default_rng(0)
    out = r.integers(0, 60, (n, size[1], size[0], 3), dtype=np.uint8)
    for k in range(n):
        out[k, :, k % size[0]] = 255
    return out


def packets(stream, frames, start=0, rate=Fraction(1, FPS)):
    for k, x in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(x, format="rgb24")
        frame.pts, frame.time_base = start + k, rate
        yield from stream.encode(frame)
    yield from stream.encode()


def write(
    path, codec="libx264", pix="yuv420p", frames=None, rate=FPS, sound_s=0, start=0, **options
):
    frames = pictures() if frames is None else frames
    with av.open(str(path), "w") as box:
        s = box.add_stream(codec, rate=rate, options={k: str(v) for k, v in options.items()})
        s.height, s.width = frames.shape[1:3]
        s.pix_fmt, s.codec_context.time_base = pix, 1 / Fraction(rate)
        sound = box.add_stream("aac", rate=16000) if sound_s else None
        for p in packets(s, frames, start, 1 / Fraction(rate)):
            box.mux(p)
        for k in range(int(sound_s * 16000 / 1024)):
            a = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            a.sample_rate, a.pts = 16000, 1024 * k
            box.mux(sound.encode(a))
        if sound:
            box.mux(sound.encode())
    return path


def plain(path):
    """Every frame, decoded from the start, as it comes out."""
    with av.open(f"file:{path}", metadata_errors="replace") as box:
        return [f.to_ndarray(format="rgb24") for f in box.decode(video=0)]


def equal(path, frames, rate=FPS, memory=True):
    """Each frame alone, several clips at once in any order, and all of them from memory."""
    middles = (np.arange(len(frames)) + 0.5) / rate
    for k, t in enumerate(middles):
        assert (read_frames(path, [t])[0] == frames[k]).all(), k
    r = np.random.default_rng(1)
    for _ in range(4):
        clips = [np.sort(r.integers(0, len(frames), 5)) for _ in range(3)]
        got = read_clips(path, [middles[c] for c in clips], threads=int(r.integers(1, 4)))
        for clip, x in zip(clips, got, strict=True):
            assert all((a == frames[k]).all() for a, k in zip(x, clip, strict=True)), clip
    if memory:
        assert all(
            (a == b).all() for a, b in zip(Memory()(path, [middles])[0], frames, strict=True)
        )


GOP = dict(g=12)
B = dict(g=12, bf=2, qscale=3)
KINDS = [
    ("open.mp4", "libx264", "yuv420p", {"x264-params": "open-gop=1:keyint=12:bframes=3"}),
    ("refresh.mp4", "libx264", "yuv420p", {"x264-params": "intra-refresh=1:keyint=12"}),
    ("refresh.mkv", "libx264", "yuv420p", {"x264-params": "intra-refresh=1:keyint=12"}),
    ("fields.mkv", "libx264", "yuv420p", {"x264-params": "tff=1:keyint=12"}),
    ("deep.mp4", "libx264", "yuv420p10le", GOP),
    ("full.mp4", "libx264", "yuv444p", GOP),
    ("b.avi", "libx264", "yuv420p", dict(g=12, bf=3)),
    ("b.flv", "libx264", "yuv420p", dict(g=12, bf=2)),
    ("b.ts", "libx264", "yuv420p", dict(g=12, bf=2)),
    ("h.mp4", "libx265", "yuv420p", {"x265-params": "keyint=12:log-level=0"}),
    ("h.mkv", "libx265", "yuv420p", {"x265-params": "open-gop=1:keyint=12:log-level=0"}),
    (
        "v8.webm",
        "libvpx",
        "yuv420p",
        {"g": 12, "auto-alt-ref": 1, "lag-in-frames": 16, "b": "200k"},
    ),
    ("v9.webm", "libvpx-vp9", "yuv420p", GOP),
    ("v9.mp4", "libvpx-vp9", "yuv420p", GOP),
    ("a1.mkv", "libsvtav1", "yuv420p", GOP),
    ("a1.mp4", "libsvtav1", "yuv420p", GOP),
    ("m1.mpg", "mpeg1video", "yuv420p", B),
    ("m2.mpg", "mpeg2video", "yuv420p", B),
    ("m2.vob", "mpeg2video", "yuv420p", B),
    ("m2.ts", "mpeg2video", "yuv420p", B),
    ("m2.mkv", "mpeg2video", "yuv420p", B),
    ("m4.avi", "mpeg4", "yuv420p", B),
    ("m4.ts", "mpeg4", "yuv420p", B),
    ("m4.mp4", "mpeg4", "yuv420p", B),
    ("mj.avi", "mjpeg", "yuvj420p", {}),
    ("mj.mov", "mjpeg", "yuvj420p", {}),
    ("pr.mov", "prores_ks", "yuv422p10le", {}),
    ("f1.mkv", "ffv1", "yuv420p", GOP),
    ("f1.avi", "ffv1", "yuv420p", GOP),
    ("s1.flv", "flv", "yuv420p", GOP),
    ("wm.asf", "wmv2", "yuv420p", GOP),
    ("rle.mov", "qtrle", "rgb24", GOP),
]


@pytest.mark.parametrize("name,codec,pix,options", KINDS, ids=[k[0] for k in KINDS])
def test_every_frame_in_every_format(name, codec, pix, options, tmp_path):
    path = write(tmp_path / name, codec, pix, **options)
    frames, index = plain(path), index_video(path)
    assert len(frames) == len(index.ticks) == N and abs(index.duration - N / FPS) < 0.002
    assert len({x.tobytes() for x in frames}) == N  # so that no frame can be taken for another
    equal(path, frames)
    assert usable_videos([path], name, whole=True)[1].table().why.iloc[0] == ""


@pytest.mark.parametrize("size", [(16, 16), (98, 66), (130, 50), (50, 130), (640, 360)])
@pytest.mark.parametrize(
    "name,codec", [("z.mp4", "libx264"), ("z.webm", "libvpx-vp9"), ("z.avi", "mpeg4")]
)
def test_sizes(name, codec, size, tmp_path):
    path = write(tmp_path / name, codec, frames=pictures(15, size), g=6)
    equal(path, plain(path))


@pytest.mark.parametrize("rate,start", [(1, 0), (Fraction(30000, 1001), 0), (240, 0), (25, 250)])
def test_rates_and_offsets(rate, start, tmp_path):
    path = write(tmp_path / "f.mkv", frames=pictures(20), rate=rate, start=start, g=5, bf=2)
    assert abs(probe(path).duration - 20 / rate) < 0.002 and abs(probe(path).fps - rate) < rate / 50
    equal(path, plain(path), float(rate))


def cut_in_the_middle_of_a_group(path):
    """What a recording of a broadcast begins with: packets that lean on a keyframe nobody has."""
    whole = write(path.with_name(f"whole-{path.name}"), g=30, frames=pictures(75), sc_threshold=0)
    with av.open(str(whole)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for k, p in enumerate(p for p in old.demux(video=0) if p.size):
            if k >= 20:
                p.stream = stream
                new.mux(p)
    return path


@pytest.mark.parametrize("name", ["m.ts", "m.mkv", "m.flv"])
def test_a_recording_begins_with_its_first_keyframe(name, tmp_path):
    path = cut_in_the_middle_of_a_group(tmp_path / name)
    frames = plain(path)
    assert len(frames) == len(index_video(path).ticks) == 45
    assert abs(probe(path).duration - 45 / FPS) < 0.002
    equal(path, frames)


@pytest.mark.parametrize("rates", [(25, 50), (50, 25)])
def test_joined_streams_keep_their_own_rates(rates, tmp_path):
    parts = [write(tmp_path / f"{k}.ts", rate=r, g=12, bf=0) for k, r in enumerate(rates)]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(p.read_bytes() for p in parts))
    assert abs(probe(path).duration - sum(N / r for r in rates)) < 0.05
    frames, times = plain(path), index_video(path).times
    assert len(frames) == len(times) == 2 * N
    assert all(
        (read_frames(path, [t + 0.002])[0] == x).all() for t, x in zip(times, frames, strict=True)
    )


def test_stamps_that_overlap_mean_one_thing(tmp_path):
    """A cut-and-joined MP4 in which a part begins before the last one ends: single reads, batches
    and memory agree.
    """
    path, tick = tmp_path / "o.mp4", Fraction(1, 12800)
    with av.open(str(path), "w") as box:
        s = box.add_stream("libx264", rate=FPS, options={"g": "12", "bf": "0"})
        s.width, s.height, s.pix_fmt = 96, 64, "yuv420p"
        for k, p in enumerate(packets(s, pictures())):
            shown = (k - 5 * (k >= 24)) * 512
            p.time_base, p.dts, p.pts = tick, k * 512 - 4000, shown
            box.mux(p)
    times = np.linspace(0, 2, 41)
    together = read_frames(path, times)
    assert (Memory()(path, [times])[0] == together).all()
    assert all((read_frames(path, [t])[0] == x).all() for t, x in zip(times, together, strict=True))


@pytest.mark.parametrize(
    "text", ["path,label\na.mp4,7\n", "\n\npath,label\n\na.mp4,7\n", '\n"a.mp4","7"\n']
)
def test_lists_with_empty_lines(text, tmp_path):
    write(tmp_path / "a.mp4")
    (tmp_path / "clips.csv").write_text(text)
    got = read_clip_list(tmp_path / "clips.csv")
    assert got.path.tolist() == [tmp_path / "a.mp4"] and got.label.tolist() == ["7"]


@pytest.mark.parametrize("quote", ['a.mp4,"1\nb.mp4,2\n', 'path,label\na.mp4,"1\nb.mp4,2\n'])
def test_a_quote_that_nothing_closes(quote, tmp_path):
    (tmp_path / "clips.csv").write_text(quote)
    with pytest.raises(InputError, match="clips.csv: not a list of clips"):
        read_clip_list(tmp_path / "clips.csv")


def test_tiny_pictures_have_flow(tmp_path):
    path = write(tmp_path / "t.mkv", "ffv1", "bgr0", frames=pictures(50, (4, 2)))
    infos, _ = usable_videos([path], "videos")
    for read in (read_clips, Memory()):
        assert VisualAndMotion(infos, 8, 32, read=read)[0][2].shape == (3, 8, 32, 32)


def test_frames_that_were_written_without_times(tmp_path):
    """All are said to appear at once; the rate is there."""
    path = tmp_path / "n.webm"
    with av.open(str(path), "w") as box:
        s = box.add_stream("libvpx-vp9", rate=FPS, options={"g": "12"})
        s.width, s.height, s.pix_fmt = 96, 64, "yuv420p"
        for p in packets(s, pictures()):
            p.pts = p.dts = 0
            box.mux(p)
    frames = plain(path)
    assert probe(path).duration == N / FPS
    equal(path, frames)


def test_a_palette_that_changes(tmp_path):
    """AVI keeps it beside the stream: after a jump it would be the one before."""
    path, n = tmp_path / "p.avi", 12
    with av.open(str(path), "w") as box:
        s = box.add_stream("rawvideo", rate=FPS)
        s.width, s.height, s.pix_fmt = 32, 16, "pal8"
        for k in range(n):
            index = np.arange(512, dtype=np.uint8).reshape(16, 32)
            palette = np.random.default_rng(k).integers(0, 255, (256, 4), dtype=np.uint8)
            palette[:, 0] = 255
            frame = av.VideoFrame.from_ndarray((index, palette), format="pal8")
            frame.pts, frame.time_base = k, Fraction(1, FPS)
            box.mux(s.encode(frame))
        box.mux(s.encode())
    frames = plain(path)
    assert len({x.tobytes() for x in frames}) == n
    equal(path, frames)


def test_what_is_not_proved_is_read_in_order(tmp_path):
    """x264 before build 151 wrote 4:4:4 in another way, and says so in its first packet only."""
    assert not index_video(write(tmp_path / "full.mp4", pix="yuv444p", g=12)).seek
    assert not index_video(write(tmp_path / "b.ts", g=12)).seek
    assert index_video(write(tmp_path / "half.mp4", g=12)).seek


@pytest.mark.parametrize("name", ["c.mkv", "c.webm", "c.avi", "c.flv", "c.mp4"])
def test_cut_off_files_end_where_their_frames_end(name, tmp_path):
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    path = write(tmp_path / f"whole-{name}", codec, g=12)
    if name.endswith("mp4"):  # with the table of contents at the beginning
        first = tmp_path / f"first-{name}"
        with (
            av.open(str(path)) as a,
            av.open(str(first), "w", options={"movflags": "faststart"}) as b,
        ):
            out = b.add_stream_from_template(a.streams.video[0])
            for p in a.demux(video=0):
                if p.size:
                    p.stream = out
                    b.mux(p)
        path = first
    frames = plain(path)
    cut = tmp_path / name
    cut.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    index = index_video(cut)
    assert 10 < len(index.ticks) < 50 and index.duration < 0.85 * N / FPS
    assert "cut off: its header says" in index.note
    n = len(index.ticks) - 3  # the last ones may lean on what is gone
    equal(cut, frames[:n], memory=False)
    with pytest.raises(InputError, match=f"{name}: asked for 2.30 s, but the video ends at"):
        read_frames(cut, [2.3])
    infos, coverage = usable_videos([cut], "videos")
    assert infos[cut].duration == index.duration and "cut off" in coverage.table().why[0]
    with pytest.raises(InputError, match="nothing usable among 1; first: .*cut off"):
        usable_videos([cut], "videos", whole=True)


@pytest.mark.parametrize("name", ["s.mkv", "s.mp4", "s.ts"])
def test_the_sound_may_be_longer(name, tmp_path):
    path = write(tmp_path / name, sound_s=9, g=12)
    infos, coverage = usable_videos([path], "videos", whole=True)
    assert abs(infos[path].duration - N / FPS) < 0.002 and coverage.table().why[0] == ""
    assert len(Cutting().clips(path, 8)) == 1


@pytest.mark.parametrize(
    "name,codec", [("j.ts", "libx264"), ("j.mpg", "mpeg2video"), ("j.avi", "mpeg4")]
)
def test_joined_streams_are_whole(name, codec, tmp_path):
    one = write(tmp_path / f"one-{name}", codec, g=12)
    path = tmp_path / name
    path.write_bytes(one.read_bytes() * 2)
    frames = plain(path)
    assert len(frames) == 2 * N and abs(probe(path).duration - 2 * N / FPS) < 0.002
    equal(path, frames)


@pytest.mark.parametrize("name", ["j.mp4", "j.mkv", "j.webm", "j.flv"])
def test_joined_films_that_players_cut_are_refused(name, tmp_path):
    one = write(
        tmp_path / f"one-{name}", "libvpx-vp9" if name.endswith("webm") else "libx264", g=12
    )
    path = tmp_path / name
    path.write_bytes(one.read_bytes() * 2)
    with pytest.raises(InputError, match=f"{name}: two films joined end to end"):
        probe(path)
    with pytest.raises(InputError, match=f"{name}: two films joined end to end"):
        read_frames(path, [3.0])


MATRICES = {
    (1, 0, 0, 1): lambda x: x,
    (-1, 0, 0, 1): lambda x: x[:, ::-1],
    (1, 0, 0, -1): lambda x: x[::-1],
    (0, 1, 1, 0): lambda x: x.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda x: x.transpose(1, 0, 2)[::-1, ::-1],
    (0, 1, -1, 0): lambda x: np.rot90(x, -1),
    (0, -1, 1, 0): lambda x: np.rot90(x),
    (0, 0, 0, 0): lambda x: x,
    (1, 1, 1, 1): lambda x: x,
}


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_display_matrices(matrix, tmp_path):
    path = write(tmp_path / "m.mp4", frames=pictures(8))
    data, stored = bytearray(path.read_bytes()), plain(path)
    at = data.index(b"tkhd") + 4 + 40
    for place, x in zip((0, 1, 3, 4), matrix, strict=True):
        data[at + 4 * place : at + 4 * place + 4] = (x << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    assert (read_frames(path, [0.1])[0] == MATRICES[matrix](stored[2])).all()
    assert (Memory()(path, [[0.1]])[0][0] == MATRICES[matrix](stored[2])).all()


SIZES = [("v8.webm", "libvpx", "yuv420p"), ("v9.webm", "libvpx-vp9", "yuv420p")]
SIZES += [("v9.mkv", "libvpx-vp9", "yuv444p")]
SIZES += [("rgb.webm", "libvpx-vp9", "gbrp"), ("m.ts", "mpeg2video", "yuv420p")]


@pytest.mark.parametrize("name,codec,pix", SIZES, ids=[k[0] for k in SIZES])
def test_keyframes_say_their_size(name, codec, pix, tmp_path):
    path = write(tmp_path / name, codec, pix, frames=pictures(13, (112, 80)), g=6)
    assert index_video(path).sizes == ((0, 112, 80),)


def resized(path):
    """VP9 whose second half is larger, as a browser records a call."""
    with av.open(str(path), "w") as box:
        s = box.add_stream("libvpx-vp9", rate=FPS, options={"g": "12"})
        s.width, s.height, s.pix_fmt = 96, 64, "yuv420p"
        for p in packets(s, pictures(30)):
            box.mux(p)
        large = write(
            path.with_name("large.webm"), "libvpx-vp9", frames=pictures(30, (192, 128)), g=12
        )
        with av.open(str(large)) as other:
            for p in other.demux(video=0):
                if p.size:
                    p.pts, p.dts, p.stream = p.pts + 1200, p.dts + 1200, s
                    box.mux(p)
    return path


def test_frames_that_change_size_are_brought_to_the_first(tmp_path):
    path = resized(tmp_path / "r.webm")
    times = [0.5, 1.1, 1.3, 2.3]
    got = read_frames(path, times)
    assert got.shape == (4, 64, 96, 3) and (Memory()(path, [times])[0] == got).all()
    assert got[3].argmax(1)[..., 0].any() and abs(got[1].astype(int) - got[2]).mean() > 1
    assert index_video(path).sizes == ((0, 96, 64), (30, 192, 128))
    sizes = "change size (96 x 64 from frame 0 on, 192 x 128 from frame 30 on)"
    for whole in (False, True):
        infos, coverage = usable_videos([path], "videos", whole=whole)
        assert sizes in coverage.table().why[0]
    for read in (read_clips, Memory()):
        data = LabelledClips(
            pd.DataFrame(dict(path=[path], label=["a"])), infos, ["a"], 8, 32, read=read
        )
        assert data[0][0].shape == (3, 8, 32, 32)


def test_one_bad_video_costs_one_line(tmp_path):
    """No decoder for one; text that is no UTF-8 in another, which is read."""
    good = write(tmp_path / "good.mp4")
    unknown = tmp_path / "unknown.mp4"
    unknown.write_bytes(good.read_bytes().replace(b"avc1", b"zzzz"))
    titled = tmp_path / "titled.mkv"
    with av.open(str(titled), "w") as box:
        box.metadata["title"] = "caf_"
        s = box.add_stream("libx264", rate=FPS)
        s.width, s.height, s.pix_fmt = 96, 64, "yuv420p"
        for p in packets(s, pictures()):
            box.mux(p)
    titled.write_bytes(titled.read_bytes().replace(b"caf_", b"caf\xe9"))
    infos, coverage = usable_videos([good, unknown, titled], "videos")
    assert list(infos) == [good, titled]
    assert "unknown.mp4: there is no decoder here for its video codec" in coverage.table().why[1]
    equal(titled, plain(titled))


@pytest.mark.parametrize("n,rate", [(1, 25), (1, Fraction(1, 10)), (5, Fraction(1, 10))])
def test_few_and_slow_frames_are_usable_everywhere(n, rate, tmp_path):
    path = write(tmp_path / "f.mp4", frames=pictures(n), rate=rate)
    infos, _ = usable_videos([path], "videos", whole=True)
    table = pd.DataFrame(dict(path=[path], label=["a"]))
    for read in (read_clips, Memory()):
        assert LabelledClips(table, infos, ["a"], 8, 32, read=read)[0][0].shape == (3, 8, 32, 32)
        for data in (TwoViews(infos, 8, 32, read=read), VisualAndMotion(infos, 8, 32, read=read)):
            assert {x.shape for x in data[0]} == {(3, 8, 32, 32)}
    model = SlowFast(SlowFastConfig(depth=18, width=8, frames=8, size=32)).eval()
    assert len(video_features(model, path)) == (1 if n == 1 else 25)


def test_a_damaged_frame_is_refused(tmp_path):
    """Its neighbours are read; the whole file, from memory and in the whole check, is not."""
    path = write(tmp_path / "d.avi", "mpeg4", g=6, qscale=3)
    frames, data = plain(path), bytearray(path.read_bytes())
    with av.open(str(path)) as box:
        hurt = [p for p in box.demux(video=0) if p.size][40]
    for k in range(hurt.size // 4, hurt.size * 3 // 4, 7):
        data[hurt.pos + 8 + k] ^= 0x55
    path.write_bytes(data)
    assert (read_frames(path, [10.5 / FPS])[0] == frames[10]).all()
    with pytest.raises(InputError, match=r"d.avi: the frame at 1.62 s is damaged"):
        read_frames(path, [40.5 / FPS])
    for function in (
        lambda: Memory()(path, [[0.1]]),
        lambda: usable_videos([path], "x", whole=True),
    ):
        with pytest.raises(InputError, match="d.avi: .*damaged"):
            function()


def test_a_seek_that_fails_is_not_needed(tmp_path, monkeypatch):
    path = write(tmp_path / "f.mp4", g=12)
    frames = plain(path)

    class Broken:
        def __init__(self, box):
            self.box = box

        def __getattr__(self, name):
            return getattr(self.box, name)

        def seek(self, *_, **__):
            raise av.FFmpegError(1, "no seeking today")

    real = hiermovie.video.frames._Seeking
    monkeypatch.setattr(hiermovie.video.frames, "_Seeking", lambda box, *a: real(Broken(box), *a))
    equal(path, frames)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_keyframes_that_are_none(codec, tmp_path):
    """A container whose list of keyframes is wrong: what comes out of the decoder decides."""
    path = write(tmp_path / "f.mp4", codec, g=12)
    frames, data = plain(path), bytearray(path.read_bytes())
    at = data.index(b"stss") + 12
    n = int.from_bytes(data[at - 4 : at], "big")
    for k in range(1, n):
        place = slice(at + 4 * k, at + 4 * k + 4)
        data[place] = (int.from_bytes(data[place], "big") + 3).to_bytes(4, "big")
    path.write_bytes(data)
    equal(path, frames)


NAMES = [b"Alien: Romulus.mp4", b"pipe:0.mp4", b"http:z.mp4", b"100%03d.mp4", b"caf\xe9.mp4"]
NAMES += [b"two\nlines.mp4", b'a,b "c".mp4', b"x" * 246 + b".mp4"]


def test_names_in_any_bytes(tmp_path, monkeypatch, capsys):
    """All have features but the one whose features' name would be too long; every one is in the
    coverage.
    """
    film = write(tmp_path / "film.mp4")
    names = [os.fsdecode(n) for n in NAMES]
    for name in names:
        shutil.copy(film, tmp_path / name)
    save_backbone(
        tmp_path / "b.safetensors", SlowFast(SlowFastConfig(depth=18, width=8, frames=8, size=32))
    )
    monkeypatch.chdir(tmp_path)
    told = ["--checkpoint", "b.safetensors", "--out", "features"]
    assert main(["features", *names, "none.mp4", "film.mp4", *told]) == 2
    table = read_table("features/coverage.csv", dtype=str, keep_default_na=False)
    assert table.status.tolist() == ["ok"] * 7 + ["skipped"] * 2 + ["ok"]
    assert table.item[4] == "caf\\udce9.mp4" and table.item[5] == "two\\nlines.mp4"
    assert len(list((tmp_path / "features").glob("*_feats.npy"))) == 8
    assert "Traceback" not in capsys.readouterr().err
    videos = [tmp_path / name for name in (*names, "none.mp4", "film.mp4")]
    write_job("job.json", "b.safetensors", "store", dict(films=videos), dict(films=Cutting()))
    extract("job.json")
    assert read_coverage("job.json").table().status.tolist() == table.status.tolist()


def test_a_data_folder_with_names_in_any_bytes(tmp_path):
    """The manifest of real data, the key that rests on it, and the indexes keep any bytes."""
    (tmp_path / "data/kinetics").mkdir(parents=True)
    names = [os.fsdecode(n) for n in NAMES]
    film = write(tmp_path / "film.mp4")
    for name in names:
        shutil.copy(film, tmp_path / "data/kinetics" / name)
    (tmp_path / "run").mkdir()
    write_root(tmp_path / "run", str(tmp_path / "data"), False)
    listed = read_table(tmp_path / "run/files.csv", dtype=str, keep_default_na=False)
    printable = [n.encode("utf-8", "backslashreplace").decode() for n in names]
    assert set(listed.iloc[:, 0]) == {f"kinetics/{n}" for n in printable}
    indexes = VideoIndexes(tmp_path / "video_index.json", tmp_path / "data")
    splits, files = check_data(tmp_path / "data", indexes)
    indexes.save()
    assert (files.status == "ok").all() and len(files) == len(names)
    again = VideoIndexes(tmp_path / "video_index.json", tmp_path / "data")
    assert set(again.known) == {f"kinetics/{n}" for n in names}
    write_table(tmp_path / "videos.csv", pd.DataFrame(dict(path=names)))
    again = read_table(tmp_path / "videos.csv", encoding_errors="surrogateescape")
    assert again.path.tolist() == names


def test_coverage_is_written_whatever_happens(tmp_path, monkeypatch):
    film = write(tmp_path / "film.mp4")
    shutil.copy(film, tmp_path / "other.mp4")
    model = SlowFast(SlowFastConfig(depth=18, width=8, frames=8, size=32))
    save_backbone(tmp_path / "b.safetensors", model)
    videos = [film, tmp_path / "other.mp4"]
    write_job(
        tmp_path / "job.json",
        tmp_path / "b.safetensors",
        tmp_path / "store",
        dict(films=videos),
        dict(films=Cutting()),
    )
    real = hiermovie.backbone.extraction.save_features

    def full(store, name, *rest):
        if name == "other":
            raise KeyboardInterrupt
        real(store, name, *rest)

    monkeypatch.setattr("hiermovie.backbone.extraction.save_features", full)
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path / "job.json")
    table = read_table(tmp_path / "store/coverage-0-of-1.csv")
    assert table.item.tolist() == ["films/film.mp4"] and table.status.tolist() == ["ok"]


def test_coverage_is_written_when_nothing_can_be_used(tmp_path):
    (tmp_path / "a.mp4").write_text("gone")
    with pytest.raises(InputError, match="nothing usable among 1"):
        usable_videos([tmp_path / "a.mp4"], "videos", table=tmp_path / "coverage.csv")
    assert read_table(tmp_path / "coverage.csv").status.tolist() == ["skipped"]


def test_features_do_not_depend_on_the_models_mode(tmp_path):
    path = write(tmp_path / "film.mp4")
    torch.manual_seed(0)
    model = SlowFast(SlowFastConfig(depth=18, width=8, frames=8, size=32))
    want = video_features(model.eval(), path)
    model.train()
    norm = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm3d))
    norm.eval()  # frozen, as one does in finetuning
    before = {k: v.clone() for k, v in model.state_dict().items()}
    [(_, got, error)] = features_of(model, [path])
    assert error is None and np.array_equal(got, want)
    assert model.training and not norm.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_data_check(tmp_path, capsys):
    folder = tmp_path / "kinetics/train/a"
    folder.mkdir(parents=True)
    write(folder / "x_000000_000002.avi", bf=2)
    write(folder / "y_000000_000002.mp4")
    (folder / "z_000000_000002.mp4").write_text("gone")
    rows = "".join(f"a,{v},0,2\n" for v in "xyzw")
    (tmp_path / "kinetics/train.csv").write_text(f"label,youtube_id,time_start,time_end\n{rows}")
    (tmp_path / "kinetics/val.csv").write_text("label,youtube_id,time_start,time_end\na,y,0,3\n")
    assert main(["data", "check", str(tmp_path), "--whole", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    assert re.search(r"kinetics +train +4 +3 +2", said) and re.search(
        r"kinetics +val +1 +0 +0", said
    )
    assert "skipped: kinetics/train/a/z_000000_000002.mp4: " in said
    assert "read by counting: 1, seeking: 1" in said
    assert re.search(r"y_000000_000002.mp4 +60 +2.4 +2.36 ", said)  # frames, seconds, the last one
    files = read_table(tmp_path / "out/files.csv")
    assert files.seconds.tolist()[:2] == [2.4, 2.4] and files.codec.tolist()[:2] == ["h264", "h264"]
    assert (tmp_path / "out/video_index.json").is_file()


def some_frames(path, n=10):
    """(number of all frames, {number: frame} of some) by plain decoding, turned upright."""
    wanted = np.random.default_rng(0).integers(0, len(index_video(path).ticks), n)
    found, k = {}, -1
    with open_video(path) as (box, stream):
        for k, f in enumerate(box.decode(stream)):
            if k in wanted:
                found[k] = upright(f.to_ndarray(format="rgb24"), frame_orientation(f))
    return k + 1, found


@pytest.mark.skipif(not SHARED.is_dir(), reason="the collection of odd videos is not here")
def test_odd_videos_of_others():
    """What plain decoding gives without an error, every way of reading gives; the rest is refused
    by name.
    """
    refused = []
    for path in sorted(p for p in (SHARED / "odd_videos").iterdir() if p.suffix != ".csv"):
        try:
            n, frames = some_frames(path)
        except InputError as e:
            assert path.name in str(e) and "\n" not in str(e)
            refused.append(path.name)
            continue
        index = index_video(path)
        assert n == len(index.ticks), path.name
        ends = [*index.times[1:], index.duration]
        middles = {k: (index.times[k] + ends[k]) / 2 for k in frames}
        together = read_frames(path, list(middles.values()))
        for (k, t), x in zip(middles.items(), together, strict=True):
            assert (x == frames[k]).all() and (read_frames(path, [t])[0] == x).all(), (path.name, k)
    assert len(refused) == 3, refused  # two are damaged, one is sound only


@pytest.mark.skipif(not SHARED.is_dir(), reason="the collection of faults is not here")
def test_the_table_of_faults():
    folder = SHARED / "faults/video"
    sys.path.insert(0, str(folder))
    from frame_number import number

    def seen(name, times):
        x = read_frames(folder / name, times)
        return [number(f) for f in x]

    for name, n in {
        "g_svt.mkv": 200,
        "b_half.mkv": 269,
        "a_x264.avi": 100,
        "two.ts": 200,
        "g_res.webm": 100,
    }.items():
        halves = {"two.ts": 100, "g_res.webm": 50}  # the second half counts from 0 again
        want = [k % halves.get(name, n) for k in range(n)]
        assert [seen(name, [(k + 0.5) / 25])[0] for k in range(n)] == want, name
    events = {"b_half.mkv": 5, "c_longaudio.mkv": 2, "two.ts": 4, "g_one.mp4": 1}
    for name, n in events.items():
        assert len(Cutting().clips(folder / name, 8)) == n, name
    for name in ("a_264.flv", "latin1_title.mp4"):
        assert seen(name, [3.98]) == [99]
    for name in ("intra_refresh.mp4", "pal8.avi", "x264_142_yuv444.mp4"):
        frames, times = plain(folder / name), index_video(folder / name).times
        assert all(
            (read_frames(folder / name, [t + 1e-4])[0] == x).all()
            for t, x in zip(times, frames, strict=True)
        )
    _, coverage = usable_videos(sorted(folder.glob("*.*[4vismb]")), "faults")
    broken = coverage.table().query("status == 'skipped'")
    assert broken.item.tolist() == ["u_zzzz.mp4"] and "no decoder" in broken.why.iloc[0]
