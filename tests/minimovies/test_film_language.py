"""Film language: no share, no change; every device hides what it says, and nothing else."""

import hashlib

import numpy as np
import pytest

from hiermovie.base import rng
from hiermovie.minimovies import (
    DEVICES,
    Framing,
    Shot,
    World,
    annotation_fingerprint,
    boxes,
    make_movie,
    read_story,
    render,
    seen_of,
    tell,
    write_kinetics,
    write_lvu,
    write_movieclips,
    write_vidsitu,
)

# of the world as it was before it had film language
ANNOTATIONS = "482270a56954f2ec"


def write_annotations(root, world):
    (root / "kinetics").mkdir(parents=True)
    write_kinetics(root, world, 30, 5)
    jobs = write_movieclips(root, world, 8) + write_vidsitu(root, world, 6, 4)
    return jobs + write_lvu(root, world, 3, 2, 2)


def pictures(jobs, world):
    sha = hashlib.sha256()
    for _, shots in jobs:
        sha.update(render(shots[0], world).tobytes())
    return sha.hexdigest()[:16]


def test_without_film_language_nothing_changes(tmp_path):
    world = World(seed=5, width=32, height=32)
    jobs = write_annotations(tmp_path, world)
    assert annotation_fingerprint(tmp_path) == ANNOTATIONS
    assert {shot.framing for _, shots in jobs for shot in shots} == {Framing()}


def test_film_language_changes_pictures_only(tmp_path):
    worlds = [World(seed=5, width=32, height=32, **more) for more in ({}, dict(close_up=1.0))]
    jobs = [write_annotations(tmp_path / str(k), world) for k, world in enumerate(worlds)]
    assert annotation_fingerprint(tmp_path / "1") == ANNOTATIONS
    assert pictures(jobs[0], worlds[0]) != pictures(jobs[1], worlds[1])


def test_overlap_changes_the_clips_only(tmp_path):
    for name, overlap in (("all", 1.0), ("some", 0.6)):
        write_annotations(tmp_path / name, World(seed=5, overlap=overlap))
    for corpus in ("movieclips", "vidsitu", "lvu"):
        files = [p for p in (tmp_path / "all" / corpus).rglob("*") if p.is_file()]
        assert files
        for path in files:
            other = tmp_path / "some" / path.relative_to(tmp_path / "all")
            assert path.read_bytes() == other.read_bytes()
    clips = [(tmp_path / name / "kinetics" / "train.csv").read_text() for name in ("all", "some")]
    assert clips[0] != clips[1]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("on", ("agent", "patient"))
def test_what_a_device_hides_is_not_in_the_picture(device, on):
    """Pictures with and without the hidden person are equal, pixel by pixel."""
    world = World(width=64, height=64)
    people = dict(agent=("red", "star"), patient=("blue", "circle"))
    hidden = "patient" if on == "agent" else "agent"
    shots = []
    for colour in ("green", "purple"):
        cast = people | {hidden: (colour, "square")}
        shot = Shot("hug.01", cast["agent"], cast["patient"], "forest", ("demo",))
        shots.append(render(Shot(**{**vars(shot), "framing": Framing(device, on)}), world))
    same = bool((shots[0] == shots[1]).all())
    assert same == (device in ("close_up", "reverse_shot", "cutaway")), "off frame shows an edge"


def test_boxes_lie_where_the_pictures_change():
    world = World(width=64, height=64)
    shot = Shot("jump.03", ("red", "star"), None, "office", ("b",), framing=Framing("close_up"))
    (found,) = boxes(shot, world, [0.0])
    (name, (x1, y1, x2, y2)) = found[0]
    assert name == "person" and len(found) == 1
    frame = render(shot, world)[0].astype(int)
    red = (frame[..., 0] > 150) & (frame[..., 1] < 90)
    rows, columns = np.nonzero(red)
    assert x1 * 64 - 2 <= columns.min() and columns.max() <= x2 * 64 + 2
    assert y1 * 64 - 2 <= rows.min() and rows.max() <= y2 * 64 + 2


@pytest.mark.parametrize("unrelated", (0.0, 0.15, 1.0))
def test_the_true_story_is_always_possible(unrelated):
    """The reader never rules out what happened, whatever is hidden."""
    hidden = dict(degraded=0.3, reverse_shot=0.3, close_up=0.2, cutaway=0.1, off_frame=0.1)
    world = World(seed=9, unrelated=unrelated, **hidden)
    for i in range(40):
        story = tell(make_movie(world, "possible", i), 5, world)
        read = read_story([seen_of(e) for e in story], world, rng(i), 20)
        for k, e in enumerate(story):
            if "agent" in e.visible:
                assert {row[k] for row in read.agents} == {e.agent}
            if "scene" in e.visible:
                assert {row[k] for row in read.scenes} == {e.scene}
