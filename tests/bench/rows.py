"""What a benchmark finds, one row for each piece of work: printed at once, and kept for the table
that `make bench` ends with.

A row compares ours with a peer (another program, or the plain way) and with a limit (what is
possible at all, or what is wanted), all measured in one run. What it may have beside it is no
rival, such as a part of the work: no ratio is formed.
"""

import json
import os
from pathlib import Path


def times_better(ours: float, other: float, more: bool) -> float:
    "How many times as good ours is; `more`: more is better."
    return ours / other if more else other / ours


def row(
    work: str,
    ours: float,
    unit: str,
    peer: tuple = (),  # name, value
    limit: tuple = (),  # name, value
    beside: tuple = (),  # name, value
    more: bool = False,  # more of it is better
) -> None:
    "Prints a row; `make bench` finds it in the file that HIERMOVIE_BENCH names."
    kept = dict(work=work, ours=ours, unit=unit, more=more)
    said = f"{work}: {ours:.3g} {unit}"
    if peer:
        kept |= dict(peer=peer[0], theirs=peer[1], ratio=times_better(ours, peer[1], more))
        said += f"; {peer[0]} {peer[1]:.3g}, ratio {kept['ratio']:.2f}"
    if limit:
        kept |= dict(limit=limit[0], possible=limit[1], share=times_better(ours, limit[1], more))
        said += f"; {limit[0]} {limit[1]:.3g}, {kept['share']:.0%} of it"
    if beside:
        kept |= dict(beside=beside[0], value=beside[1])
        said += f"; beside it {beside[0]} {beside[1]:.3g}"
    print(said, flush=True)
    if path := os.environ.get("HIERMOVIE_BENCH"):
        with Path(path).open("a") as file:
            file.write(json.dumps(kept) + "\n")
