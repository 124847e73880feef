"""MovieClips (the pool of Condensed Movies): where it belongs, and what of it is there.

Put the videos below ROOT/movieclips/videos as <youtube_id>.mp4, and the list of the Condensed Movies release beside them as
ROOT/movieclips/clips.csv (columns videoid, imdbid, duration).

    python data_scripts/get_movieclips.py ROOT [--out coverage_movieclips.csv]
"""
from counting import report

from hiermovie.core import read_table
from hiermovie.video import named_videos

EXPECTED = {"all": 34_587}  # rows of lvu_durations.csv: the whole pool


def rows(root):
    videos = named_videos(root/"movieclips"/"videos")
    table = read_table(root/"movieclips"/"clips.csv", ["videoid", "imdbid"], dtype={"videoid": str})
    for v in table.videoid: yield "all", v, videos.get(v)


if __name__ == "__main__": report("movieclips", rows, EXPECTED)
