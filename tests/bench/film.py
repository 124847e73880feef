"""What `hiermovie predict` costs: beside features alone, and as a film gets longer.

    python tests/bench/film.py [FILM]

Without a film, ones of 1280 x 720 pixels are made, of wandering noise, harder to decode than most.
Networks have random weights and the sizes of the profile mini: what they cost does not depend on
training.
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
from rows import row

from hiermovie.app import make_film_folder, open_chain, write_untrained_runs
from hiermovie.backbone import video_features
from hiermovie.minimovies import World, write_minimovies
from hiermovie.video import probe
from hiermovie.vidsitu import read_segments

LENGTHS = (60, 120, 240)  # seconds


def write_film(path, seconds: int, fps: int = 24, size=(1280, 720)) -> None:
    """Noise of coarse grain that wanders, another one every three seconds."""
    r = np.random.default_rng(0)
    with av.open(str(path), "w") as box:
        stream = box.add_stream("libx264", rate=fps, options=dict(preset="veryfast", crf="23"))
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for k in range(seconds * fps):
            if k % (3 * fps) == 0:
                grain = r.integers(0, 255, (size[1] // 40, size[0] // 40, 3), dtype=np.uint8)
                large = grain.repeat(40, 0).repeat(40, 1)
            x = np.roll(large, 4 * (k % (3 * fps)), axis=1)
            box.mux(stream.encode(av.VideoFrame.from_ndarray(x, format="rgb24")))
        box.mux(stream.encode())


def networks(folder: Path):
    sizes = dict(kinetics=(0, 0), movieclips=0, vidsitu=(12, 4), lvu=(0, 0, 0), boxes=())
    write_minimovies(folder / "world", World(), **sizes)
    train = read_segments(folder / "world/vidsitu/vidsitu_annotations", "train")
    return open_chain(write_untrained_runs(folder / "runs", train, width=16, size=48))


def seconds_of(work) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def measure(film: Path, chain, out: Path) -> None:
    threads = os.cpu_count() or 1
    alone = seconds_of(lambda: video_features(chain[1].backbone, film, threads=threads))
    whole = seconds_of(lambda: make_film_folder(out, film, *chain))
    page = (out / "index.html").stat().st_size / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    length = f"{probe(film).duration:.0f} s of film"
    row(f"page of {length}", whole, "s", beside=("its features alone", alone))
    row(f"size of the page of {length}", page, "MB")
    row(f"memory for the page of {length}", peak, "GB")


def main() -> None:
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp)
        chain = networks(folder)
        films = [Path(a) for a in sys.argv[1:]]
        for seconds in () if films else LENGTHS:
            films.append(folder / f"noise_{seconds}.mp4")
            write_film(films[-1], seconds)
        for film in films:
            measure(film, chain, folder / "out" / film.stem)


if __name__ == "__main__":
    main()
