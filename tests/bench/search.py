"""Nearest events among a million: exactly, from disk, beside faiss in memory.

Features are made up: 10,000 kinds of events with noise around them, 576 numbers as those of the
profile mini. Needs 2.4 GB of disk, and 3 GB of memory for faiss.
"""

import tempfile
import time

import numpy as np
from rows import row

from hiermovie.video import ApproximateIndex, EventIndex, write_event_index

EVENTS, FILMS, DIM, KINDS, ASKED = 1_000_000, 100, 576, 10_000, 20


class MadeUp(dict):
    """Films that are made when they are read, so that they need no memory."""

    def __init__(self):
        super().__init__((f"film {k:03}", k) for k in range(FILMS))
        self.kinds = np.random.default_rng(0).standard_normal((KINDS, DIM)).astype(np.float32)

    def __getitem__(self, name):
        r = np.random.default_rng(1 + super().__getitem__(name))
        n = EVENTS // FILMS
        noise = r.standard_normal((n, DIM), dtype=np.float32)
        return self.kinds[r.integers(KINDS, size=n)] + noise


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        write_event_index(folder, MadeUp())
        row(f"index of {EVENTS:,} events written", time.monotonic() - began, "s")
        index = EventIndex.open(folder)
        queries = np.asarray(index.rows[:: EVENTS // ASKED])
        index.near(queries[:1])  # the file is in the system's memory now, if there is room
        began = time.monotonic()
        true = [index.near(q[None])[1][0] for q in queries]
        exact = (time.monotonic() - began) / ASKED
        began = time.monotonic()
        together = index.near(queries)[1]
        at_once = time.monotonic() - began
        assert all(set(a) == set(b) for a, b in zip(true, together, strict=True))
        peer = ("one by one", exact * ASKED)
        row(f"{ASKED} questions to {EVENTS:,} events at once", at_once, "s", peer)
        began = time.monotonic()
        approximate = ApproximateIndex(index)
        row("groups of the approximate index", time.monotonic() - began, "s")
        began = time.monotonic()
        found = [approximate.near(q[None])[1][0] for q in queries]
        quick = (time.monotonic() - began) / ASKED
        share = np.mean([len({*a} & {*b}) / len(a) for a, b in zip(true, found, strict=True)])
        row("a question to the approximate index", 1000 * quick, "ms", ("exact", 1000 * exact))
        print(f"  of the ten nearest {share:.0%} are found")


if __name__ == "__main__":
    main()
