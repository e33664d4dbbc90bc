"""The compiled path of `Plan.batch`: whether there is one, when it pays, and what it is fed.

The extra `fast` brings numba, which compiles `mixer.kernels`. To load it takes one or two seconds, and to compile, once
on a machine, some five more (the result is kept in `__pycache__`, or in the user's cache folder). So a process works
with NumPy until it has picked `WORTH_LOADING` samples, which takes about as long as loading; a command that shows a few
batches never waits. A training run, which knows that it will pick more, loads in the background from its start. Without
numba, or a folder to write to, all is as exact, and the log says once what is missing.
"""

import logging
import multiprocessing
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixer.apportion import Stretch
from mixer.epochs import Run

WORTH_LOADING = 4_000_000
AHEAD = 32
"""Batches for which windows are looked up at once."""

_I64 = NDArray[np.int64]
_U64 = NDArray[np.uint64]

FillBatch = Callable[..., int]
"""`kernels.fill_batch`."""

Columns = tuple[_I64, _I64, _I64, _I64]
"""Corpus, ordinal, epoch and sample_id by slot, each [batch size of the step]."""

_log = logging.getLogger(__name__)
_loading = threading.Lock()
_num_picked = 0
_loaded: FillBatch | None = None
_is_decided = False


def fill_batch(num_samples: int) -> FillBatch | None:
    """The compiled function, if this process has picked enough by now, `num_samples` more; None: use NumPy."""
    global _num_picked
    if not _is_decided:
        _num_picked += num_samples
        is_worker = multiprocessing.current_process().daemon  # of a data loader: these live short, and are many
        if _num_picked >= WORTH_LOADING and not is_worker and _loading.acquire(blocking=False):
            try:
                use(load())
            finally:
                _loading.release()
    return _loaded


def load_in_background(num_samples: int) -> None:
    """Begin to load, if a process is going to pick so many samples that it pays; until it is done NumPy goes on."""
    if num_samples < WORTH_LOADING or _is_decided or not _loading.acquire(blocking=False):
        return

    def work() -> None:
        try:
            use(load())
        finally:
            _loading.release()

    threading.Thread(target=work, name="compile", daemon=True).start()


def load() -> FillBatch | None:
    """`kernels.fill_batch`, compiled; None, and a line in the log, where that cannot be done."""
    try:
        from mixer import kernels
    except Exception as error:  # numba refuses versions of Python and NumPy that it does not know in several ways
        _log.info("samples are picked with NumPy, for numba cannot be used: %s", error)
        return None
    try:
        kernels.fill_batch.enable_caching()
    except RuntimeError as error:
        _log.info("compiling in every process, for the result cannot be kept: %s", error)
    try:
        kernels.fill_batch.compile(kernels.SIGNATURE)
    except OSError as error:  # a full disk; by then it is compiled
        _log.info("compiling in every process, for the result cannot be kept: %s", error)
    except Exception as error:
        _log.info("samples are picked with NumPy, for numba cannot compile: %s", error)
        return None
    loaded: FillBatch = kernels.fill_batch
    return loaded


def use(loaded: FillBatch | None) -> None:
    """From now on work with this function, or with NumPy."""
    global _loaded, _is_decided
    _loaded, _is_decided = loaded, True


class Windows(NamedTuple):
    """Stretches of ordinals, each in one window of one epoch of a corpus, as plain arrays.

    `rows_of` [num_corpora + 1] are the rows of each corpus, ascending by ordinal. A row has the first ordinal and the
    one after the last, the epoch, the first one's offset in the window, the window's size, and the columns of
    `segments` that are its own: where each segment of the window ends, the sample_id that would follow its last, and
    the stride from one to the next. `keys` [num_rows].
    """

    rows_of: _I64
    rows: _I64
    keys: _U64
    segments: _I64

    @classmethod
    def of(cls, runs: Sequence[tuple[int, Sequence[Run]]]) -> "Windows":
        """Of each corpus the first ordinal, and the runs from it on."""
        rows_of, rows, keys = [0], [], []
        ends: list[_I64] = [np.zeros(0, np.int64)]
        sample_ends, strides = list(ends), list(ends)
        first_segment = last_segment = 0
        for ordinal, runs_of_corpus in runs:
            for run in runs_of_corpus:
                if run.shard_ends is not ends[-1]:  # where samples are left out, many runs share a window
                    ends.append(run.shard_ends)
                    sample_ends.append(run.sample_ends)
                    strides.append(run.strides)
                    first_segment, last_segment = last_segment, last_segment + len(run.shard_ends)
                end = ordinal + run.length
                rows.append((ordinal, end, run.epoch, run.offset, run.window_size, first_segment, last_segment))
                keys.append(run.window_key)
                ordinal = end
            rows_of.append(len(rows))
        segments = np.stack([np.concatenate(ends), np.concatenate(sample_ends), np.concatenate(strides)])
        rows_array = np.array(rows, np.int64).reshape(-1, 7)
        return cls(np.array(rows_of, np.int64), rows_array, np.array(keys, np.uint64), segments)


class Place(NamedTuple):
    """Where a batch of `size` stands: at the draw `start` of a stretch of `end` draws, before which `drawn` had been
    drawn."""

    step: int
    size: int
    stretch: Stretch
    drawn: list[int]
    start: int
    end: int


class BatchFiller:
    """Batches of one plan by the compiled function. Keeps the windows in use; threads may share it.

    Args:
        runs: of each corpus `CorpusOrder.runs` [num_corpora].
        slots_key: 128 bits.
    """

    def __init__(self, runs: Sequence[Callable[[int, int], Sequence[Run]]], *, slots_key: int) -> None:
        self._runs = list(runs)
        self._slots_key = np.uint64(slots_key & 0xFFFFFFFFFFFFFFFF), np.uint64(slots_key >> 64)
        self._windows = Windows.of([(0, ())] * len(self._runs))
        self._is_trusted = False

    def fill(self, fill_batch: FillBatch, place: Place, by_numpy: Callable[[], Columns]) -> Columns:
        """The batch at `place`; the first is compared with what NumPy makes of it, which goes before all else."""
        out = np.empty((4, place.size), np.int64)
        slots = (*self._slots_key, np.uint64(place.step))
        draws = (place.stretch.arrays, np.array(place.drawn, np.int64), place.start, slots)
        if fill_batch(*draws, tuple(self._windows), out) >= 0:  # a corpus has come to the end of its windows
            windows = self._look_up(place)
            missing = fill_batch(*draws, tuple(windows), out)
            assert missing < 0
            self._windows = windows
        corpus, ordinal, epoch, sample_id = out
        if not self._is_trusted:
            expected = by_numpy()
            if not np.array_equal(out, expected):
                _log.error("compiled code picks other samples than NumPy at step %d: it is not used", place.step)
                use(None)
                return expected
            self._is_trusted = True
        return corpus, ordinal, epoch, sample_id

    def _look_up(self, place: Place) -> Windows:
        end = min(place.start + AHEAD * place.size, place.end)
        counts = zip(place.stretch.counts(place.start), place.stretch.counts(end), strict=True)
        ranges = [(drawn + low, drawn + high) for drawn, (low, high) in zip(place.drawn, counts, strict=True)]
        return Windows.of([(low, runs(low, high)) for (low, high), runs in zip(ranges, self._runs, strict=True)])
