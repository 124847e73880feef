"""How long does the index of 1,000 clips take, and what does it cost beside reading them? `make
bench`. One core; the clips of loading.py (H.264, 300 frames).
"""

import statistics
import tempfile
import time
from pathlib import Path

from loading import write
from rows import row

from hiermovie.video import VideoIndexes, index_video, read_clips

CLIPS, KINDS = 1000, 5


def seconds(function) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def main():
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{k}.mp4" for k in range(CLIPS)]
        for k, path in enumerate(paths):
            if k < KINDS:
                write(path, k)
            else:
                path.write_bytes(paths[k % KINDS].read_bytes())
        indexes = VideoIndexes(Path(folder) / "video_index.json", folder)
        first = seconds(lambda: [indexes(p) for p in paths] and indexes.save())
        again = seconds(lambda: [VideoIndexes(indexes.file, folder)(p) for p in paths[:1]])
        one = statistics.median(seconds(lambda p=p: index_video(p)) for p in paths[:50])
        read = statistics.median(
            seconds(lambda p=p: read_clips(p, [[2.0, 3.0], [7.0, 8.0]])) for p in paths[:50]
        )
    row(f"index of {CLIPS} clips", first, "CPU s", limit=("wanted", 20.0))
    row("kept indexes of all read again, and one looked up", again, "CPU s")
    reading = ("reading two clips of the file", 1000 * read)
    row("index of one clip", 1000 * one, "CPU ms", beside=reading)


if __name__ == "__main__":
    main()
