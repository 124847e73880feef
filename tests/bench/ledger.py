"""What does a data set of 35,000 items cost, apart from its downloads? `make bench`."""

import resource
import tempfile
import time
from pathlib import Path

from rows import row

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
    row(f"{ITEMS:,} items wanted", wanted, "s")
    row(f"{ITEMS:,} items asked for", asked, "s")
    row(f"{ITEMS:,} items written down one by one", noted, "s")
    row(f"{ITEMS:,} files compared with the ledger", checked, "s", limit=("wanted", 20.0))
    row(f"memory for a ledger of {ITEMS:,}", memory, "MiB", limit=("wanted", 500.0))


if __name__ == "__main__":
    main()
