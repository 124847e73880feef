"""How long do the official scores take at full size? `make bench`.

One core, CPU seconds, best of five; CIDEr side by side with pycocoevalcap's on the same items.
"""

import resource
import sys
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from full_size import full_size
from rows import row

from hiermovie.vidsitu import RoleScorer, cider_items, evaluate, role_items


def gib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**30 if sys.platform == "darwin" else 2**20
    )


def best_of(n, f):
    """(Least CPU seconds of n calls, last result)."""
    times = []
    for _ in range(n):
        began = time.process_time()
        out = f()
        times.append(time.process_time() - began)
    return min(times), out


def main():
    split, vinfo, annotations, said = full_size()
    start = gib()
    for task, limit in (("verbs", 0.4), ("relations", 0.4), ("roles", 1.0)):
        seconds, scores = best_of(5, partial(evaluate, task, said[task], split, vinfo, annotations))
        row(f"scores of {task}, {len(split)} segments", seconds, "CPU s", limit=("wanted", limit))
    items = role_items(said["roles"], split, annotations)[3]
    scorer = RoleScorer(said["roles"], split, annotations)
    again, _ = best_of(5, lambda: scorer(np.ones(len(split))))
    row(f"one draw of the bootstrap, {len(items)} role items", again, "CPU s")
    data = ("of it the made-up data", start)
    row("memory for the scores", gib(), "GiB", limit=("wanted", 1.0), beside=data)

    from pycocoevalcap.cider.cider import Cider

    groups = [list(range(len(items)))]
    for column in (3, 2):  # verb, role
        members = defaultdict(list)
        for k, item in enumerate(items):
            members[item[column]].append(k)
        groups += members.values()

    def theirs():
        return [
            Cider().compute_score({k: list(items[k][5]) for k in g}, {k: [items[k][4]] for k in g})[
                0
            ]
            for g in groups
        ]

    def ours():
        from hiermovie.vidsitu import Captions

        c, out = Captions([i[4] for i in items], [i[5] for i in items]), []
        for column in (None, 3, 2):
            g = np.unique([i[column] if column else "" for i in items], return_inverse=True)[1]
            out += (np.bincount(g, cider_items(c, g)) / np.bincount(g)).tolist()
        return out

    (a, x), (b, y) = best_of(5, ours), best_of(2, theirs)
    pairs = zip(sorted(x[1:]), sorted(map(float, y[1:])), strict=True)
    apart = max(abs(p - q) for p, q in pairs)
    row(f"CIDEr, {len(groups)} lists of items", a, "CPU s", ("pycocoevalcap 1.2", b))
    print(f"  CIDEr {x[0]:.12f} and {float(y[0]):.12f}; lists differ by at most {apart:.1e}")


if __name__ == "__main__":
    main()
