"""LVU: where it belongs, and what of it is there.

Put the release's nine folders of CSV files and lvu_durations.csv below ROOT/lvu/lvu_1.0 and the
videos below ROOT/lvu/videos as <youtube_id>.mp4. For the instance model there are three ways, see
stage 25: the release's instance_meta_*.pkl and <video>.npz files (its code repository links a
shared folder with `features` and `instance_meta`), weights of a torchvision detector, or boxes of
your own as ROOT/lvu/boxes/<youtube_id>.csv. What these files amount to: hiermovie audit ROOT/lvu

    python data_scripts/get_lvu.py ROOT [--out coverage_lvu.csv]
"""

from counting import report

from hiermovie.data import lvu_listed
from hiermovie.lvu import LVU_TASKS, RELEASE, SPLITS

EXPECTED = {
    f"{task}/{split}": int(RELEASE.loc[task, split]) for task in LVU_TASKS for split in SPLITS
}  # counted in the release's files


if __name__ == "__main__":
    report("lvu", lvu_listed, EXPECTED)
