"""Packed documents: each is read as if it stood alone, where attention is to end at its borders."""

from itertools import pairwise

import pytest
import torch

from tests.trainer.context.models import CONFIGS, tiny, tokens_of
from trainer.context.documents import document_of, logits_within_documents, positions_in, sees
from trainer.models.attention import SDPA_CAUSAL, register

END = 0
ENDS = ((4, 11, 12, 23), (0, 31), ())  # places of ends in rows of 32: an empty document, one that fills the row


def packed() -> torch.Tensor:
    rows = tokens_of(len(ENDS), 32)
    for row, ends in enumerate(ENDS):
        rows[row, list(ends)] = END
    return rows


def documents_in(row: torch.Tensor) -> list[slice]:
    ends = (row == END).nonzero().flatten().tolist()
    borders = [0, *(end + 1 for end in ends), len(row)]
    return [slice(a, b) for a, b in pairwise(borders) if a < b]


def test_borders_by_hand() -> None:
    documents = document_of(torch.tensor([[7, 0, 5, 5, 0, 0, 9]]), END)
    assert documents.tolist() == [[0, 0, 1, 1, 1, 2, 3]]
    assert positions_in(documents).tolist() == [[0, 1, 0, 1, 2, 0, 0]]
    assert sees(documents)[0, 0, 3].tolist() == [False, False, True, True, False, False, False]
    assert sees(documents)[0, 0, 5].tolist() == [False] * 5 + [True, False]


@pytest.mark.parametrize("attention", ["eager", "sdpa", SDPA_CAUSAL])
@pytest.mark.parametrize("family", CONFIGS)
def test_logits_of_each_document_are_those_of_it_alone(family: str, attention: str) -> None:
    register()
    model, rows = tiny(family, attention=attention), packed()
    with torch.no_grad():
        within = logits_within_documents(model, rows, END)
        across = model(input_ids=rows, use_cache=False).logits
        for row, logits in zip(rows, within, strict=True):
            for part in documents_in(row):
                alone = model(input_ids=row[None, part], use_cache=False).logits[0]
                torch.testing.assert_close(logits[part], alone, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(within[0, 5:], across[0, 5:], atol=1e-2)
    torch.testing.assert_close(within[0, :5], across[0, :5], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(within[2], across[2], rtol=1e-5, atol=1e-5)  # one document


def test_rows_laid_end_to_end_are_the_same() -> None:
    """As flash attention takes them, which is not here; the mask is what it finds by the positions."""
    model, rows = tiny("neox"), packed()
    with torch.no_grad():
        masked = logits_within_documents(model, rows, END)
        documents = document_of(rows, END)
        whole = document_of(rows.reshape(1, -1), END)
        borders = (torch.arange(rows.numel()) // 32)[None]
        mask = sees(whole + borders * rows.numel())
        positions = positions_in(documents).reshape(1, -1)
        flat = model(input_ids=rows.reshape(1, -1), position_ids=positions, attention_mask=mask, use_cache=False).logits
    torch.testing.assert_close(flat.view(masked.shape), masked, rtol=1e-5, atol=1e-5)


def test_flash_attention_is_given_one_row_and_its_positions() -> None:
    seen = {}

    class Flash(torch.nn.Module):
        class config:
            _attn_implementation = "flash_attention_2"

        def forward(self, **given: torch.Tensor) -> object:
            seen.update(given)
            ids = given["input_ids"]
            return type("Output", (), {"logits": torch.nn.functional.one_hot(ids, 96)})

    rows = packed()
    logits = logits_within_documents(Flash(), rows, END)
    assert torch.equal(logits.argmax(-1), rows)
    assert seen["input_ids"].shape == seen["position_ids"].shape == (1, 96)
    assert seen["position_ids"][0, :7].tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert seen["position_ids"][0, 32:35].tolist() == [0, 0, 1]
    assert "attention_mask" not in seen
