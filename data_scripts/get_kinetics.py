"""Kinetics-400: where it belongs, and what of it is there.

The videos are distributed by the Common Visual Data Foundation and by academic mirrors; they cannot
be fetched by a script of ours. Put them below ROOT/kinetics as
<split>/<class>/<youtube_id>_<start>_<end>.mp4 beside train.csv and val.csv (columns label,
youtube_id, time_start, time_end, split, is_cc), which is how the data set is usually kept.

    python data_scripts/get_kinetics.py ROOT [--out coverage_kinetics.csv]
"""

from counting import report

from hiermovie.data import kinetics_listed

EXPECTED = {
    "train": 246_534,
    "val": 19_906,
}  # of the 2017 release, from memory, not checked against its files; many are gone from YouTube


if __name__ == "__main__":
    report("kinetics", kinetics_listed, EXPECTED)
