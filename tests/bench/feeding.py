"""How many clips does one core prepare in a second, decoded only, and decoded and augmented as for
CVRL? `make bench`. The limit is what a core must do so that sixteen of them prepare 1.3 times as
many clips as a card trains on; the card is the H200 of `runs/reference/gpu`.

Files as those of Kinetics (H.264, 340 x 256); clips of 32 frames, 224 x 224, two of a video.
"""

import statistics
import tempfile
import time
from pathlib import Path

import torch
from loading import SECONDS, VIDEOS, T, write
from rows import row

from hiermovie.backbone import TwoViews
from hiermovie.base import read_json
from hiermovie.video import usable_videos

CARD = Path(__file__).resolve().parents[2] / "runs/reference/gpu/NVIDIA-H200-steps.json"
CORES, WANTED = 16, 1.3


def clips_a_second(data: TwoViews, later: bool) -> float:
    data.augment_later, times = later, []
    for _ in range(3):
        began = time.process_time()
        for i in range(len(data)):
            data[i]
        times.append(time.process_time() - began)
    return 2 * len(data) / statistics.median(times)


def main() -> None:
    torch.set_num_threads(1)
    steps = read_json(CARD)["steps"]
    trained = max(step["clips_per_s"] for step in steps.values())
    limit = (f"{WANTED} x H200 / {CORES}", WANTED * trained / CORES)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{k}.mp4" for k in range(VIDEOS)]
        for k, path in enumerate(paths):
            write(path, k)
        infos, _ = usable_videos(paths, "bench")
        for name, more in (("", {}), (", light", dict(light=True))):
            data = TwoViews(infos, T, 224, SECONDS, **more)
            whole, decoded = clips_a_second(data, False), clips_a_second(data, True)
            beside = ("decoded only, augment_on=device", decoded)
            work = f"two views of a video for CVRL{name}, 224 x 224, one core"
            row(work, whole, "clips/s", limit=limit, beside=beside, more=True)
        row("the same, decoded only", decoded, "clips/s", limit=limit, more=True)


if __name__ == "__main__":
    main()
