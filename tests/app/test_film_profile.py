"""Both levels on one film: the profile `film`, made small, from the command line."""

import json

import av
import pytest
import yaml
from conftest import ROOT, run

from hiermovie.minimovies import World, write_minimovies
from hiermovie.video import decode_whole, list_videos

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    "Four films of MiniMovies one after another: four minutes."
    folder = tmp_path_factory.mktemp("film")
    sizes = dict(kinetics=(0, 0), movieclips=4, vidsitu=(0, 0), lvu=(0, 0, 0), boxes=())
    world = World(width=64, height=48)
    write_minimovies(folder / "world", world, **sizes, movieclips_s=(60, 61))
    with av.open(str(folder / "film.mp4"), "w") as box:
        stream = box.add_stream("libx264", rate=world.fps, options=dict(crf="20"))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for path in list_videos(folder / "world/movieclips/videos"):
            for picture in decode_whole(path)[1]:
                box.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        box.mux(stream.encode())
    return folder / "film.mp4"


def test_both_levels_learn_from_two_thirds_and_are_asked_about_the_rest(film, tmp_path):
    data = tmp_path / "DATA"
    code, out, err = run("hiermovie", "data", "film", film, "--out", data)
    assert code == 0, err
    assert out.strip().endswith(f"make reproduce PROFILE=film DATA={data}")
    small = yaml.safe_load((ROOT / "runs/profiles/film.yaml").read_text())
    small["runs"]["data-minimovies"]["kinetics"] = [40, 4]
    for name in ("backbone-minimovies", "backbone-film"):
        small["runs"][name] |= dict(epochs=1)
    small["defaults"]["30_pretrain_contextualizer"] |= dict(epochs=5)
    profile = tmp_path / "film.yaml"
    profile.write_text(yaml.safe_dump(small))
    how = ["--profile", profile, "--data", data, "--out", tmp_path / "runs"]
    code, out, err = run("hiermovie", "reproduce", *how)
    assert code == 0, err[-3000:]
    said = json.loads((tmp_path / "runs/film/metrics.json").read_text())
    assert said["stretches"] == 2 and len(said["hidden"]) == 3 * 4
    assert all(0 <= row["low"] <= row["mean"] <= row["high"] <= 1 for row in said["hidden"])
    assert {row["row"] for row in said["time"]} == set(small["runs"]["film"]["names"])
    started = json.loads((tmp_path / "runs/backbone-film/pretrain.json").read_text())["start"]
    assert started.endswith("backbone-minimovies/backbone.safetensors")
    learned = {p.stem for p in list_videos(data / "movieclips/videos")}
    asked = {p.stem for p in list_videos(data / "held_out/videos")}
    assert learned and asked and not learned & asked
