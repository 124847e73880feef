"""What is said about a film: its times, its tables, and what is told of films that are none."""

import json
import os
import shutil
from fractions import Fraction

import av
import numpy as np
import pytest
from conftest import ROOT, run

from hiermovie.app import (
    FilmOptions,
    find_chain,
    head_runs,
    main,
    make_film_folder,
    open_chain,
    read_film,
    say_film,
    write_untrained_runs,
)
from hiermovie.base import InputError
from hiermovie.video import probe, read_frames, scan_film
from hiermovie.vidsitu import read_segments

BUNNY = ROOT / "tests/fixtures/trailer_bbb_small.mp4"
ODD = ROOT.parent / "shared/reference/odd_videos"
TURNED = ["decord__video_90.mov", "decord__video_180.mov", "media__sample_portrait.mp4"]
LATE = ["media__bbb_800x640_768kbps_30fps_avc_2b_firstpts_10_sec.mp4", "media__sample.flv"]


@pytest.fixture(scope="module")
def runs(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    train = read_segments(world / "vidsitu/vidsitu_annotations", "train")
    return write_untrained_runs(folder / "runs", train)


@pytest.fixture(scope="module")
def chain(runs):
    return open_chain(runs)


def stamps(path) -> np.ndarray:
    "When each frame appears, by FFmpeg's own time stamps, from the first one on."
    with av.open(str(path)) as box:
        stream = box.streams.video[0]
        pts = sorted(f.pts for f in box.decode(stream) if f.pts is not None)
        return (np.array(pts) - pts[0]) * float(stream.time_base)


def check_times(path):
    scan, true = scan_film(path), stamps(path)
    half = 0.5 / probe(path).fps
    assert len(scan.appear) == len(true)
    assert abs(scan.appear - true).max() <= half
    at = [0.0, true[-1] / 2, true[-1]]
    small = scan_film(path, at).thumbnails.astype(float)
    large = read_frames(path, at).astype(float)
    assert (small.shape[1] > small.shape[2]) == (large.shape[1] > large.shape[2])
    corners = [
        (x[:, : h // 2, : w // 2], x[:, h // 2 :, : w // 2], x[:, : h // 2, w // 2 :])
        for x in (small, large)
        for h, w in [x.shape[1:3]]
    ]
    for a, b in zip(*corners, strict=True):  # upright, and of the same moment
        assert abs(a.mean((1, 2)) - b.mean((1, 2))).max() < 6


def test_times_of_a_film_of_constant_rate():
    check_times(BUNNY)


def test_times_of_a_film_that_is_turned():
    path = ROOT / "tests/fixtures/turned_90.mov"
    check_times(path)
    height, width = scan_film(path, [0.0]).thumbnails.shape[1:3]
    assert probe(path).width > probe(path).height and height > width  # stored lying, shown upright


def test_times_of_a_late_film_and_of_variable_rate(tmp_path):
    for name, k in (("variable", 1.0), ("late", 0.0)):
        path = tmp_path / f"{name}.mp4"
        r = np.random.default_rng(0)
        with av.open(str(path), "w") as box:
            stream = box.add_stream("libx264", rate=25, options=dict(crf="10"))
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            at = 4000 if name == "late" else 0
            for _ in range(75):
                x = np.full((64, 96, 3), r.integers(256, size=3), np.uint8)
                frame = av.VideoFrame.from_ndarray(x, format="rgb24")
                frame.pts, frame.time_base = at, stream.codec_context.time_base
                at += int(40 + k * r.integers(-25, 60))
                box.mux(stream.encode(frame))
            box.mux(stream.encode())
        check_times(path)


@pytest.mark.skipif(not ODD.is_dir(), reason="the odd videos are not here")
@pytest.mark.parametrize("name", [*TURNED, *LATE])
def test_times_of_odd_films(name):
    check_times(ODD / name)


def test_a_film_is_cut_into_events_segments_and_tables(chain, tmp_path):
    assert make_film_folder(tmp_path / "seen", BUNNY, *chain)
    said = read_film(tmp_path / "seen")
    n = len(said.events)
    assert n == int(probe(BUNNY).duration / 2) and (np.diff(said.events.start_s) == 2).all()
    assert len(said.verbs) == 5 * n and set(said.relations.to) <= set(said.events.event)
    assert said.verbs.groupby("event").score.sum().between(0, 1.0001).all()
    assert (said.roles.log_probability <= 0).all()
    assert set(said.answers.task) == set(said.windows.task) and len(said.answers) == 9
    assert said.world == dict(name="MiniMovies", of_this_world=False)
    assert "These answers come from MiniMovies" in (tmp_path / "seen/index.html").read_text()
    assert not make_film_folder(tmp_path / "seen", BUNNY, *chain)  # it is there


def test_the_same_film_twice_gives_the_same_bytes(chain, tmp_path):
    for name in ("a", "b"):
        make_film_folder(tmp_path / name, BUNNY, *chain)
    for file in ("events.json", "events_feats.npy", "thumbnails.jpg", "index.html"):
        a, b = ((tmp_path / name / file).read_bytes() for name in ("a", "b"))
        assert a == b, file


def test_a_film_shorter_than_five_events(chain, world):
    short = next((world / "kinetics/val").rglob("*.mp4"))
    said = say_film(short, *chain)
    n = len(said.events)
    assert set(said.verbs.event) == set(range(n)) and (said.relations.event < n).all()


def test_nothing_half_written(chain, tmp_path, monkeypatch):
    import hiermovie.app.many_films as module

    def full(*args, **how):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_film", full)
    with pytest.raises(OSError):
        make_film_folder(tmp_path / "seen", BUNNY, *chain)
    assert list((tmp_path / "seen").iterdir()) == []


def test_a_folder_of_films_good_and_bad(runs, tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    names = ['a "quoted" 100%', "<img src=x onerror=alert(1)>", "סרט"]
    for name in names:
        shutil.copy(BUNNY, films / f"{name}.mp4")
    whole = BUNNY.read_bytes()
    (films / "empty.mp4").touch()
    (films / "cut.mp4").write_bytes(whole[:2000])
    (films / "text.mp4").write_text("no film")
    with av.open(str(films / "sound.mp4"), "w") as box:
        sound = box.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        silence.rate = 44100
        box.mux([*sound.encode(silence), *sound.encode(None)])
    code, out, err = run(
        "hiermovie", "predict", films, "--runs", runs, "--tasks", "verbs", "--out", tmp_path / "out"
    )
    assert code == 2 and "Traceback" not in err
    skipped = [line for line in out.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == 4 and any("audio only" in line for line in skipped)
    assert sorted(p.name for p in (tmp_path / "out/films").iterdir()) == sorted(names)
    page = (tmp_path / "out/index.html").read_text()
    assert "<img src=x" not in page and page.count("<article>") == 3
    code, out, err = run(
        "hiermovie", "search", tmp_path / "out", "--film", names[0], "--at", 4, "--most", 2
    )
    assert code == 0 and float(out.splitlines()[2].split()[-1]) > 0.999  # its copies


def test_one_frame_and_two_hours(chain, tmp_path):
    for name, times in (("one", [0]), ("long", [0, 7_200_000])):
        path = tmp_path / f"{name}.mkv"
        with av.open(str(path), "w") as box:
            stream = box.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            for t in times:
                x = np.full((64, 64, 3), 90, np.uint8)
                frame = av.VideoFrame.from_ndarray(x, format="rgb24")
                frame.pts, frame.time_base = t, stream.codec_context.time_base
                box.mux(stream.encode(frame))
            box.mux(stream.encode())
    assert len(say_film(tmp_path / "one.mkv", *chain).events) == 1
    long = tmp_path / "seen"
    make_film_folder(long, tmp_path / "long.mkv", *chain)
    assert len(read_film(long).events) == 3600
    assert (long / "index.html").stat().st_size < 5_000_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: shutil.rmtree(r / "verbs-untrained"), "no run of this task"),
        (lambda r: os.truncate(r / "verbs-untrained/verbs_seed0.safetensors", 100), "verbs_seed0"),
        (lambda r: (r / "roles-untrained/words.json").unlink(), "words.json"),
        (lambda r: (r / "backbone-untrained/backbone.safetensors").unlink(), "backbone.safe"),
    ],
)
def test_runs_without_what_is_needed(runs, tmp_path, capsys, change, words):
    shutil.copytree(runs, tmp_path / "runs")
    change(tmp_path / "runs")
    how = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    code = main(["predict", str(BUNNY), *how])
    out, err = capsys.readouterr()
    if code:
        assert code == 2 and err.count("\n") == 1 and words in err
        assert not (tmp_path / "out").exists()
    else:  # without verbs there is something to say all the same
        untold = json.loads((tmp_path / "out/events.json").read_text())["untold"]
        assert words in untold["verbs"] and "roles" in untold


def test_weights_of_another_size(runs, tmp_path):
    from hiermovie.backbone import SlowFast, SlowFastConfig, save_backbone

    shutil.copytree(runs, tmp_path / "runs")
    other = SlowFast(SlowFastConfig(depth=18, width=16, frames=8, size=32))
    save_backbone(tmp_path / "runs/backbone-untrained/backbone.safetensors", other)
    with pytest.raises(InputError, match="a head reads features of"):
        open_chain(tmp_path / "runs")


def test_controls_do_not_answer(runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    verbs = tmp_path / "runs/verbs-untrained"
    shutil.copytree(verbs, tmp_path / "runs/verbs")  # a shorter name, which would come first
    params = json.loads((verbs / "params.json").read_text())
    (tmp_path / "runs/verbs/params.json").write_text(json.dumps(params | dict(alone=True)))
    assert find_chain(tmp_path / "runs").heads["verbs"].name == "verbs-untrained"
    assert "verbs" not in [r.name for r in head_runs(tmp_path / "runs")]


def test_events_cut_at_shots(chain):
    said = say_film(BUNNY, *chain, FilmOptions(at_shots=True))
    cuts = said.shots.start_s[1:]
    inside = (said.events.start_s.values + 0.01 < cuts.values[:, None]) & (
        said.events.end_s.values - 0.01 > cuts.values[:, None]
    )
    assert not inside.any() and len(cuts) > 2


def test_nothing_of_the_users_is_replaced(chain, tmp_path):
    film = tmp_path / "film.mp4"
    shutil.copy(BUNNY, film)
    assert make_film_folder(tmp_path, film, *chain) and film.read_bytes() == BUNNY.read_bytes()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "index.html").write_text("my own page")
    with pytest.raises(InputError, match=r"index\.html that is not of an earlier page"):
        make_film_folder(mine, film, *chain)
    assert [(p.name, p.read_text()) for p in mine.iterdir()] == [("index.html", "my own page")]


def test_a_page_is_kept_when_a_new_one_fails(chain, tmp_path, monkeypatch):
    import hiermovie.app.many_films as module

    make_film_folder(tmp_path / "seen", BUNNY, *chain)
    before = {p.name: p.read_bytes() for p in (tmp_path / "seen").iterdir()}

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "convert_video", killed)
    with pytest.raises(KeyboardInterrupt):
        make_film_folder(tmp_path / "seen", BUNNY, *chain, playable=True)
    assert {p.name: p.read_bytes() for p in (tmp_path / "seen").iterdir()} == before
