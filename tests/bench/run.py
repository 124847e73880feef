"""`make bench`: all benchmarks one after the other, then one table; kept as JSON in
runs/reference/bench, which the notebook about benchmarks shows over time.

The machine must have nothing else to do. Names of scripts as arguments: only these. The script
`memory` takes half an hour, all others together as long.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ONE_THREAD = ("metrics", "generation", "loading", "index", "ledger", "training", "heads")
ONE_THREAD += ("extraction", "lvu", "starting", "feeding")
ALL_CORES = ("memory", "film", "search")


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str:
    "The commit of the code, with a word when files differ from it."
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty=-changed"]
    done = subprocess.run(asked, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def rows_of(script: str, folder: Path) -> list:
    "Runs a script; what it says is shown as it is said."
    print(f"== {script}", flush=True)
    kept = folder / f"{script}.jsonl"
    env = dict(os.environ, HIERMOVIE_BENCH=str(kept))
    if script in ONE_THREAD:
        env["OMP_NUM_THREADS"] = "1"
    subprocess.run([sys.executable, str(HERE / f"{script}.py")], env=env, check=True)
    lines = kept.read_text().splitlines() if kept.exists() else []
    return [dict(script=script, **json.loads(line)) for line in lines]


def in_words(row: dict) -> list:
    "work, ours, peer, ratio, limit, share, beside"
    cells = [row["work"], f"{row['ours']:.3g} {row['unit']}"]
    peer, limit = ["-", "-"], ["-", "-"]
    if "peer" in row:
        peer = [f"{row['theirs']:.3g} ({row['peer']})", f"{row['ratio']:.2f}"]
    if "limit" in row:
        limit = [f"{row['possible']:.3g} ({row['limit']})", f"{row['share']:.0%}"]
    beside = f"{row['value']:.3g} ({row['beside']})" if "beside" in row else "-"
    return [*cells, *peer, *limit, beside]


def table(rows: list) -> str:
    head = ["work", "ours", "peer", "ratio", "limit", "share", "beside"]
    lines = [head, *map(in_words, rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]

    def aligned(line: list) -> str:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        return "  ".join(cells).rstrip()

    return "\n".join(map(aligned, lines))


def main() -> None:
    scripts = sys.argv[1:] or [*ONE_THREAD, *ALL_CORES]
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for script in scripts for row in rows_of(script, Path(folder))]
    print(table(rows))
    time = datetime.now().isoformat(timespec="seconds")
    about = dict(time=time, commit=commit(), processor=processor())
    about["cores"] = os.cpu_count()
    path = ROOT / "runs/reference/bench" / f"{time.replace(':', '')}-{about['commit']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about | dict(rows=rows), indent=1) + "\n")
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
