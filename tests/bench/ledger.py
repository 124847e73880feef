"""What does a data set of 35,000 items cost, apart from its downloads? `make bench`."""

import resource
import tempfile
import time
from pathlib import Path

from hiermovie.data import Ledger, check_ledger

ITEMS = 35_000


def seconds(function) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def main():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{k:011d}" for k in range(ITEMS)]
        (Path(folder) / "videos").mkdir()
        for name in names:
            (Path(folder) / f"videos/{name}.mp4").write_bytes(b"film")
        with Ledger(folder) as ledger:
            wanted = seconds(lambda: ledger.want("movieclips", names))
            asked = seconds(lambda: ledger.to_try("movieclips"))

            def note_all():
                for name in names:
                    path = f"videos/{name}.mp4"
                    ledger.note("movieclips", name, "present", size=4, path=path)

            noted = seconds(note_all)
        checked = seconds(lambda: check_ledger(folder))
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{ITEMS:,} items: wanted in {wanted:.1f} s, asked for in {asked:.1f} s")
    print(f"  each written down on its own: {noted:.1f} s")
    print(f"  files compared with the ledger: {checked:.1f} s (wanted: 20 s at most)")
    print(f"  memory: {memory:.0f} MiB more than before (wanted: below 500)")


if __name__ == "__main__":
    main()
