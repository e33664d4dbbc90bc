"""The plan, slow and plain: one draw after another, one element at a time, in Python integers.

It shares with `mixer` only the parsed schedule and the source of random words; every rule of the order
(docs/DETERMINISM.md) is written down here a second time, as directly as possible. Tests compare `mixer.Plan` with it
slot by slot, in order.
"""

from collections.abc import Iterator, Mapping, Sequence

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
        names = [next(draws) for _ in range(schedule.global_batch_size)]
        drawn = [(name, *next(orders[name])) for name in names]
        words = random_words(slots_key, step, schedule.global_batch_size).tolist()
        yield [drawn[place] for place in sorted(range(len(words)), key=lambda place: (words[place], place))]


def slow_draws(schedule: Schedule, names: Sequence[str]) -> Iterator[str]:
    """The corpus of every draw of the run. Errors (target minus drawn) are in 1/10^9 samples."""
    errors = dict.fromkeys(names, 0)
    for piece in schedule.pieces():
        weights = {name: weight for name, weight in piece.mixture.items() if weight}
        tree = huffman(weights, names)
        offsets: dict[int, int] = {}
        arrived: dict[int, int] = {}
        head, settled = 0, False
        for _ in range((piece.end - piece.start) * schedule.global_batch_size):
            if not settled:
                counted: dict[int, tuple[int, int]] = {}
                everything = gather(tree, errors, counted)
                settled = set_offsets(tree, everything, counted, offsets) or head == MAX_HEAD
            if settled:
                name = walk(tree, offsets, arrived)
            else:
                head += 1
                name = max(weights, key=lambda n: (errors[n] + weights[n], -names.index(n)))
            for other, weight in weights.items():
                errors[other] += weight
            errors[name] -= UNIT
            yield name


def gather(node, errors: Mapping[str, int], counted: dict[int, tuple[int, int]]) -> int:
    """Errors of the two sides of each node, of which the lighter side's excess is not counted."""
    if isinstance(node, str):
        return errors[node]
    left, right = (gather(side, errors, counted) for side in node[:2])
    error = left - node[2] * (left + right) // node[3]
    counted[id(node)] = (left, right + error - clip(error))
    return sum(counted[id(node)])


def set_offsets(node, standing: int, counted: Mapping[int, tuple[int, int]], offsets: dict[int, int]) -> bool:
    if isinstance(node, str):
        return True
    left, right, share, total = node
    num_left, num_right = len(leaves_of(left)), len(leaves_of(right))
    level = (standing * share // total + standing * num_left // (num_left + num_right)) // 2
    error = counted[id(node)][0] - level - share * (sum(counted[id(node)]) - standing) // total
    offsets[id(node)] = min((clip(error) + UNIT // 2) * total // UNIT, total - 1)
    fits = [set_offsets(left, level, counted, offsets), set_offsets(right, standing - level, counted, offsets)]
    return error == clip(error) and all(fits)


def clip(error: int) -> int:
    return sorted([-UNIT // 2, error, UNIT // 2])[1]


def huffman(weights: Mapping[str, int], names: Sequence[str]):
    """A leaf (a name) or (left, right, share of left, total)."""
    forest = [(weight, names.index(name), name) for name, weight in weights.items()]
    while len(forest) > 1:
        forest.sort(key=lambda entry: entry[:2])
        (light, first, right), (heavy, second, left), *rest = forest
        forest = [(light + heavy, min(first, second), (left, right, heavy, light + heavy)), *rest]
    return forest[0][2]


def leaves_of(tree) -> list[str]:
    return [tree] if isinstance(tree, str) else leaves_of(tree[0]) + leaves_of(tree[1])


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
