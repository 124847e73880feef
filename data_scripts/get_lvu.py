"""LVU: the CSV files of the nine tasks, and the videos that still exist.

    python data_scripts/get_lvu.py --out DATA
    python data_scripts/get_lvu.py --out DATA --only instances        # of the release
    python data_scripts/get_lvu.py --out DATA --count                 # fetch nothing

The CSV files come to DATA/lvu/lvu_1.0, the videos to DATA/lvu/videos/<youtube_id>.mp4. For the
instance model there are three ways, see stage 25: the release's instance_meta_*.pkl and <video>.npz
files (`--only instances`), weights of a torchvision detector, or boxes of your own as
DATA/lvu/boxes/<youtube_id>.csv. What these files amount to: hiermovie audit DATA/lvu
"""

import sys
from pathlib import Path

from hiermovie.data import fetch_program, run_program

MANIFEST = Path(__file__).parent / "manifests/lvu.yaml"

if __name__ == "__main__":
    sys.exit(run_program(fetch_program(MANIFEST, __doc__.split("\n")[0])))
