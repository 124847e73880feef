"""VidSitu: where it belongs, and what of it is there.

Put the annotation archive of the release below ROOT/vidsitu as
vidsitu_annotations/{split_files,vinfo_files,vseg_ann_files}, and the trimmed 10-second segments
below ROOT/vidsitu/videos as v_<youtube_id>_seg_<start>_<end>.mp4.

    python data_scripts/get_vidsitu.py ROOT [--out coverage_vidsitu.csv]
"""

from counting import report

from hiermovie.data import vidsitu_listed

EXPECTED = {"train": 23_626, "valid": 1_326}  # challenge page of the release


if __name__ == "__main__":
    report("vidsitu", vidsitu_listed, EXPECTED)
