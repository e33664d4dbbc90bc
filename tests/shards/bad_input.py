"""Kinds of bad input: how each is made, what its message must name, and what skipping makes of it."""

from __future__ import annotations

import gzip
import io
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from tests.shards.conftest import make_texts, write_jsonl

GOOD = [json.dumps({"text": text}).encode() for text in make_texts(24, seed=5)]


@dataclass(frozen=True, kw_only=True)
class Bad:
    """One kind.

    Attributes:
        id: names it.
        make: makes what is bad in the folder it is given.
        names: what the message under `--on-error stop` must hold.
        inputs: what is converted; beside these there is a good file, `good.jsonl`, which comes first.
        skipped: what the manifest counts under `--on-error skip`; None: that is refused all the same.
        kept: how many of the records of bad files become documents then.
    """

    id: str
    make: Callable[[Path], object]
    names: tuple[str, ...]
    inputs: tuple[str, ...]
    skipped: dict[str, int] | None = None
    kept: int = 0


def line(id: str, bad: bytes, *names: str, kind: str = "not JSON") -> Bad:
    """A bad line 13 among 24 good ones."""
    return Bad(
        id=id,
        make=lambda folder: (folder / "a.jsonl").write_bytes(b"\n".join([*GOOD[:12], bad, *GOOD[12:]]) + b"\n"),
        names=("a.jsonl, line 13: ", *names),
        inputs=("a.jsonl",),
        skipped={kind: 1},
        kept=24,
    )


def content(
    id: str, name: str, data: bytes, *names: str, skipped: dict[str, int] | None = None, kept: int | None = 0
) -> Bad:
    """A file of these bytes."""
    return Bad(
        id=id,
        make=lambda folder: (folder / name).write_bytes(data),
        names=(name, *names),
        inputs=(name,),
        skipped=skipped,
        kept=kept,
    )


def path(id: str, make: Callable[[Path], object], given: str, *names: str) -> Bad:
    """An input that is no file to read at all."""
    return Bad(id=id, make=make, names=names, inputs=(given,))


def flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def parquet(columns: dict[str, pa.Array], **options: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


def bind_socket(folder: Path) -> None:
    before = Path.cwd()
    os.chdir(folder)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("a.jsonl")
    finally:
        os.chdir(before)


TEXTS = pa.array(make_texts(24, seed=6))
PARQUET = parquet({"text": TEXTS}, compression="zstd", row_group_size=8)
LINES = b"\n".join(GOOD) + b"\n"
GZIP, ZSTD = gzip.compress(LINES, mtime=0), zstandard.ZstdCompressor(write_checksum=True).compress(LINES)
TWO = b'{"text": "a"} {"text": "b"}'
DAMAGED, NOTHING = {"damaged source": 1}, {"no records": 1}
WRONG = "wrong columns"

LINE_KINDS = [
    line("no JSON", b'{"text": }', "not valid JSON"),
    line("cut in the middle", b'{"text": "one two', "not valid JSON"),
    line("trailing comma", b'{"text": "a",}', "not valid JSON"),
    line("single quotes", b"{'text': 'a'}", "not valid JSON"),
    line("comment", b'// {"text": "a"}', "not valid JSON"),
    line("no number", b'{"text": "a", "score": NaN}', "not valid JSON"),
    line("two objects on a line", TWO, "not valid JSON"),
    line("bare text", b"one two three", "not valid JSON"),
    line("control character", b'{"text": "a\x01b"}', "not valid JSON"),
    line("NUL bytes", b'{"text": "a\x00b"}', "not valid JSON"),
    line("hole of NUL bytes", b"\x00" * 4096, "not valid JSON"),
    line("deep nesting", b'{"text": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not valid JSON"),
    line("unknown escape", rb'{"text": "\q"}', "not valid JSON"),
    line("lone surrogate escaped", rb'{"text": "a \ud800 b"}', "not valid JSON", "surrogate"),
    line("lone surrogate in bytes", b'{"text": "a \xed\xa0\x80 b"}', "not UTF-8", "0xed", kind="not UTF-8"),
    line("Latin-1", '{"text": "Füße"}'.encode("latin-1"), "not UTF-8", "0xfc", kind="not UTF-8"),
    line("character cut short", b'{"text": "\xe6\xbc"}', "not UTF-8", kind="not UTF-8"),
    line("array", b'[{"text": "a"}]', "a JSON list, not an object", "jq -c", kind="no object"),
    line("text alone", b'"one two"', "a JSON str, not an object", kind="no object"),
    line("number alone", b"17", "a JSON int, not an object", kind="no object"),
    line("null alone", b"null", "not an object", kind="no object"),
    line("without the field", b'{"body": "a"}', "wants the fields text", "body (text)", "--template", kind=WRONG),
    line("field in capitals", b'{"Text": "a"}', "Text (text)", kind=WRONG),
    line("empty object", b"{}", "found: none", kind=WRONG),
    line("list as text", b'{"text": ["a"]}', "text (list)", kind=WRONG),
    line("object as text", b'{"text": {"en": "a"}}', "text (object)", kind=WRONG),
]
FILE_KINDS = [
    content(
        "array over lines",
        "a.json",
        b'[\n{"text": "a"},\n{"text": "b"}\n]\n',
        "line 1",
        "jq -c",
        skipped={"not JSON": 3},
        kept=1,
    ),
    content("object over lines", "a.json", b'{\n"text": "a"\n}\n', "line 1", "not valid JSON", skipped={"not JSON": 3}),
    content("UTF-16", "a.jsonl", LINES.decode().encode("utf-16"), "line 1", "not UTF-8", skipped={}, kept=None),
    content(
        "page of HTML", "a.jsonl", b"<!doctype html>\n<p>404</p>\n", "line 1", "not valid", skipped={"not JSON": 2}
    ),
    content(
        "pointer of git LFS",
        "a.jsonl",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "line 1",
        skipped={"not JSON": 2},
    ),
    content("table", "a.jsonl", b"id,text\n1,a\n", "line 1", "not valid JSON", skipped={"not JSON": 2}),
    content("last line cut", "a.jsonl", LINES[:-9], "line 24", "not valid JSON", skipped={"not JSON": 1}, kept=23),
    content("packed, but not called so", "a.jsonl", GZIP, "line 1", "not UTF-8", skipped={}, kept=None),
    content("Parquet, but not called so", "a.jsonl", PARQUET, "line 1", skipped={}, kept=None),
    content("empty", "a.jsonl", b"", "empty", skipped=NOTHING),
    content("blank lines only", "a.jsonl", b"\n \n\t\r\n\n", "holds no records", skipped=NOTHING),
    content("empty gz", "a.jsonl.gz", b"", "empty", skipped=DAMAGED),
    content("gz of nothing", "a.jsonl.gz", gzip.compress(b"", mtime=0), "holds no records", skipped=NOTHING),
    content("zst of nothing", "a.jsonl.zst", zstandard.compress(b""), "holds no records", skipped=NOTHING),
    content("truncated gz", "a.jsonl.gz", GZIP[:-300], "damaged or truncated", "fetch", skipped=DAMAGED, kept=None),
    content("gz without its end", "a.jsonl.gz", GZIP[:-4], "damaged or truncated", skipped=DAMAGED, kept=None),
    content("corrupt gz", "a.jsonl.gz", flip(GZIP, len(GZIP) // 2), "damaged or truncated", skipped=DAMAGED, kept=None),
    content("gz of a wrong checksum", "a.jsonl.gz", flip(GZIP, len(GZIP) - 6), "damaged", skipped=DAMAGED, kept=None),
    content("gz and something else", "a.jsonl.gz", GZIP + b"something else", "damaged", skipped=DAMAGED, kept=24),
    content("called gz", "a.jsonl.gz", LINES, "damaged or truncated", skipped=DAMAGED),
    content("zst called gz", "a.jsonl.gz", ZSTD, "damaged or truncated", skipped=DAMAGED),
    content("truncated zst", "a.jsonl.zst", ZSTD[:-300], "damaged or truncated", skipped=DAMAGED, kept=None),
    content("corrupt zst", "a.jsonl.zst", flip(ZSTD, len(ZSTD) // 2), "damaged", skipped=DAMAGED, kept=None),
    content("called zst", "a.jsonl.zst", LINES, "damaged or truncated", skipped=DAMAGED),
    content(
        "bad line in a gz",
        "a.jsonl.gz",
        gzip.compress(LINES + b"{\n" + LINES),
        "line 25",
        skipped={"not JSON": 1},
        kept=48,
    ),
    content("empty Parquet", "a.parquet", b"", "empty", skipped=DAMAGED),
    content("called Parquet", "a.parquet", LINES, "no Parquet file", skipped=DAMAGED),
    content("truncated Parquet", "a.parquet", PARQUET[:-40], "no Parquet file", skipped=DAMAGED),
    content("Parquet without an end", "a.parquet", PARQUET[: len(PARQUET) // 2], "no Parquet file", skipped=DAMAGED),
    content(
        "Parquet of a wrong footer",
        "a.parquet",
        PARQUET[:-60] + b"\xff" * 40 + PARQUET[-20:],
        "a.parquet",
        skipped=DAMAGED,
        kept=None,
    ),
    content(
        "Parquet of a wrong page",
        "a.parquet",
        PARQUET[:40] + b"\xff" * 60 + PARQUET[100:],
        "damaged",
        skipped=DAMAGED,
        kept=None,
    ),
    content("Parquet without rows", "a.parquet", parquet({"text": TEXTS[:0]}), "holds no records", skipped=NOTHING),
    content(
        "Parquet without the column",
        "a.parquet",
        parquet({"body": TEXTS}),
        "row 1",
        "wants the fields text",
        skipped={WRONG: 24},
    ),
    content(
        "list in Parquet",
        "a.parquet",
        parquet({"text": pa.array([["a"], ["b"]])}),
        "row 1",
        "text (list)",
        skipped={WRONG: 2},
    ),
    content("unknown ending", "a.csv", b"text\n", "unknown ending", ".jsonl.zst"),
    content("other packing", "a.jsonl.bz2", b"BZh", "unknown ending", "rename or convert"),
]
PATH_KINDS = [
    path("nothing there", lambda f: None, "a.jsonl", "a.jsonl does not exist"),
    path("glob without match", lambda f: None, "*.parquet", "matches no file"),
    path("folder without input", lambda f: (f / "d").mkdir(), "d", "d holds no file ending in"),
    path("folder of other files", lambda f: ((f / "d").mkdir(), (f / "d/x.txt").touch()), "d", "d holds no file"),
    path("the same twice", lambda f: None, "./good.jsonl", "is given twice"),
    path("the same by a link", lambda f: (f / "a.jsonl").symlink_to("good.jsonl"), "a.jsonl", "is given twice"),
    path("link to nothing", lambda f: (f / "a.jsonl").symlink_to("nowhere"), "a.jsonl", "a.jsonl"),
    path(
        "links in a ring",
        lambda f: ((f / "a.jsonl").symlink_to("b.jsonl"), (f / "b.jsonl").symlink_to("a.jsonl")),
        "a.jsonl",
        "a.jsonl",
    ),
    path("FIFO", lambda f: os.mkfifo(f / "a.jsonl"), "a.jsonl", "a.jsonl"),
    path("socket", bind_socket, "a.jsonl", "a.jsonl"),
    path("device", lambda f: None, "/dev/null", "/dev/null"),
    path("name of NUL", lambda f: None, "a\0.jsonl", "does not exist"),
    path("name too long", lambda f: None, "a" * 300 + ".jsonl", "File name too long", "check the path"),
]
KINDS = [*LINE_KINDS, *FILE_KINDS, *PATH_KINDS]


def prepare(bad: Bad, folder: Path) -> None:
    """The good file, and what is bad."""
    folder.mkdir(exist_ok=True)
    write_jsonl(folder / "good.jsonl", make_texts(30, seed=4))
    bad.make(folder)
