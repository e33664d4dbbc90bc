"""What checkpoints are called, and which of them go."""

import pytest

from trainer.checkpoints.names import Name, superseded

NAMES = ["step-00000040.pt", "step-00000040-switchpoint.pt", "step-00000040", "step-123456789-switchpoint"]


@pytest.mark.parametrize("text", NAMES)
def test_a_name_is_what_it_was_made_from(text: str) -> None:
    assert str(Name.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["step-40.pt", "step-00000040.tmp", "step-00000040.pt.tmp", "step-x.pt", "ledger.jsonl"]
)
def test_other_files_are_none(text: str) -> None:
    assert Name.parse(text) is None


@pytest.mark.parametrize(
    ("num_to_keep", "gone"), [(-1, []), (0, [4, 8]), (1, [4, 8]), (2, [4]), (3, []), (9, [])], ids=str
)
def test_the_newest_stay_and_those_at_switchpoints(num_to_keep: int, gone: list[int]) -> None:
    names = [Name(12, False, False), Name(4, False, False), Name(6, True, False), Name(8, False, True)]
    assert [name.step for name in superseded(names, num_to_keep)] == gone
