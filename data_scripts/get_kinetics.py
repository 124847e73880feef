"""Kinetics-400, as the Common Visual Data Foundation hosts it: lists and archives of clips.

    python data_scripts/get_kinetics.py --out DATA
    python data_scripts/get_kinetics.py --out DATA --only val_csv --only val
    python data_scripts/get_kinetics.py --out DATA --count            # fetch nothing

The clips come to DATA/kinetics/<split>/<class>/<youtube_id>_<start>_<end>.mp4, beside train.csv and
val.csv (columns label, youtube_id, time_start, time_end).
"""

import sys
from pathlib import Path

from hiermovie.data import fetch_program, run_program

MANIFEST = Path(__file__).parent / "manifests/kinetics.yaml"

if __name__ == "__main__":
    sys.exit(run_program(fetch_program(MANIFEST, __doc__.split("\n")[0])))
