"""One stretch of constant weights: counting, picking and inverting say the same, from any errors carried in."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.apportion import MAX_HEAD, Stretch
from mixer.weights import UNIT
from tests.oracles import SlowDraws


@st.composite
def stretches(draw: st.DrawFn) -> tuple[Stretch, list[int]]:
    """A stretch of 300 draws over 1 to 8 corpora, some of them out of use, that begins with errors summing to 0."""
    num_corpora = draw(st.integers(1, 8))
    most = draw(st.sampled_from([UNIT, 2 * UNIT, 50 * UNIT]))  # the last is more than a head can settle
    errors = draw(st.lists(st.integers(-most, most), min_size=num_corpora, max_size=num_corpora))
    errors[0] -= sum(errors)
    used = draw(st.lists(st.integers(0, num_corpora - 1), min_size=1, unique=True))
    parts = [draw(st.integers(1, 10**6)) for _ in used]
    weights = {corpus: part * UNIT // sum(parts) for corpus, part in zip(used, parts, strict=True)}
    weights[used[0]] += UNIT - sum(weights.values())
    return Stretch({c: weights[c] for c in sorted(weights) if weights[c]}, errors, 300), errors


def sequence(stretch: Stretch, start: int, num_draws: int) -> list[tuple[int, int]]:
    """(corpus, rank) of each draw, in order."""
    found: dict[int, tuple[int, int]] = {}
    for corpus, rank, places in stretch.pick(start, num_draws):
        found |= {place: (corpus, rank + index) for index, place in enumerate(places.tolist())}
    return [found[place] for place in range(num_draws)]


@settings(max_examples=400)  # what a split cannot absorb shows in one of a hundred
@given(stretches())
def test_as_the_plain_and_slow_way_says_from_any_errors(case: tuple[Stretch, list[int]]) -> None:
    stretch, errors = case
    names = [f"c{corpus}" for corpus in range(stretch.num_corpora)]
    slow = SlowDraws(names)
    slow.errors = dict(zip(names, errors, strict=True))
    drawn = slow.draw({names[corpus]: weight for corpus, weight in stretch.weights.items()}, 60)
    assert [names[corpus] for corpus, _ in sequence(stretch, 0, 60)] == drawn


@given(stretches(), st.integers(0, 290), st.integers(1, 10))
def test_any_piece_of_the_sequence_is_that_piece_of_the_whole(
    case: tuple[Stretch, list[int]], start: int, length: int
) -> None:
    stretch, _ = case
    assert sequence(stretch, start, length) == sequence(stretch, 0, 300)[start : start + length]


@given(stretches())
def test_counts_and_inverse_agree_with_the_sequence(case: tuple[Stretch, list[int]]) -> None:
    stretch, _ = case
    counts = [0] * stretch.num_corpora
    for draw, (corpus, rank) in enumerate(sequence(stretch, 0, 300)):
        assert stretch.counts(draw) == counts
        assert rank == counts[corpus]
        assert stretch.draw_of(corpus, rank) == draw
        counts[corpus] += 1


@given(stretches())
def test_the_head_draws_what_is_furthest_behind(case: tuple[Stretch, list[int]]) -> None:
    stretch, errors = case
    assert len(stretch.head) <= MAX_HEAD
    for corpus in stretch.head:
        for c, weight in stretch.weights.items():
            errors[c] += weight
        assert all(errors[c] <= errors[corpus] for c in stretch.weights)
        errors[corpus] -= UNIT


def test_of_two_that_are_equally_far_behind_the_first_is_drawn() -> None:
    errors = [900_000_000, 900_000_000, -1_800_000_000]
    head = Stretch({0: 400_000_000, 1: 400_000_000, 2: 200_000_000}, errors, 100).head
    assert head[:2] == (0, 1)


def test_without_errors_there_is_no_head() -> None:
    assert Stretch({0: 700_000_000, 1: 200_000_000, 2: 100_000_000}, [0, 0, 0], 100).head == ()
