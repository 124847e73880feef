"""VidSitu: annotations, vocabulary, and the segments that still exist.

    python data_scripts/get_vidsitu.py --out DATA
    python data_scripts/get_vidsitu.py --out DATA --only features     # of the release
    python data_scripts/get_vidsitu.py --out DATA --count             # fetch nothing

The annotations come to DATA/vidsitu/vidsitu_annotations, the segments of ten seconds to
DATA/vidsitu/videos/v_<youtube_id>_seg_<start>_<end>.mp4.
"""

import sys
from pathlib import Path

from hiermovie.data import fetch_program, run_program

MANIFEST = Path(__file__).parent / "manifests/vidsitu.yaml"

if __name__ == "__main__":
    sys.exit(run_program(fetch_program(MANIFEST, __doc__.split("\n")[0])))
