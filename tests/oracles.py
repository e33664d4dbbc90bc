"""The plan, slow and plain: one draw after another, one element at a time, in Python integers and fractions.

It shares with `mixer` only the parsed schedule and the source of random words; every rule of the order
(docs/DETERMINISM.md) is written down here a second time, as directly as possible. Tests compare `mixer.Plan` with it
slot by slot, in order.
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from mixer import Schedule
from mixer.keys import derive_key, random_words

UNIT = 10**9
MAX_HEAD = 32


def slow_plan(
    schedule: Schedule, corpora: Mapping[str, Sequence[int]], data_seed: int, shuffle_window: int
) -> Iterator[list[tuple[str, int, int, int]]]:
    """For each step the (corpus, ordinal, epoch, sample_id) of every slot."""
    orders = {name: slow_order(name, sizes, data_seed, shuffle_window) for name, sizes in corpora.items()}
    draws = slow_draws(schedule, sorted(corpora))
    slots_key = derive_key(data_seed, "slots")
    for step in range(schedule.num_steps):
        drawn = [(name, *next(orders[name])) for name, _ in (next(draws) for _ in range(schedule.global_batch_size))]
        words = random_words(slots_key, step, schedule.global_batch_size).tolist()
        yield [drawn[place] for place in sorted(range(len(words)), key=lambda place: (words[place], place))]


def slow_draws(schedule: Schedule, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Fraction]]]:
    """Every draw of the run: its corpus, and the error (target minus drawn) of each corpus after it."""
    errors = {name: Fraction(0) for name in names}
    for piece in schedule.pieces():
        weights = {name: Fraction(w, UNIT) for name, w in piece.mixture.items() if w}
        tree = huffman(weights, names)
        offsets: dict[int, int] | None = None
        arrived: dict[int, int] = {}
        head = 0
        for _ in range((piece.end - piece.start) * schedule.global_batch_size):
            if offsets is None:
                wanted = {id(node): offset(node, errors) for node in nodes_of(tree)}
                fits = all(0 <= wanted[id(node)] < node[3] for node in nodes_of(tree))
                if fits or head == MAX_HEAD:
                    offsets = {id(node): min(max(wanted[id(node)], 0), node[3] - 1) for node in nodes_of(tree)}
            if offsets is None:
                head += 1
                name = max(weights, key=lambda n: (errors[n] + weights[n], -names.index(n)))
            else:
                name = walk(tree, offsets, arrived)
            for other, weight in weights.items():
                errors[other] += weight
            errors[name] -= 1
            yield name, dict(errors)


def huffman(weights: Mapping[str, Fraction], names: Sequence[str]):
    """A leaf (a name) or (left, right, share of left, total)."""
    forest = [(int(weight * UNIT), names.index(name), name) for name, weight in weights.items()]
    while len(forest) > 1:
        forest.sort(key=lambda entry: entry[:2])
        (light, first, right), (heavy, second, left), *rest = forest
        forest = [(light + heavy, min(first, second), (left, right, heavy, light + heavy)), *rest]
    return forest[0][2]


def nodes_of(tree) -> list:
    return [] if isinstance(tree, str) else [tree, *nodes_of(tree[0]), *nodes_of(tree[1])]


def leaves_of(tree) -> list[str]:
    return [tree] if isinstance(tree, str) else leaves_of(tree[0]) + leaves_of(tree[1])


def offset(node, errors: Mapping[str, Fraction]) -> int:
    left, right, share, total = node
    e_left, e_right = (sum(errors[name] for name in leaves_of(side)) for side in (left, right))
    error = e_left - Fraction(share, total) * (e_left + e_right)
    return (error + Fraction(1, 2)) * total // 1


def walk(node, offsets: Mapping[int, int], arrived: dict[int, int]) -> str:
    while not isinstance(node, str):
        left, right, share, total = node
        before = arrived.get(id(node), 0)
        arrived[id(node)] = before + 1
        went = [(share * count + offsets[id(node)]) // total for count in (before, before + 1)]
        node = left if went[1] > went[0] else right
    return node


def slow_order(name: str, sizes: Sequence[int], data_seed: int, window: int) -> Iterator[tuple[int, int, int]]:
    """(ordinal, epoch, sample_id) of a corpus, for ever."""
    ordinal, epoch = 0, 0
    firsts = [sum(sizes[:shard]) for shard in range(len(sizes))]
    while True:
        words = random_words(derive_key(data_seed, "shards", name), epoch, len(sizes)).tolist()
        shards = sorted(range(len(sizes)), key=lambda shard: (words[shard], shard))
        key = int(random_words(derive_key(data_seed, "samples", name), epoch, 1)[0])
        for number, start in enumerate(range(0, len(shards), window)):
            rows = [firsts[s] + row for s in shards[start : start + window] for row in range(sizes[s])]
            window_key = splitmix((key + number) % 2**64)
            for place in range(len(rows)):
                yield ordinal, epoch, rows[feistel(place, len(rows), window_key)]
                ordinal += 1
        epoch += 1


def feistel(value: int, size: int, key: int) -> int:
    bits = (size - 1).bit_length() // 2
    num_high = -(-size // 2**bits)
    while True:
        high, low = divmod(value, 2**bits)
        for index in range(6):
            round_key = (index + 1) * 0x9E3779B9 % 2**32
            if index % 2 == 0:
                high = (high + (finalise((low + key) % 2**32 ^ round_key) * num_high >> 32)) % num_high
            else:
                low ^= finalise((high + (key >> 32)) % 2**32 ^ round_key) % 2**bits
        value = high * 2**bits + low
        if value < size:
            return value


def finalise(word: int) -> int:
    word = (word ^ word >> 16) * 0x7FEB352D % 2**32
    word = (word ^ word >> 15) * 0x846CA68B % 2**32
    return word ^ word >> 16


def splitmix(word: int) -> int:
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
    return word ^ word >> 31
