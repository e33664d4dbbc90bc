"""The plan, slow and plain: one draw after another, one element at a time, in Python integers and lists.

It shares with `mixer` only the parsed schedule, the parsed changes and the source of random words; every rule of the
order (docs/DETERMINISM.md) is written down here a second time, as directly as possible. Tests compare `mixer.Plan` with
it slot by slot, in order.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy

from mixer import Corpus, Schedule
from mixer.changes import Change
from mixer.keys import derive_key, random_words

UNIT = 10**9
MAX_HEAD = 32


class Refused(Exception):
    """A schedule or a change that does not fit the corpora."""


def slow_plan(
    schedule: Schedule, corpora: Mapping[str, Sequence[int] | Corpus], data_seed: int, shuffle_window: int
) -> Iterator[list[tuple[str, int, int, int]]]:
    """For each step the (corpus, ordinal, epoch, sample_id) of every slot."""
    run = SlowRun(corpora, {change.name for change in schedule.changes}, data_seed, shuffle_window)
    slots_key = derive_key(data_seed, "slots")
    for step in range(schedule.num_steps):
        for change in schedule.changes:
            if change.step == step:
                run.act(change)
        drawn = run.read(schedule.weights_ppb(step), slow_batch_size(schedule, step))
        words = random_words(slots_key, step, len(drawn)).tolist()
        yield [drawn[place] for place in sorted(range(len(words)), key=lambda place: (words[place], place))]


def slow_batch_size(schedule: Schedule, step: int) -> int:
    size = schedule.global_batch_size
    for row in schedule.batch_sizes:
        if row.start <= step:
            size = row.size
    return size


class SlowRun:
    """The corpora of a run as they are now. `orders` has every name that was ever used, `present` those in the run."""

    def __init__(
        self, corpora: Mapping[str, Sequence[int] | Corpus], later: set[str], data_seed: int, window: int
    ) -> None:
        self.data_seed, self.window = data_seed, window
        self.orders: dict[str, SlowCorpus] = {}
        self.caps: dict[str, Corpus] = {}
        self.present: set[str] = set()
        self.spent: set[str] = set()
        self.new_names: dict[str, str] = {}
        self.heirs: set[str] = set()
        self.taken: Counter[str] = Counter()
        self.draws = SlowDraws(sorted({*corpora, *later}))
        for name, corpus in corpora.items():
            self.begin(name, corpus if isinstance(corpus, Corpus) else Corpus(shard_sizes=corpus))

    def begin(self, name: str, corpus: Corpus) -> None:
        self.orders[name] = SlowCorpus(name, corpus.shard_sizes, self.data_seed, self.window)
        self.caps[name] = corpus
        self.present.add(name)

    def read(self, mixture: Mapping[str, int], num_draws: int) -> list[tuple[str, int, int, int]]:
        """The draws of one step, in the order in which they are made."""
        while True:
            draws = deepcopy(self.draws)
            names = draws.draw(self.weights(mixture), num_draws)
            over = [name for name in sorted(self.present) if self.would_exceed(name, names.count(name))]
            if not over:
                break
            require(self.caps[over[0]].then != "refuse", "a cap is exceeded")
            self.spent.add(over[0])
        self.draws = draws
        drawn = []
        for name in names:
            drawn.append((name, self.taken[name], *self.orders[name].take()))
            self.taken[name] += 1
        return drawn

    def would_exceed(self, name: str, num_draws: int) -> bool:
        cap = self.caps[name].max_epochs
        if cap is None:
            return False
        order = deepcopy(self.orders[name])
        return any(order.take()[0] >= cap for _ in range(num_draws))

    def weights(self, mixture: Mapping[str, int]) -> dict[str, int]:
        """Weights above 0, by the names that the corpora have now, shares of spent ones handed on."""
        weights: dict[str, int] = {}
        for name, weight in mixture.items():
            require(name in self.draws.names, "unknown corpus")
            if not weight:
                continue
            name, tried = self.meant(name), set()
            self.check_readable(name)
            while name in self.spent:
                require(name not in tried, "nobody is left to take over")
                tried.add(name)
                name = self.meant(self.caps[name].then)
                self.check_readable(name)
            weights[name] = weights.get(name, 0) + weight
        return weights

    def check_readable(self, name: str) -> None:
        require(name in self.present and self.orders[name].readable(), "weight for what cannot be read")

    def meant(self, name: str) -> str:
        while name in self.new_names:
            name = self.new_names[name]
        return name

    def act(self, change: Change) -> None:
        name, given = change.name, change.arguments
        if change.verb == "add":
            require(name not in self.new_names, "used name")
            if name not in self.orders:
                self.begin(name, Corpus(**given))
            require(self.orders[name].sizes == given["shard_sizes"], "other shards")
            if name not in self.present:  # it was removed, and goes on where it was
                self.present.add(name)
                self.caps[name] = Corpus(**given)
                self.spent.discard(name)  # as far as the new cap goes
            return
        source = given.get("from", name)
        require(source in self.present, "not there")
        order = self.orders[source]
        chosen = order.samples_of(spell_out(given.get("shards", ())))
        if change.verb == "remove":
            self.present.remove(name)
        elif change.verb == "grow":
            require(name not in self.heirs, "it lies in the shards of another corpus")
            require(given["first_shard"] == len(order.sizes), "other shards")
            order.grow(given["shard_sizes"])
            self.spent.discard(name)  # there is more to read before its cap
        elif change.verb == "quarantine":
            samples = spell_out(given.get("samples", ()))
            require(max(samples, default=0) < max(sum(order.sizes), 1), "no such sample")
            order.quarantine(samples | chosen)
        elif change.verb == "skip":
            for _ in range(given["samples"] if order.readable() else 0):
                order.take()
        else:
            require(name not in self.orders, "used name")
            self.orders[name], self.caps[name] = deepcopy(order), self.caps[source]
            self.heirs.add(name)
            self.present.add(name)
            if change.verb == "rename":
                self.present.remove(source)
                self.new_names[source] = name
            else:
                self.orders[name].quarantine(set(range(sum(order.sizes))) - chosen)
                order.quarantine(chosen)


def require(condition: bool, message: str) -> None:
    if not condition:
        raise Refused(message)


def spell_out(ranges: Iterable[Sequence[int]]) -> set[int]:
    return {number for start, end in ranges for number in range(start, end)}


class SlowDraws:
    """The corpus of every draw of the run. Errors (target minus drawn) are in 1/10^9 samples.

    Nodes of the tree are known by their id, which a copy of this keeps: they are immutable.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.errors = dict.fromkeys(names, 0)
        self.weights: Mapping[str, int] = {}

    def draw(self, weights: Mapping[str, int], num_draws: int) -> list[str]:
        """The next draws, at `weights`: a new stretch begins where they are not those of the draws before."""
        if weights != self.weights:
            self.weights, self.tree = weights, huffman(weights, self.names)
            self.offsets: dict[int, int] = {}
            self.arrived: dict[int, int] = {}
            self.head, self.settled = 0, False
        return [self.draw_one() for _ in range(num_draws)]

    def draw_one(self) -> str:
        if not self.settled:
            counted: dict[int, tuple[int, int]] = {}
            everything = gather(self.tree, self.errors, counted)
            self.settled = set_offsets(self.tree, everything, counted, self.offsets) or self.head == MAX_HEAD
        if self.settled:
            name = walk(self.tree, self.offsets, self.arrived)
        else:
            self.head += 1
            name = max(self.weights, key=lambda n: (self.errors[n] + self.weights[n], -self.names.index(n)))
        for other, weight in self.weights.items():
            self.errors[other] += weight
        self.errors[name] -= UNIT
        return name


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


