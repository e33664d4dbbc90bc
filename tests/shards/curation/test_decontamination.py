"""Decontamination, against brute-force n-gram sets and the textbook's longest common subsequence."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.curation.decontamination import SHARE, Decontamination, Finder
from shards.curation.evaluation_sets import EvaluationSet, Item
from shards.curation.settings import Section
from shards.errors import CallError, RecordError, SourceError
from tests.shards.curation.conftest import VOCABULARY, make_batch, make_documents, read_texts
from tests.shards.curation.oracles import lcs, ngrams_of, words_of

Make = Callable[..., Decontamination]


def items_of(texts: list[str]) -> list[Item]:
    return [Item("eval.jsonl", number, text) for number, text in enumerate(texts, 1)]


@pytest.fixture
def make_step(tmp_path: Path) -> Make:
    def make(questions: list[str], **settings: object) -> Decontamination:
        path = tmp_path / "eval.jsonl"
        path.write_text("".join(json.dumps({"question": q, "answer": "42"}) + "\n" for q in questions))
        data = {"against": [{"path": str(path), "template": "{question}"}], **settings}
        return Decontamination.parse(Section(data, "c"), "decontaminate")

    return make


def shared(document: str, item: str, n: int) -> bool:
    length = min(n, len(words_of(item)))
    return bool(length) and bool(set(ngrams_of(document, length)) & set(ngrams_of(item, length)))


SOME_WORDS = st.lists(st.sampled_from("abcd"), max_size=25).map(" ".join)


@given(st.lists(SOME_WORDS, max_size=5), st.lists(SOME_WORDS, max_size=6), st.integers(2, 6), st.integers(1, 4))
def test_pairs_that_share_an_ngram_are_those_of_brute_force(
    documents: list[str], items: list[str], n: int, shortest: int
) -> None:
    found = Finder(items_of(items), ngram=n, shortest=shortest).find(make_batch(documents))
    expected = {
        (number, index + 1)
        for number, document in enumerate(documents)
        for index, item in enumerate(items)
        if len(words_of(item)) >= shortest and shared(document, item, n)
    }
    assert {(finding.text, finding.item.record) for finding in found} == expected
    for finding in found:
        assert shared(documents[finding.text], finding.ngram, n)
        wanted, words = words_of(finding.item.text), words_of(documents[finding.text])
        assert min(n, len(wanted)) / len(wanted) <= finding.share <= lcs(wanted, words) / len(wanted)


def test_the_share_is_that_of_the_passage_where_the_item_would_lie() -> None:
    item = VOCABULARY[:60]
    passage = [*item[:20], *VOCABULARY[100:110], *item[20:45]]  # something put in, the end left out
    noise = VOCABULARY[200:] * 5
    document = " ".join([*noise, *passage, *noise, *item[45:]])  # the end is elsewhere: that does not count
    (found,) = Finder(items_of([" ".join(item)])).find(make_batch([document]))
    assert found.share == 45 / 60 == lcs(item, passage) / 60
    assert found.ngram == " ".join(item[:13])


def test_planted_items_are_found_and_nothing_else(make_step: Make) -> None:
    questions = make_documents(50, seed=1, shortest=20, longest=60)
    documents = make_documents(300, seed=2)
    rng = random.Random(3)
    for number in range(0, 40):
        words = documents[number].split()
        place = rng.randrange(len(words))
        documents[number] = " ".join([*words[:place], questions[number].upper(), *words[place:]])
    judge = make_step(questions).start()
    verdict = judge.judge(make_batch(documents))
    assert verdict.tolist() == [0] * 40 + [-1] * 260
    lines = judge.take_report()
    assert [(line["record"], line["item_record"]) for line in lines] == [(n, n) for n in range(1, 41)]
    assert all(line["removed"] and line["share"] == 1 for line in lines)
    assert judge.take_report() == []


def test_a_shared_phrase_alone_removes_nothing_but_is_told(make_step: Make) -> None:
    phrase = "which of the following is the most likely to be the main reason for"
    question = f"{phrase} {' '.join(VOCABULARY[:20])}"
    document = f"{' '.join(VOCABULARY[100:130])} {phrase} {' '.join(VOCABULARY[150:180])}"
    judge = make_step([question]).start()
    assert judge.judge(make_batch([document])).tolist() == [-1]
    (line,) = judge.take_report()
    assert line["removed"] is False
    assert line["share"] == round(14 / 34, 4) < SHARE
    assert make_step([question], share=14 / 34).start().judge(make_batch([document])).tolist() == [0]


def test_a_short_item_is_looked_for_whole(make_step: Make) -> None:
    step = make_step(["who wrote the great novel", "what is it", " ".join(VOCABULARY[:30])])
    texts = ["He asked: who wrote the Great Novel?", "who wrote the novel", "what is it that you want from me"]
    assert step.start().judge(make_batch(texts)).tolist() == [0, -1, -1]


def test_items_that_are_all_too_short_are_refused(make_step: Make) -> None:
    with pytest.raises(CallError, match="no test item has 5 words"):
        make_step(["what is it"]).start()


def test_the_prompt_is_the_item_where_the_template_marks_one(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps({"question": "How many?", "answer": "Two"}) + "\n")
    for part, text in (("prompt", "How many?\n\n"), ("whole", "How many?\n\nTwo")):
        one = EvaluationSet.parse({"path": str(path), "template": "gsm8k", "part": part}, "c")
        assert [item.text for item in one.items()] == [text]
    own = EvaluationSet.parse({"path": str(path), "template": "Q: {question} A: {answer}"}, "c")
    assert own.items() == [Item(str(path), 1, "Q: How many? A: Two")]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"path": "nowhere.jsonl"}, r"c: nowhere\.jsonl does not exist"),
        ({"template": "text"}, r"c\.path is missing"),
        ({"path": "test.jsonl", "template": "poems"}, r"c\.template: unknown template 'poems'"),
        ({"path": "test.jsonl", "template": "{"}, r"c\.template must name fields in braces"),
        ({"path": "test.jsonl", "part": "half"}, r"c\.part must be prompt or whole, not 'half'"),
        ({"path": "test.jsonl", "parts": "half"}, r"c\.parts is not known; known here: path, template, part"),
    ],
)
def test_wrong_sets_are_refused(entry: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("test.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(CallError, match=message):
        EvaluationSet.parse(entry, "c")


def test_a_set_that_cannot_be_read_is_told_with_its_record(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text('{"text": "x"}\n{"body": "y"}\n')
    with pytest.raises(RecordError, match=r"test\.jsonl, record 2: template 'text' wants"):
        EvaluationSet.parse(str(path), "c").items()
    path.write_text('{"text": "x"}\n{"bo')
    with pytest.raises((RecordError, SourceError), match=r"test\.jsonl, line 2"):
        EvaluationSet.parse(str(path), "c").items()


def test_parameters_change_with_the_set(make_step: Make) -> None:
    first = make_step(["one two three four five six"]).parameters()
    again = make_step(["one two three four five six"]).parameters()
    assert first == again
    assert set(first["against"][0]) == {"file", "sha256", "template", "part"}


def gsm8k(sample_data: Path) -> Decontamination:
    against = [{"path": str(sample_data / "gsm8k" / "test.jsonl"), "template": "gsm8k"}]
    return Decontamination.parse(Section({"against": against}, "c"), "decontaminate")


def test_gsm8k_questions_planted_in_c4_are_found_and_nothing_else(sample_data: Path) -> None:
    texts = read_texts(sample_data / "c4" / "c4-train.00000-of-00003.json.gz", "text")
    questions = read_texts(sample_data / "gsm8k" / "test.jsonl", "question")
    rng = random.Random(7)
    for number in range(200):
        place = rng.randrange(len(texts[number]))
        texts[number] = f"{texts[number][:place]}\n{questions[number]}\n{texts[number][place:]}"
    judge = gsm8k(sample_data).start()
    assert judge.judge(make_batch(texts)).tolist() == [0] * 200 + [-1] * (len(texts) - 200)


def test_metamath_rewrites_gsm8k_and_gsm8k_train_does_not(sample_data: Path) -> None:
    """Backward questions are test questions with a number asked for: all but those shorter than the rewriting go."""
    judge = gsm8k(sample_data).start()
    backward = read_texts(sample_data / "math" / "metamath_gsm8k_backward.jsonl.gz", "question")
    removed = [verdict == 0 for verdict in judge.judge(make_batch(backward))]
    assert (sum(removed), len(removed)) == (1231, 1270)
    judge.take_report()
    train = read_texts(sample_data / "gsm8k" / "train.jsonl", "question")
    assert sum(judge.judge(make_batch(train)) == 0) == 3  # word for word but for a name or a number
    assert [line["share"] for line in judge.take_report() if not line["removed"]] == [pytest.approx(0.54, abs=0.01)]
