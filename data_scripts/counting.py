"""What the four scripts share: count what is listed and what is on disk, and write it down."""

import argparse
import sys
from pathlib import Path

import pandas as pd

from hiermovie.base import InputError, need_folder, write_table


def report(name, rows, expected):
    """Print listed, present and expected videos per split; write one row per video to the coverage
    file; one line on stderr for bad input.
    """
    args = argparse.ArgumentParser(description=f"What of {name} is there.")
    args.add_argument(
        "root", type=Path, help="folder with kinetics/, movieclips/, vidsitu/ and lvu/"
    )
    args.add_argument(
        "--out", type=Path, default=Path(f"coverage_{name}.csv"), help="coverage file to write"
    )
    args = args.parse_args()
    try:
        table = pd.DataFrame(
            [
                (split, video, path is not None and path.is_file())
                for split, video, path in rows(need_folder(args.root))
            ],
            columns=["split", "video", "present"],
        )
    except InputError as e:
        sys.exit(f"error: {e}")
    for split, want in expected.items():
        part = table[table.split == split]
        print(
            f"{name} {split:22} listed {len(part):7,}  present {part.present.sum():7,}  in "
            f"the release {want:7,}"
        )
    write_table(args.out, table)
    print(f"{args.out}: {len(table):,} rows")
