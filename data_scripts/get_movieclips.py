"""MovieClips (the pool of Condensed Movies): where it belongs, and what of it is there.

Put the videos below ROOT/movieclips/videos as <youtube_id>.mp4, and the list of the Condensed
Movies release beside them as ROOT/movieclips/clips.csv (columns videoid, imdbid, duration).

    python data_scripts/get_movieclips.py ROOT [--out coverage_movieclips.csv]
"""

from counting import report

from hiermovie.data import movieclips_listed

EXPECTED = {"all": 34_587}  # rows of lvu_durations.csv: the whole pool


if __name__ == "__main__":
    report("movieclips", movieclips_listed, EXPECTED)
