"""Bad input as a user meets it: one clear line with place and remedy, the right exit code, nothing half-written.

Every case runs the real command as a process, and compares the folder it works in, before and after.
"""

import contextlib
import gzip
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from tests.conftest import ROOT

CONFIG = """\
run_name: bad
data_seed: 17
max_duration: 100ba
global_batch_size: 4
seq_len: 32
model: {name: tiny, vocab_size: 512}
device: cpu
lr_schedule: {peak: 3e-3, floor: 3e-5}
corpora:
  c4: {local: mds/c4/train}
  starcoder: {local: mds/starcoder/train}
schedule:
  phases:
    - {start: 0ba, mixture: {c4: 1.0}}
    - {start: 50ba, mixture: {c4: 0.8, starcoder: 0.2}}
num_workers: 0
save_folder: checkpoints
save_interval: 2ba
"""
SHARDS, MIXER, TRAINER, SERVICE = ([sys.executable, "-m", name] for name in ("shards", "mixer", "trainer", "service"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    code: int
    line: str


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """A folder in which commands are called as users call them, with relative paths."""

    folder: Path

    def call(self, *command: str, prepare: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
        options = {"cwd": self.folder, "env": ENVIRONMENT, "preexec_fn": prepare}
        return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)  # type: ignore[call-overload, no-any-return]

    def fail(self, *command: str, prepare: Callable[[], None] | None = None) -> Answer:
        """Call what must fail: with one line on standard error, no traceback, and every file as it was."""
        before = self.tree()
        result = self.call(*command, prepare=prepare)
        assert "Traceback" not in result.stderr
        assert (result.stderr.count("\n"), result.stdout) == (1, ""), result.stderr + result.stdout
        assert self.tree() == before
        return Answer(code=result.returncode, line=result.stderr.rstrip("\n"))

    def tree(self) -> dict[str, str]:
        """SHA-256 of every file, hidden ones too, and an entry for every folder."""
        return {
            str(path.relative_to(self.folder)): sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
            for path in self.folder.rglob("*")
        }


def convert(*inputs: str, corpus: str = "c4", out: str = "mds", tokenizer: str = "tokenizer") -> list[str]:
    """A call of the conversion, with small rows and shards."""
    options = ["--corpus", corpus, "--tokenizer", tokenizer, "--out", out, "--seq-len", "32", "--shard-bytes", "4096"]
    return [*SHARDS, "convert", *options, "--holdout", "0.1", "--workers", "1", *inputs]


def write_tokenizer(folder: Path, *, vocab_size: int) -> None:
    """A byte-level BPE of `vocab_size` ids."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(documents("c4", 100), trainer)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))


def documents(corpus: str, number: int) -> list[str]:
    return [f"Document {n} of {corpus} says that {n * n} is the square of {n}, and no more." for n in range(number)]


def write_lines(path: Path, corpus: str, *, number: int = 300, field: str = "text") -> None:
    path.write_text("".join(json.dumps({field: text}) + "\n" for text in documents(corpus, number)))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Two converted corpora, two tokenizers, inputs; tests add to it only what they name themselves."""
    place = Workplace(folder=tmp_path_factory.mktemp("work"))
    write_tokenizer(place.folder / "tokenizer", vocab_size=300)
    write_tokenizer(place.folder / "other", vocab_size=320)
    for corpus, field in (("c4", "text"), ("starcoder", "content")):
        write_lines(place.folder / f"{corpus}.jsonl", corpus, field=field)
        result = place.call(*convert(f"{corpus}.jsonl", corpus=corpus))
        assert result.returncode == 0, result.stderr
    return place


# -- the YAML of a run, for both programs that read it

FAULTS = {
    "a misspelt corpus": (
        "starcoder: 0.2",
        "starcodr: 0.2",
        "unknown corpus 'starcodr', did you mean 'starcoder'? @ $.schedule.phases[1].mixture.starcodr",
    ),
    "weights that sum to 0.9": (
        "c4: 0.8",
        "c4: 0.7",
        "weights sum to 0.9, they must sum to 1 @ $.schedule.phases[1].mixture",
    ),
    "a negative weight": (
        "{c4: 1.0}",
        "{c4: 1.0, starcoder: -0.1}",
        "a weight must be from 0 to 1, found -0.1 @ $.schedule.phases[0].mixture.starcoder",
    ),
    "a gap": (
        "{start: 0ba,",
        "{start: 0ba, end: 40ba,",
        "gap: no mixture for steps 40 to 50 @ $.schedule.phases[0].end",
    ),
    "a late start": (
        "{start: 0ba,",
        "{start: 5ba,",
        "gap: steps 0 to 5 have no mixture, the first phase must start at 0ba @ $.schedule.phases[0].start",
    ),
    "an unknown key": (
        "num_workers: 0",
        "num_worker: 0",
        "unknown key 'num_worker', did you mean 'num_workers'? @ $.num_worker",
    ),
    "an unknown key of a corpus": (
        "{local: mds/c4/train}",
        "{local: mds/c4/train, max_epoch: 1}",
        "unknown key 'max_epoch', did you mean 'max_epochs'? @ $.corpora.c4.max_epoch",
    ),
    "an unknown key of a phase": (
        "{start: 50ba,",
        "{start: 50ba, rampe: 1,",
        "unknown key 'rampe', did you mean 'ramp'? @ $.schedule.phases[1].rampe",
    ),
    "a missing key": ("data_seed: 17\n", "", "this key is missing @ $.data_seed"),
    "a key that stands twice": ("seq_len: 32\n", "seq_len: 32\nseq_len: 64\n", "the key 'seq_len' stands twice"),
    "no YAML": ("run_name: bad", "run_name: [bad", "YAML: while parsing a flow sequence"),
    "a corpus that is not there": (
        "mds/c4/train",
        "mds/c5/train",
        "no corpus at mds/c5/train: there is no index.json; make it with 'switchpoint-shards convert'",
    ),
    "a corpus too small for its cap": (
        "{local: mds/starcoder/train}",
        "{local: mds/starcoder/train, max_epochs: 1}",
        "starcoder",
    ),
}


@pytest.mark.parametrize("program", [[*MIXER, "forecast"], TRAINER], ids=["mixer", "trainer"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_run_file(fault: str, program: list[str], workplace: Workplace) -> None:
    right, wrong, line = FAULTS[fault]
    text = CONFIG.replace("100ba", "10000ba") if "cap" in fault else CONFIG
    assert text.count(right) == 1
    (workplace.folder / "run.yaml").write_text(text.replace(right, wrong))
    answer = workplace.fail(*program, "run.yaml")
    assert line in answer.line
    assert answer.code == 2


def test_a_right_run_file(workplace: Workplace) -> None:
    (workplace.folder / "run.yaml").write_text(CONFIG)
    assert workplace.call(*MIXER, "forecast", "run.yaml").returncode == 0
    assert workplace.call(*TRAINER, "run.yaml", "--dry-run").returncode == 0


def test_corpora_of_different_tokenizers(workplace: Workplace) -> None:
    assert (
        workplace.call(*convert("starcoder.jsonl", corpus="starcoder", out="mds2", tokenizer="other")).returncode == 0
    )
    (workplace.folder / "run.yaml").write_text(CONFIG.replace("mds/starcoder", "mds2/starcoder"))
    answer = workplace.fail(*TRAINER, "run.yaml")
    assert answer.code == 2
    assert answer.line.startswith(
        "corpora were made with different tokenizers (c4 and starcoder): convert them with one"
    )


# -- inputs of a conversion


def test_a_truncated_file(workplace: Workplace) -> None:
    packed = gzip.compress((workplace.folder / "c4.jsonl").read_bytes())
    (workplace.folder / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    answer = workplace.fail(*convert("cut.jsonl.gz", corpus="cut", out="new"))
    assert answer.code == 2
    assert answer.line.startswith("error: cut.jsonl.gz: damaged or truncated")
    assert "fetch the file again" in answer.line


def test_a_record_without_its_text(workplace: Workplace) -> None:
    lines = (workplace.folder / "c4.jsonl").read_text().splitlines(keepends=True)
    lines[210] = '{"txt": "misspelt"}\n'
    (workplace.folder / "odd.jsonl").write_text("".join(lines))
    answer = workplace.fail(*convert("odd.jsonl", corpus="web", out="new"))
    assert answer.code == 2
    assert answer.line.startswith("error: odd.jsonl, line 211: template 'text' wants the fields text; found: txt")
    assert "choose another with --template" in answer.line


def test_another_tokenizer_than_that_of_the_output(workplace: Workplace) -> None:
    answer = workplace.fail(*convert("c4.jsonl", tokenizer="other"))
    assert answer.code == 2
    assert answer.line.startswith("error: mds/c4 holds another conversion: tokenizer")
    assert "choose another --out, or delete mds/c4 to start anew" in answer.line


# -- full disks


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A folder with little room. `prepare` is to be called in the process that writes."""

    name: str
    prepare: Callable[[], None] | None
    fill: Callable[[], None]
    make_room: Callable[[], None]


@pytest.fixture
def disk(workplace: Workplace) -> Iterator[Disk]:
    """A file system of 24 KiB, where one may be mounted; elsewhere no file may be larger than 1,500 bytes."""
    folder = workplace.folder / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True).returncode == 0 if os.geteuid() == 0 else False

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))

    def fill() -> None:
        with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
            while mounted:
                file.write(bytes(4096))

    def remount() -> None:
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=8m", str(folder)], check=True)

    yield Disk(name="disk", prepare=None if mounted else limit, fill=fill, make_room=remount)
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_a_conversion_on_a_full_disk(workplace: Workplace, disk: Disk) -> None:
    answer = workplace.fail(*convert("c4.jsonl", out=disk.name), prepare=disk.prepare)
    assert answer.code == 1
    assert answer.line.startswith("error: cannot write disk/")
    assert "make room or choose another --out, then run the same command again" in answer.line
    disk.make_room()
    assert workplace.call(*convert("c4.jsonl", out=disk.name)).returncode == 0
    tree = workplace.tree()
    there = {name.removeprefix("disk/"): digest for name, digest in tree.items() if name.startswith("disk/c4/")}
    assert there == {name.removeprefix("mds/"): digest for name, digest in tree.items() if name.startswith("mds/c4/")}


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ([*MIXER, "plot", "run.yaml", "--out"], "disk/plot.svg"),
        ([*SERVICE, "serve", "--port", "0", "--db"], "disk/x.db"),
    ],
    ids=["mixer plot", "service serve"],
)
def test_other_writers_on_a_full_disk(command: list[str], file: str, workplace: Workplace, disk: Disk) -> None:
    (workplace.folder / "run.yaml").write_text(CONFIG)
    if disk.prepare:
        pytest.skip("needs a file system of its own: no right to mount one here")
    disk.fill()
    answer = workplace.fail(*command, file, prepare=disk.prepare)
    assert answer.code == 1
    assert file in answer.line


def test_a_checkpoint_on_a_full_disk(workplace: Workplace, disk: Disk) -> None:
    text = CONFIG.replace("save_folder: checkpoints", f"save_folder: {disk.name}/checkpoints")
    (workplace.folder / "run.yaml").write_text(text)
    result = workplace.call(*TRAINER, "run.yaml", prepare=disk.prepare)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (line,) = result.stderr.splitlines()
    assert f"{disk.name}/checkpoints" in line
    assert "free some space" in line
    assert not [path for path in (workplace.folder / disk.name).rglob("*") if path.is_file()]
