"""Released weights: SlowFast backbones of PySlowFast and pytorchvideo, MaCLR's Slow.

    python data_scripts/get_weights.py --out DATA

They come to DATA/checkpoints; `hiermovie checkpoint convert IN OUT` brings them to ours.
"""

import sys
from pathlib import Path

from hiermovie.data import fetch_program, run_program

MANIFEST = Path(__file__).parent / "manifests/weights.yaml"

if __name__ == "__main__":
    sys.exit(run_program(fetch_program(MANIFEST, __doc__.split("\n")[0])))
