"""The document index against lists: every sample's documents and every document's samples, in order."""

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixer.documents import DocumentIndex, open_documents
from mixer.errors import CorpusError
from shards.documents import DocumentsWriter, Piece, join


@dataclass
class Model:
    """A corpus as plain lists. `sources`: of each document its record and its tokens. `stream`: (document, token).

    Each source is one unit, or two: the records up to `cut` and those behind.
    """

    sources: list[list[tuple[int, int]]]
    seq_len: int
    rows_per_shard: int
    cut: int = 0

    def __post_init__(self) -> None:
        self.documents = [(s, *pair) for s, pairs in enumerate(self.sources) for pair in pairs]
        own, rests, number = [], [], 0
        self.own_tokens = []
        self.units = [
            (source, before, [pair for pair in pairs if first <= pair[0] < end])
            for source, pairs in enumerate(self.sources)
            for before, first, end in (
                [(0, 0, self.cut + 1), (self.cut, self.cut + 1, 10**9)] if self.cut else [(0, 0, 10**9)]
            )
        ]
        for _, _, pairs in self.units:
            tokens = []
            for _, length in pairs:
                tokens += [(number, token) for token in range(length)]
                number += 1
            shard = self.seq_len * self.rows_per_shard
            self.own_tokens.append(len(tokens) // shard * shard)
            own += tokens[: self.own_tokens[-1]]
            rests += tokens[self.own_tokens[-1] :]
        self.stream = own + rests
        starts = range(0, len(self.stream) - self.seq_len + 1, self.seq_len)
        self.rows = [self.stream[start : start + self.seq_len] for start in starts]

    def write(self, folder: Path, block_documents: int) -> DocumentIndex:
        pieces = []
        for number, (source, before, pairs) in enumerate(self.units):
            writer = DocumentsWriter(block_documents)
            for cut in (pairs[:3], pairs[3:]):
                writer.add([record - before for record, _ in cut], np.array([length for _, length in cut], np.int64))
            path = folder / f"{number}.piece"
            path.write_bytes(b"".join(writer.finish()))
            pieces.append(Piece(path, self.own_tokens[number], source, before))
        (folder / "documents.bin").write_bytes(b"".join(join(pieces)))
        manifest = {
            "sources": [{"path": f"in/{number}.jsonl"} for number in range(len(self.sources))],
            "documents": len(self.documents),
            "tokens": len(self.stream),
            "samples": len(self.rows),
            "parameters": {"seq_len": self.seq_len},
            "documents_sha256": "0" * 64,
        }
        (folder / "corpus.json").write_text(json.dumps(manifest))
        return open_documents(folder)

    def samples_with(self, numbers: set[int]) -> list[int]:
        return [i for i, row in enumerate(self.rows) if any(number in numbers for number, _ in row)]


def numbers_in(ranges: list[tuple[int, int]]) -> list[int]:
    """What half-open ranges hold; they ascend and do not touch."""
    assert all(start < end for start, end in ranges)
    assert all(before[1] < after[0] for before, after in pairwise(ranges))
    return [number for start, end in ranges for number in range(start, end)]


LENGTHS = st.one_of(st.integers(1, 5), st.integers(1, 40))
SOURCES = st.lists(st.lists(st.tuples(st.integers(1, 4), LENGTHS), max_size=12), min_size=1, max_size=5)


@st.composite
def models(draw: st.DrawFn) -> Model:
    gaps = draw(SOURCES)
    sources = [
        list(zip(np.cumsum([gap for gap, _ in pairs]).tolist(), [length for _, length in pairs], strict=True))
        for pairs in gaps
    ]
    numbers = {name: draw(st.integers(1, most)) for name, most in (("seq_len", 9), ("rows_per_shard", 3))}
    return Model(sources, cut=draw(st.integers(0, 30)), **numbers)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(models(), st.integers(1, 4))
def test_the_first_form_says_the_same(tmp_path: Path, model: Model, block_documents: int) -> None:
    """As earlier versions wrote it: no units, and full blocks."""
    model = Model(model.sources, seq_len=model.seq_len, rows_per_shard=model.rows_per_shard)
    new = model.write(tmp_path, block_documents)
    data, num_units = (tmp_path / "documents.bin").read_bytes(), len(model.sources)
    units = np.frombuffer(data, "<i8", 4 * num_units, 24).reshape(-1, 4)
    start = 24 + units.nbytes
    blocks = np.frombuffer(data, "<i8", 5 * int(units[:, 2].sum()), start).reshape(-1, 5)
    own = [(len(pairs), own_tokens) for pairs, own_tokens in zip(model.sources, model.own_tokens, strict=True)]
    tables = [[num_units, block_documents], own, blocks[:, :3]]
    old = b"swpdocs1" + b"".join(np.array(table, "<i8").tobytes() for table in tables) + data[start + blocks.nbytes :]
    (tmp_path / "documents.bin").unlink()
    (tmp_path / "documents.bin").write_bytes(old)
    index = open_documents(tmp_path)
    for number in range(len(model.documents)):
        assert index.document(number) == new.document(number)
    for sample_id in range(len(model.rows)):
        assert index.in_sample(sample_id) == new.in_sample(sample_id)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(models(), st.integers(1, 4))
def test_like_the_lists(tmp_path: Path, model: Model, block_documents: int) -> None:
    index = model.write(tmp_path, block_documents)
    assert (index.num_documents, index.num_samples) == (len(model.documents), len(model.rows))
    assert index.num_bytes == (tmp_path / "documents.bin").stat().st_size
    for number, (source, record, length) in enumerate(model.documents):
        document = index.document(number)
        assert (document.number, document.source, document.record) == (number, f"in/{source}.jsonl", record)
        places = [token for start, end in document.spans for token in range(start, end)]
        assert [model.stream[place] for place in places] == [(number, token) for token in range(length)]
        assert document.num_tokens == length
        assert document.num_dropped == sum(place >= len(model.rows) * model.seq_len for place in places)
        assert numbers_in(index.samples_of(document)) == model.samples_with({number})
        assert index.find(source, record) == index.find(f"{source}.jsonl", record) == document
    for sample_id, row in enumerate(model.rows):
        found = [
            (passage.document.number, passage.offset + token - passage.start)
            for passage in index.in_sample(sample_id)
            for token in range(passage.start, passage.end)
        ]
        assert found == row
        assert all(
            passage.document == index.document(passage.document.number) for passage in index.in_sample(sample_id)
        )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(models(), st.integers(1, 4), st.integers(0, 50), st.integers(0, 50))
def test_spans_of_records_and_ends_of_documents(
    tmp_path: Path, model: Model, block_documents: int, start: int, length: int
) -> None:
    index = model.write(tmp_path, block_documents)
    for source, pairs in enumerate(model.sources):
        records = {record for record, _ in pairs}
        for record in range(max(records, default=0) + 2):
            assert (index.find(source, record) is None) == (record not in records)
        inside = {
            number
            for number, (other, record, _) in enumerate(model.documents)
            if other == source and start <= record < start + length
        }
        assert numbers_in(index.samples_of_span(source, start, start + length)) == model.samples_with(inside)
    first, last = min(start, len(model.rows)), min(start + length, len(model.rows))
    ends = [
        place
        for place in range(first * model.seq_len, last * model.seq_len)
        if model.stream[place][1] == model.documents[model.stream[place][0]][2] - 1
    ]
    assert index.ends_in(first, last).tolist() == ends


def test_a_document_cut_between_the_shards_of_its_source_and_the_rest(tmp_path: Path) -> None:
    # Two rows of 4 a shard. Source 0 has 10 tokens, source 1 has 11: shards of their own for 8 each, then 2 and 3.
    model = Model([[(1, 5), (4, 5)], [(2, 6), (3, 5)]], seq_len=4, rows_per_shard=2)
    index = model.write(tmp_path, 4096)
    assert index.find(0, 4).spans == ((5, 8), (16, 18))
    assert index.samples_of(index.find("0.jsonl", 4)) == [(1, 2), (4, 5)]
    assert index.find(1, 3).spans == ((14, 16), (18, 21))
    assert index.find(1, 3).num_dropped == 1
    assert index.samples_of_span("1.jsonl", 2, 4) == [(2, 5)]
    row = [(p.document.source, p.document.record, p.start, p.end, p.offset) for p in index.in_sample(4)]
    assert row == [("in/0.jsonl", 4, 0, 2, 3), ("in/1.jsonl", 3, 2, 4, 2)]


def test_a_document_of_dropped_tokens_alone_is_in_no_sample(tmp_path: Path) -> None:
    index = Model([[(1, 4), (2, 3)]], seq_len=4, rows_per_shard=1).write(tmp_path, 4096)
    assert index.find(0, 2).num_dropped == index.find(0, 2).num_tokens == 3
    assert index.samples_of(index.find(0, 2)) == []


@pytest.fixture
def index(tmp_path: Path) -> DocumentIndex:
    return Model([[(1, 4), (3, 7)], [(1, 9)]], seq_len=4, rows_per_shard=1).write(tmp_path, 1)


def test_sources_are_named_in_three_ways(index: DocumentIndex, tmp_path: Path) -> None:
    path = tmp_path / "corpus.json"
    manifest = json.loads(path.read_text())
    manifest["sources"] = [{"path": "data/a/x.jsonl"}, {"path": "data/b/x.jsonl"}]
    path.write_text(json.dumps(manifest))
    index = open_documents(tmp_path)
    assert index.sources == ("data/a/x.jsonl", "data/b/x.jsonl")
    for name in (1, "b/x.jsonl", "data/b/x.jsonl"):
        assert index.find(name, 1).number == 2
    for name, message in [
        ("x.jsonl", "data/a/x.jsonl, data/b/x.jsonl; 'x.jsonl' fits several, write more of the path"),
        (".jsonl", "'.jsonl' is none of them"),
        (2, "knows sources 0 to 1, not 2"),
    ]:
        with pytest.raises(CorpusError, match=message):
            index.find(name, 1)


def test_what_is_not_there(index: DocumentIndex) -> None:
    for sample_id in (-1, 5):
        with pytest.raises(CorpusError, match=f"knows 5 samples, counted from 0; there is no {sample_id}"):
            index.in_sample(sample_id)
    with pytest.raises(CorpusError, match="there is no 7"):
        index.ends_in(2, 8)
    for number in (-1, 3):
        with pytest.raises(CorpusError, match=f"has 3 documents, counted from 0; there is no {number}"):
            index.document(number)


def test_a_split_of_an_earlier_version_says_so(index: DocumentIndex, tmp_path: Path) -> None:
    path = tmp_path / "corpus.json"
    manifest = json.loads(path.read_text())
    del manifest["documents_sha256"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(CorpusError, match="has no document index: an earlier version made it; convert it again"):
        open_documents(tmp_path)
    path.write_text("[]")
    with pytest.raises(CorpusError, match="cannot be read"):
        open_documents(tmp_path)
    path.unlink()
    with pytest.raises(CorpusError, match=r"has no corpus\.json"):
        open_documents(tmp_path)


def test_a_damaged_index_is_refused(index: DocumentIndex, tmp_path: Path) -> None:
    path = tmp_path / "documents.bin"
    good = path.read_bytes()
    for bad, message in [
        (b"", "cannot be read"),
        (b"x" + good[1:], "is no index of the 2 sources"),
        (good[:8] + bytes([3]) + good[9:], "is no index of the 2 sources|ends within its tables"),
        (good[:60], "ends within its tables, after 60 bytes"),
        (good[:-1], r"bytes, found \d+: truncated, or of another corpus"),
        (good[:16] + bytes([2]) + good[17:], "is no index of the 2 sources"),
        (good[:24] + bytes([1]) + good[25:], "is no index of the 2 sources"),
        (good[:40] + bytes([1]) + good[41:], "truncated, or of another corpus|ends within"),
    ]:
        path.unlink()  # the old one stays mapped
        path.write_bytes(bad)
        with pytest.raises(CorpusError, match=message):
            open_documents(tmp_path)
    path.unlink()
    with pytest.raises(CorpusError, match="cannot be read"):
        open_documents(tmp_path)


def test_opening_and_asking_read_little(tmp_path: Path) -> None:
    """Of 200,000 documents, opening decodes none, and a lookup the few blocks that it touches."""
    rng = np.random.default_rng(0)
    lengths, records = rng.geometric(1 / 300, 200_000), np.cumsum(rng.integers(1, 3, 200_000))
    index = Model([[(1, 1)]], seq_len=1, rows_per_shard=1).write(tmp_path, 1)
    writer = DocumentsWriter()
    writer.add(records, lengths)
    (tmp_path / "0.piece").write_bytes(b"".join(writer.finish()))
    (tmp_path / "documents.bin").unlink()
    (tmp_path / "documents.bin").write_bytes(b"".join(join([Piece(tmp_path / "0.piece", 0)])))
    manifest = {"sources": [{"path": "a"}], "documents": 200_000, "tokens": int(lengths.sum())}
    manifest |= {"samples": int(lengths.sum()) // 2048, "parameters": {"seq_len": 2048}, "documents_sha256": "0"}
    (tmp_path / "corpus.json").write_text(json.dumps(manifest))
    index = open_documents(tmp_path)
    assert index.num_bytes < 1.5 * 200_000
    blocks = lambda: index._block.cache_info().misses  # noqa: E731
    assert blocks() == 0
    document = index.find(0, int(records[123_456]))
    assert (document.number, document.num_tokens, blocks()) == (123_456, lengths[123_456], 1)
    assert document in [passage.document for passage in index.in_sample(index.samples_of(document)[0][0])]
    assert blocks() == 1
    index.samples_of_span(0, 1, int(records[-1]))
    assert blocks() <= 4


def test_answers_are_plain_values(index: DocumentIndex) -> None:
    (passage,) = index.in_sample(0)
    document = {"number": 0, "source": "in/0.jsonl", "record": 1, "spans": [[0, 4]], "num_dropped": 0}
    assert json.loads(json.dumps(asdict(passage))) == {"document": document, "start": 0, "end": 4, "offset": 0}
    assert json.dumps(index.samples_of_span(0, 1, 4)) == "[[0, 2], [4, 5]]"