class SlowCorpus:
    """One corpus as lists. `segments` holds (half, sample_ids); `windows`, of this epoch, (half, numbers of segments,
    sample_ids still to be read in order); `entered` the segments of this epoch that the reading has reached."""

    def __init__(self, name: str, sizes: Sequence[int], data_seed: int, window: int) -> None:
        self.keys = {domain: derive_key(data_seed, domain, name) for domain in ("halves", "shards", "samples")}
        self.window, self.sizes, self.segments = window, [], []
        self.epoch, self.grown, self.gone = 0, 0, set()
        self.cut(sizes, standing=0)
        self.begin()
        self.settle()

    def take(self) -> tuple[int, int]:
        """Read one sample: its epoch and sample_id."""
        _, numbers, rows = self.windows[0]
        self.entered |= set(numbers)
        taken = self.epoch, rows.pop(0)
        self.settle()
        return taken

    def quarantine(self, samples: set[int]) -> None:
        self.gone |= samples
        self.windows = [
            (half, numbers, [row for row in rows if row not in self.gone]) for half, numbers, rows in self.windows
        ]
        self.settle()

    def grow(self, sizes: Sequence[int]) -> None:
        self.grown += 1
        self.cut(sizes, standing=self.windows[0][0] if self.windows else 0)
        kept = [window for window in self.windows[:1] if set(window[1]) <= self.entered]
        self.windows = kept + self.lay([n for n in range(len(self.segments)) if n not in self.entered])
        self.settle()

    def readable(self) -> bool:
        return len(self.gone) < sum(self.sizes)

    def samples_of(self, shards: set[int]) -> set[int]:
        require(max(shards, default=-1) < len(self.sizes), "no such shard")
        return {row for s in shards for row in range(sum(self.sizes[:s]), sum(self.sizes[: s + 1]))}

    def settle(self) -> None:
        """Stand where there is something to read, be it in a later epoch, if there is anything at all."""
        while not self.windows or not self.windows[0][2]:
            if self.windows:
                self.entered |= set(self.windows.pop(0)[1])
            elif not self.readable():
                return
            else:
                self.epoch += 1
                self.begin()

    def begin(self) -> None:
        self.entered: set[int] = set()
        self.windows = self.lay(range(len(self.segments)))

    def cut(self, sizes: Sequence[int], standing: int) -> None:
        """Append shards as segments, while reading stands in the half `standing`."""
        shards = []
        for size in sizes:
            shards.append(list(range(sum(self.sizes), sum(self.sizes) + size)))
            self.sizes.append(size)
        if standing == 1:
            self.segments += [(1, rows) for rows in shards]
        elif len(self.sizes) <= self.window:
            rows = [row for shard in shards for row in shard]
            self.segments += [(0, [row for row in rows if row % 2]), (1, [row for row in rows if row % 2 == 0])]
        else:
            words = random_words(self.keys["halves"], self.grown, len(shards)).tolist()
            first_half: list[int] = []
            for shard in sorted(range(len(shards)), key=lambda shard: (words[shard], shard)):
                if 2 * sum(len(shards[s]) for s in first_half) < sum(map(len, shards)):
                    first_half.append(shard)
            self.segments += [(0 if shard in first_half else 1, rows) for shard, rows in enumerate(shards)]

    def lay(self, numbers: Iterable[int]) -> list[tuple[int, list[int], list[int]]]:
        """Windows over these segments, shuffled for this epoch."""
        counter = self.epoch + self.grown * 2**64
        words = random_words(self.keys["shards"], counter, len(self.segments)).tolist()
        key = int(random_words(self.keys["samples"], counter, 1)[0])
        ordered = sorted(numbers, key=lambda n: (self.segments[n][0], words[n], n))
        windows: list[tuple[int, list[int], list[int]]] = []
        for half in (0, 1):
            members = [n for n in ordered if self.segments[n][0] == half]
            for start in range(0, len(members), self.window):
                part = members[start : start + self.window]
                rows = [row for n in part for row in self.segments[n][1]]
                window_key = splitmix((key + len(windows)) % 2**64)
                order = [rows[feistel(place, len(rows), window_key)] for place in range(len(rows))]
                windows.append((half, part, [row for row in order if row not in self.gone]))
        return windows


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


