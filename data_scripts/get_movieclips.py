"""MovieClips, the pool of Condensed Movies: its lists, and the videos that still exist.

    python data_scripts/get_movieclips.py --out DATA
    python data_scripts/get_movieclips.py --out DATA --count          # fetch nothing

The lists come to DATA/movieclips (clips.csv has the columns videoid and imdbid), the videos to
DATA/movieclips/videos/<youtube_id>.mp4.
"""

import sys
from pathlib import Path

from hiermovie.data import fetch_program, run_program

MANIFEST = Path(__file__).parent / "manifests/movieclips.yaml"

if __name__ == "__main__":
    sys.exit(run_program(fetch_program(MANIFEST, __doc__.split("\n")[0])))
