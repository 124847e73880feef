"""What strangers may send: refused in one line, nothing outside the folder, nothing executed."""

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from servers import Served, body, status

from hiermovie.base import InputError, read_json, read_pickle, read_table, read_tensors
from hiermovie.data import (
    FetchError,
    Ledger,
    Limits,
    Patience,
    Tools,
    fetch_files,
    fetch_url,
    piece_of,
    read_manifest,
    unpack,
)
from hiermovie.minimovies import write_video
from hiermovie.video import index_video


def zipped(path, members, **kw):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as box:
        for name, data in members.items():
            box.writestr(name, data)
    return path


def tarred(path, *members):
    with tarfile.open(path, "w:gz") as box:
        for name, kind, link, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(data)
            box.addfile(info, io.BytesIO(data))
    return path


def nested_bomb(path):
    """A bomb in an archive: unpacked once, it is one small file."""
    inner = zipped(path.with_suffix(".inner"), {"zeros": bytes(1 << 24)})
    return zipped(path, {"inner.zip": inner.read_bytes()} | {"zeros": bytes(1 << 24)})


F, D, L, H = tarfile.REGTYPE, tarfile.CHRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
ARCHIVES = {
    "traversal": lambda p: zipped(p, {"ok": b"", "../../outside": b"x"}),
    "traversal, tar": lambda p: tarred(p, ("a/../../outside", F, "", b"x")),
    "absolute path": lambda p: tarred(p, ("/outside", F, "", b"x")),
    "drive letter": lambda p: zipped(p, {"c:/outside": b"x"}),
    "backslashes": lambda p: zipped(p, {"..\\..\\outside": b"x"}),
    "symbolic link": lambda p: tarred(p, ("l", L, "/etc", b""), ("l/x", F, "", b"x")),
    "link inside": lambda p: tarred(p, ("a", F, "", b"x"), ("l", L, "a", b"")),
    "hard link": lambda p: tarred(p, ("l", H, "/etc/passwd", b"")),
    "device": lambda p: tarred(p, ("null", D, "", b"")),
    "pipe": lambda p: tarred(p, ("p", tarfile.FIFOTYPE, "", b"")),
    "bomb": lambda p: zipped(p, {"zeros": bytes(1 << 24)}),
    "nested bomb": nested_bomb,
    "many files": lambda p: zipped(p, {f"{k}": b"" for k in range(2000)}),
    "two cases": lambda p: zipped(p, {"Film.mp4": b"x", "film.mp4": b"y"}),
    "a file that is a folder": lambda p: tarred(p, ("a", F, "", b"x"), ("a/b", F, "", b"x")),
    "line break": lambda p: tarred(p, ("a\nb", F, "", b"x")),
    "right-to-left mark": lambda p: zipped(p, {"film\u202e4pm.exe": b"x"}),
    "no archive": lambda p: p.write_bytes(b"PK\x03\x04 and no more") and p,
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives(kind, tmp_path):
    inside = tmp_path / "inside/folder"
    inside.mkdir(parents=True)
    (inside / "mine").write_text("years of work")
    archive = ARCHIVES[kind](tmp_path / "archive")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as e:
        unpack(archive, inside, Limits(files=1000, free=1 << 20))
    assert "\n" not in str(e.value) and str(archive) in str(e.value)
    assert sorted(tmp_path.rglob("*")) == before


class Code:
    """A pickle that runs a command when it is loaded by Python's own reader."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def deep(path):
    path.write_text("[" * 100_000 + "]" * 100_000)


def million_columns(path):
    path.write_text(",".join(f"c{k}" for k in range(1_000_000)) + "\n" + "1," * 999_999 + "1\n")


def absurd_header(path):
    path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")


def absurd_box(path):
    path.write_bytes(struct.pack(">I", 1) + b"ftyp" + struct.pack(">Q", 1 << 62) + bytes(1000))


FILES = {
    "a pickle with code": (lambda p: p.write_bytes(pickle.dumps(Code(f"{p}.run"))), read_pickle),
    "deep JSON": (deep, read_json),
    "a name twice in JSON": (lambda p: p.write_text('{"a": 1, "a": 2}'), read_json),
    "a million columns": (million_columns, read_table),
    "safetensors with an absurd header": (absurd_header, read_tensors),
    "mp4 with an absurd box": (absurd_box, index_video),
}


@pytest.mark.parametrize("kind", FILES)
def test_files(kind, tmp_path):
    make, read = FILES[kind]
    path = tmp_path / "file"
    make(path)
    with pytest.raises(InputError) as e:
        read(path)
    assert "\n" not in str(e.value) and str(path) in str(e.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_mp4_that_lies_about_its_duration(tmp_path):
    """The header says hours; how long a film is, is counted from its packets."""
    write_video(tmp_path / "a.mp4", np.zeros((16, 32, 32, 3), np.uint8), 8)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    for box in (b"mvhd", b"tkhd", b"mdhd"):
        at = data.index(box) + 4
        place = at + (20 if box == b"tkhd" else 16)
        data[place : place + 4] = struct.pack(">I", 1 << 31)
    (tmp_path / "lies.mp4").write_bytes(data)
    assert index_video(tmp_path / "lies.mp4").duration == pytest.approx(2.0)


def test_redirections_to_files_and_strangers(tmp_path):
    away = {
        "/file": [status(302, Location="file:///etc/passwd")],
        "/ftp": [status(302, Location="ftp://127.0.0.1/x")],
        "/stranger": [status(302, Location="http://localhost:1/x")],
        "/round": [status(302, Location="/round")],
    }
    with Served(away) as server:
        for path in away:
            with pytest.raises(FetchError) as e:
                fetch_url(f"{server.base}{path}", tmp_path / "x", patience=Patience(tries=0))
            assert e.value.reason == "refused"
    assert list(tmp_path.iterdir()) == []


MANIFEST = """
data_set: films
about: a test
licence: none
terms: none
files:
  parts:
    to: films/parts.txt
    sources: [{{url: "{base}/parts.txt"}}]
    lines: {{to: films/archives, unpack: films/videos}}
    licence: none
    found_in: here
    found: "2026-11-27"
"""


@pytest.mark.parametrize(
    "line",
    ["file:///etc/passwd", "http://localhost:1/x.zip", "{base}/..", "{base}/a\u202eb.zip", "x"],
)
def test_a_list_of_addresses_names_other_places(line, tmp_path):
    with Served({}) as server:
        text = line.format(base=server.base)
        server.answers["/parts.txt"] = [body(text.encode())]
        (tmp_path / "films.yaml").write_text(MANIFEST.format(base=server.base))
        manifest = read_manifest(tmp_path / "films.yaml")
        with Ledger(tmp_path / "data") as ledger:
            tools = Tools(tmp_path / "data", "films", ledger, Patience(tries=0))
            fetch_files(manifest, tools)
            (row,) = ledger.table("films").itertuples()
    assert (row.state, row.reason) == ("missing", "broken") and "line 1" in row.note
    assert [path for path, _ in server.asked] == ["/parts.txt"]


@pytest.mark.parametrize("to", ["../x", "/etc/x", "a/../../x", "a\\..\\x", "c:x", "a\nb", ""])
def test_a_manifest_may_not_write_elsewhere(to, tmp_path):
    text = MANIFEST.format(base="http://a.org").replace("films/parts.txt", "@")
    (tmp_path / "films.yaml").write_text(text.replace("to: @", f"to: {json.dumps(to)}"))
    with pytest.raises(InputError, match="must be a path below the data folder"):
        read_manifest(tmp_path / "films.yaml")


@pytest.mark.parametrize(
    "name", ["../x", "v_../../x_seg_0_10", "a b", "a\nb", "v_a\u202eb_seg_0_10"]
)
def test_names_of_videos(name):
    with pytest.raises(InputError) as e:
        piece_of(name)
    assert "\n" not in str(e.value)