def slow_grouped_plan(
    schedule: Schedule,
    corpora: Mapping[str, Sequence[int] | Corpus],
    data_seed: int,
    shuffle_window: int,
    num_groups: int,
) -> Iterator[list[tuple[str, int, int, int]]]:
    """As `slow_plan`, for node groups: of each step the slots of the first group, then of the second, and so on."""
    run = SlowRun(corpora, {change.name for change in schedule.changes}, data_seed, shuffle_window)
    groups = SlowGroups(run, data_seed, num_groups)
    for step in range(schedule.num_steps):
        for change in schedule.changes:
            if change.step == step:
                run.act(change)
                groups.act(change)
        num_slots = slow_batch_size(schedule, step) // num_groups
        names = [name for name, *_ in run.read(schedule.weights_ppb(step), num_slots * num_groups)]
        drawn = groups.read(names, run.draws.weights, num_slots)
        slots = []
        for seed, share in zip(groups.seeds, drawn, strict=True):
            words = random_words(derive_key(seed, "slots"), step, num_slots).tolist()
            slots += [share[place] for place in sorted(range(num_slots), key=lambda place: (words[place], place))]
        yield slots


class SlowGroups:
    """What each group has: its part of each corpus as a list of sample_ids, its orders, and the draws it is due."""

    def __init__(self, run: SlowRun, data_seed: int, num_groups: int) -> None:
        self.run, self.names, self.groups = run, run.draws.names, range(num_groups)
        self.data_seed, self.window = data_seed, run.window
        self.seeds = [derive_key(data_seed, "groups", str(group)) for group in self.groups]
        self.rows: dict[str, list[list[int]]] = {}
        self.orders: dict[str, list[SlowCorpus]] = {}
        self.keys: dict[str, tuple[int, int]] = {}  # of the cuts, and how often there were any
        self.weights: Mapping[str, int] = {}
        self.drawn = dict.fromkeys(self.names, 0)
        self.count = {name: [0 for _ in self.groups] for name in self.names}
        for name, corpus in run.caps.items():
            self.begin(name, corpus.shard_sizes)

    def begin(self, name: str, shard_sizes: Sequence[int]) -> None:
        require(sum(shard_sizes) >= len(self.groups), "fewer samples than groups")
        self.rows[name] = [[] for _ in self.groups]
        self.keys[name] = derive_key(self.data_seed, "parts", name), 0
        pieces = self.cut(name, shard_sizes, 0)
        self.orders[name] = [
            SlowCorpus(name, sizes, seed, self.window) for sizes, seed in zip(pieces, self.seeds, strict=True)
        ]

    def cut(self, name: str, shard_sizes: Sequence[int], first: int) -> list[list[int]]:
        """Give each group its part of some more shards, of which `first` is the first sample: sizes of the pieces."""
        key, growth = self.keys[name]
        self.keys[name] = key, growth + 1
        words = random_words(key, growth, len(shard_sizes)).tolist()
        ends = [first + sum(shard_sizes[: shard + 1]) for shard in range(len(shard_sizes))]
        line = [
            (row, shard)
            for shard in sorted(range(len(words)), key=lambda shard: (words[shard], shard))
            for row in range(ends[shard] - shard_sizes[shard], ends[shard])
        ]
        pieces = []
        for group in self.groups:
            mine = sorted(line[len(line) * group // len(self.groups) : len(line) * (group + 1) // len(self.groups)])
            self.rows[name][group] += [row for row, _ in mine]
            of_shard = Counter(shard for _, shard in mine)
            pieces.append([of_shard[shard] for shard in sorted(of_shard)] or [0])
        return pieces

    def act(self, change: Change) -> None:
        name, given = change.name, change.arguments
        require(change.verb not in ("skip", "split"), "not with groups")
        if change.verb == "add" and name not in self.orders:
            self.begin(name, given["shard_sizes"])
        elif change.verb == "rename":
            self.rows[name], self.keys[name] = self.rows[given["from"]], self.keys[given["from"]]
            self.orders[name] = deepcopy(self.orders[given["from"]])
        elif change.verb == "grow":
            first = sum(len(rows) for rows in self.rows[name])
            for order, sizes in zip(self.orders[name], self.cut(name, given["shard_sizes"], first), strict=True):
                order.grow(sizes)
        elif change.verb == "quarantine":
            gone = spell_out(given.get("samples", ())) | self.run.orders[name].samples_of(
                spell_out(given.get("shards", ()))
            )
            for order, rows in zip(self.orders[name], self.rows[name], strict=True):
                order.quarantine({number for number, row in enumerate(rows) if row in gone})
            readable = [order.readable() for order in self.orders[name]]
            require(all(readable) or not any(readable), "a group has nothing left")

    def read(self, names: Sequence[str], weights: Mapping[str, int], num_slots: int) -> list[list]:
        """The draws of a step by group, corpora in the order of their names."""
        if weights != self.weights:
            self.begin_stretch(weights)
        for name in sorted(set(names)):
            self.drawn[name] += names.count(name)
        for name in self.lightest_first:
            while sum(self.due[name]) < self.drawn[name]:
                group = self.lowest(name, self.due[name])
                self.due[name][group] += 1
                self.waiting[group].append(name)
        drawn = []
        for group in self.groups:
            served, self.waiting[group] = self.waiting[group][:num_slots], self.waiting[group][num_slots:]
            served += [self.heaviest] * (num_slots - len(served))
            drawn.append([self.take(name, group) for name in sorted(served)])
        return drawn

    def begin_stretch(self, weights: Mapping[str, int]) -> None:
        self.weights, self.heaviest = weights, max(weights, key=lambda name: (weights[name], -self.names.index(name)))
        self.lightest_first = sorted(weights.keys() - {self.heaviest}, key=lambda name: (weights[name], name))
        self.due, self.waiting = deepcopy(self.count), [[] for _ in self.groups]
        num_groups = len(self.groups)
        idle = [had for name, had in self.count.items() if name not in weights]
        surplus = [2**20 * sum(num_groups * had[g] - sum(had) for had in idle) // num_groups for g in self.groups]
        self.raised: dict[str, list[int]] = {}  # what is added to what each group has had of a corpus
        for index, name in enumerate(self.lightest_first):
            self.raised[name] = [own // (len(weights) - index) for own in surplus]
            soon = list(self.count[name])
            for _ in range(weights[name] * 64 * num_groups // UNIT):
                soon[self.lowest(name, soon)] += 1
            filled = min(self.height(name, group, had) // 2**20 for group, had in enumerate(soon))
            for group in self.groups:
                above = self.height(name, group, self.count[name][group]) - 2**20 * (filled + 1)
                surplus[group] += max(above, 0) - self.raised[name][group]

    def lowest(self, name: str, had: Sequence[int]) -> int:
        words = random_words(derive_key(self.data_seed, "turns", name), 0, len(self.groups)).tolist()
        return min(self.groups, key=lambda group: (self.height(name, group, had[group]), words[group], group))

    def height(self, name: str, group: int, had: int) -> int:
        return 2**20 * had + self.raised[name][group]

    def take(self, name: str, group: int) -> tuple[str, int, int, int]:
        epoch, number = self.orders[name][group].take()
        self.count[name][group] += 1
        return name, self.count[name][group] - 1, epoch, self.rows[name][group][number]
