"""Downloads against servers that misbehave: every item ends whole or with its reason, and a run
that was killed ends like one that was not.
"""

import errno
import hashlib
import os
import random
import signal
import subprocess
import time
import zipfile

import pytest
from conftest import BIN
from servers import HAVE_OPENSSL, Drive, Served, body, drive_file, page, status

import hiermovie.data.http
from hiermovie.base import InputError
from hiermovie.data import (
    FetchError,
    Ledger,
    Patience,
    Tools,
    check_ledger,
    fetch_drive,
    fetch_file,
    fetch_files,
    list_drive_folder,
    read_manifest,
    sha256_of,
)

DATA = random.Random(0).randbytes(600_000)
DIGEST = hashlib.sha256(DATA).hexdigest()
QUICK = Patience(tries=3, pause=0.01, timeout=2, longest=0.2)


def manifest_of(folder, files):
    """A manifest of name -> (address, what else is known)."""
    lines = ["data_set: films", "about: a test", "licence: none", "terms: none", "files:"]
    for name, (address, known) in files.items():
        lines += [f"  {name}:", f"    to: films/{name}.bin", f"    sources: [{{url: '{address}'}}]"]
        lines += ["    licence: none", "    found_in: here", '    found: "2026-11-27"']
        lines += [f"    {k}: {v}" for k, v in known.items()]
    path = folder / "films.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def answers():
    half, page_ = 300_000, b"<!DOCTYPE html><title>Quota exceeded</title>"
    return {
        "drops": [body(DATA, upto=half), body(DATA, upto=500_000), body(DATA)],
        "busy": [status(429, Retry_After="0"), status(503), body(DATA)],
        "changes": [body(DATA[::-1], upto=half, etag='"0"'), body(DATA)],
        "changes_too": [body(DATA[::-1], upto=half, etag='"0"'), body(DATA)],
        "gone": [status(404)],
        "closed": [status(403)],
        "never": [status(503)],
        "page": [body(page_)],
        "short": [body(DATA, upto=half)],
        "wrong_size": [body(DATA[:-1])],
        "wrong_bytes": [body(DATA[::-1])],
        "slow": [body(DATA, speed=20_000)],
        "elsewhere": [status(302, Location="http://localhost:1/x")],
        "to_a_file": [status(302, Location="file:///etc/passwd")],
    }


EXPECTED = {
    **dict.fromkeys(("drops", "busy", "changes", "changes_too"), "present"),
    "gone": "removed",
    **dict.fromkeys(("closed", "page", "elsewhere", "to_a_file"), "refused"),
    **dict.fromkeys(("never", "short", "slow"), "network"),
    **dict.fromkeys(("wrong_size", "wrong_bytes"), "broken"),
}


def test_every_item_ends_whole_or_with_its_reason(tmp_path):
    with Served({f"/{k}": v for k, v in answers().items()}) as server:
        known = dict(size=len(DATA), sha256=DIGEST)
        files = {k: (f"{server.base}/{k}", known) for k in EXPECTED}
        files["changes_too"] = (f"{server.base}/changes_too", {})  # nothing to tell it by
        manifest = read_manifest(manifest_of(tmp_path, files))
        patience = Patience(tries=2, pause=0.01, timeout=1, longest=0.2, slowest=100_000)
        with Ledger(tmp_path / "data") as ledger:
            fetch_files(manifest, Tools(tmp_path / "data", "films", ledger, patience), threads=4)
            rows = ledger.table("films").set_index("item")
    found = {k: r.state if r.state == "present" else r.reason for k, r in rows.iterrows()}
    assert found == EXPECTED
    whole = {p.stem for p in (tmp_path / "data/films").glob("*.bin")}
    assert whole == {"drops", "busy", "changes", "changes_too"}
    assert {sha256_of(tmp_path / f"data/films/{k}.bin") for k in whole} == {DIGEST}


PROGRAM = """
import sys
from hiermovie.data import fetch_program, run_program
sys.exit(run_program(fetch_program(sys.argv[1], "a test"), sys.argv[2:]))
"""


def start(manifest, out):
    argv = [BIN / "python", "-c", PROGRAM, manifest, "--out", out, "--threads", "2"]
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(list(map(str, argv)), **quiet)


@pytest.mark.slow
def test_a_run_that_was_killed_ends_like_one_that_was_not(tmp_path):
    """Twenty times at random, each time as `kill -9` does it; then once to the end."""
    contents = {f"f{k}": random.Random(k).randbytes(400_000 + 1000 * k) for k in range(6)}
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as box:
        for k in range(30):
            box.writestr(f"films/{k}.txt", str(k) * 5000)
    contents["archive"] = (tmp_path / "z.zip").read_bytes()
    slow = {f"/{k}": [body(v, speed=150_000)] for k, v in contents.items()}
    with Served(slow) as server:
        files = {k: (f"{server.base}/{k}", {}) for k in contents}
        files["archive"] = (files["archive"][0], dict(unpack="films/unpacked"))
        manifest = manifest_of(tmp_path, files)
        r = random.Random(7)
        for _ in range(20):
            run = start(manifest, tmp_path / "killed")
            time.sleep(r.uniform(0.5, 2.5))
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
        for name in ("killed", "whole"):
            run = start(manifest, tmp_path / name)
            assert run.wait(timeout=120) == 0, run.stderr.read()
    killed, whole = (
        {
            str(p.relative_to(tmp_path / name)): p.read_bytes()
            for p in (tmp_path / name).rglob("*")
            if p.is_file() and "ledger" not in p.name and p.name != ".lock"
        }
        for name in ("killed", "whole")
    )
    assert killed == whole and len(whole) == 7 + 30
    with Ledger(tmp_path / "killed") as ledger:
        table = ledger.table("films")
    assert set(table.state) == {"present"} and len(table) == 7
    with Ledger(tmp_path / "killed") as ledger:
        assert ledger.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_full_disk_is_told_and_what_has_come_is_kept(tmp_path, monkeypatch):
    taken = []

    def take(self, n):
        taken.append(n)
        if len(taken) > 12:
            raise OSError(errno.ENOSPC, "No space left on device")

    with Served({"/a": [body(DATA)], "/b": [body(DATA)]}) as server:
        files = {k: (f"{server.base}/{k}", {}) for k in "ab"}
        manifest = read_manifest(manifest_of(tmp_path, files))
        with Ledger(tmp_path / "data") as ledger:
            with monkeypatch.context() as full:
                full.setattr(hiermovie.data.http.Limiter, "take", take)
                with pytest.raises(InputError, match="the disk is full .* start again"):
                    tools = Tools(tmp_path / "data", "films", ledger, QUICK)
                    fetch_files(manifest, tools, threads=1)
            assert ledger.table("films").set_index("item").state.to_dict() == {
                "a": "present",
                "b": "wanted",
            }
            fetch_files(manifest, Tools(tmp_path / "data", "films", ledger, QUICK))
            assert set(ledger.table("films").state) == {"present"}
        ranges = [asked for path, asked in server.asked if path == "/b"]
    assert ranges[0] is None and ranges[1].startswith("bytes=")


def test_a_file_that_was_damaged_later_is_set_aside_and_fetched_again(tmp_path):
    with Served({"/a": [body(DATA)] * 2}) as server:
        manifest = read_manifest(manifest_of(tmp_path, dict(a=(f"{server.base}/a", {}))))
        root, file = tmp_path / "data", tmp_path / "data/films/a.bin"
        for damage in (b"short", DATA[::-1]):
            with Ledger(root) as ledger:
                fetch_files(manifest, Tools(root, "films", ledger, QUICK))
            assert check_ledger(root, content=True).empty
            file.write_bytes(damage)
            assert len(check_ledger(root)) == (len(damage) != len(DATA))  # sizes only
            assert len(check_ledger(root, content=True)) == (len(damage) == len(DATA))
            assert file.with_name("a.bin.broken").read_bytes() == damage and not file.exists()


def test_what_a_list_names_is_wanted_before_the_list_is_done(tmp_path):
    """Whoever is stopped between the two finds every item of the list the next time."""
    with Served({}) as server:
        names = [f"{server.base}/{k}.bin" for k in range(3)]
        server.answers["/parts"] = [body("\n".join(names).encode())]
        lines = dict(lines="{to: films/parts}")
        manifest = read_manifest(manifest_of(tmp_path, dict(parts=(f"{server.base}/parts", lines))))
        with Ledger(tmp_path / "data") as ledger:
            tools = Tools(tmp_path / "data", "films", ledger, QUICK)
            entry = manifest.files["parts"]
            more = fetch_file("parts", entry, manifest.hosts_of(entry), tools)
            states = ledger.table("films").set_index("item").state.to_dict()
    assert list(more) == [f"parts/{k}.bin" for k in range(3)]
    assert states == {"parts": "present"} | dict.fromkeys(more, "wanted")


QUOTA = '<p class="uc-error-subcaption">Too many users have viewed or downloaded this file</p>'
ID = "1abcdefghijklmnopqrstuvwxyz_-0123"


@pytest.mark.skipif(not HAVE_OPENSSL, reason="no openssl to make a certificate with")
def test_gdown_against_a_drive_of_our_own(tmp_path):
    """The confirmation page, a dropped line, a quota, a file that is gone, and a folder."""
    dropped, whole = drive_file(DATA, "x.bin", upto=200_000), drive_file(DATA, "x.bin")
    script = [dropped, whole]
    folder = f"""<html><head><title>lvu</title></head><body>
        <a href="https://drive.google.com/file/d/{ID}A/view">features.npz</a>
        <a href="https://drive.google.com/file/d/{ID}B/view">meta.pkl</a></body></html>"""
    drive = {
        f"{ID}0": drive_file(DATA, "features.zip", large=True),
        f"{ID}1": lambda *a: (script.pop(0) if len(script) > 1 else script[0])(*a),
        f"{ID}2": page(QUOTA),
        f"{ID}3": page("<html>gone</html>", 404),
        f"{ID}4": page(folder),
    }
    with Drive(tmp_path, drive) as server:
        way = dict(proxy=server.proxy, verify=str(server.authority))
        for k in "01":
            target, known = tmp_path / f"{k}.bin", dict(sha256=DIGEST, patience=QUICK)
            came = []
            found = fetch_drive(f"{ID}{k}", target, tell=came.append, **known, **way)
            assert found == (len(DATA), DIGEST) and target.read_bytes() == DATA
            assert sum(came) == len(DATA)
        for k, reason in (("2", "quota"), ("3", "refused")):
            with pytest.raises(FetchError) as e:
                fetch_drive(f"{ID}{k}", tmp_path / "none", patience=QUICK, **way)
            assert e.value.reason == reason, e.value
        listed = list_drive_folder(f"{ID}4", patience=QUICK, **way)
    assert listed == {"features.npz": f"{ID}A", "meta.pkl": f"{ID}B"}
    assert not [p for p in tmp_path.iterdir() if "part" in p.name or p.name == "none"]
