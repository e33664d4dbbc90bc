"""What README and docs name exists: files, links, tests, make targets, modules, commands; and their YAML is right.

A fenced block marked `yaml` is a run, or part of one that is completed from the smallest shipped configuration.
"""

import contextlib
import importlib.util
import io
import re
import shlex
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import mixer.cli
import service.cli
import shards.cli
import trainer.run
from tests.conftest import ROOT
from trainer.loading import load

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "service/PROTOCOL.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "benchmarks").glob("*/README.md")),
]
PARSERS: dict[str, ArgumentParser] = {
    "switchpoint-mixer": mixer.cli._parser(),
    "switchpoint-shards": shards.cli._parser(),
    "switchpoint-service": service.cli._parser(),
    "trainer/run.py": trainer.run._parser(),
}
TOP = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} - {"demo-out", "site", "dist", "build"}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHIPPED = [ROOT / "trainer" / "configs" / "tiny.yaml", *sorted((ROOT / "trainer" / "configs" / "paper").glob("*.yaml"))]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, *languages: str) -> Iterator[str]:
    return (text for language, text in BLOCK.findall(page.read_text()) if language in languages)


def spans(page: Path) -> list[str]:
    """Inline code of a page."""
    return re.findall(r"`([^`\n]+)`", BLOCK.sub("", page.read_text()))


def command_lines(page: Path) -> Iterator[list[str]]:
    """Words of each line in unmarked blocks that calls one of our programs, up to a pipe or a redirection."""
    for block in blocks(page, ""):
        for line in block.replace("\\\n", " ").splitlines():
            calls = re.match(r"\.venv/bin/|composer |python ", line) and any(name in line for name in PARSERS)
            words = shlex.split(line, comments=True) if calls else []
            end = next((n for n, word in enumerate(words) if word[0] in "|>&<"), len(words))
            yield words[:end]


def exists(path: str, page: Path) -> bool:
    """Whether a file is there: from the root, beside the page, or by its bare name in one of the packages."""
    bare = [] if "/" in path else [*ROOT.glob(f"*/{path}"), *ROOT.glob(f"*/*/{path}")]
    return (ROOT / path).exists() or (page.parent / path).exists() or any(".venv" not in found.parts for found in bare)


def test_the_pages_are_found() -> None:
    names = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert {"README.md", "docs/DETERMINISM.md", "docs/guides/quickstart.md"} <= names


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    local = [link for link in links if not re.match(r"https?:|mailto:", link)]
    assert [link for link in local if not exists(link, page)] == []


@each_page
def test_paths_in_code_spans_exist(page: Path) -> None:
    words = [word.rstrip("/") for span in spans(page) for word in span.partition("::")[0].split()]
    below = [word for word in words if "/" in word and word.split("/")[0] in TOP and not re.search(r"[*<>…{]", word)]
    files = [word for word in words if re.fullmatch(r"[\w-]+\.(py|md|toml)", word)]
    assert [word for word in (*below, *files) if not exists(word, page)] == []


@each_page
def test_named_tests_exist(page: Path) -> None:
    """`tests/x.py::test_name` and `test_name_…`, the ellipsis for any rest."""
    names = [name for span in spans(page) for name in re.findall(r"(?:^|::)(test_\w+…?)$", span)]
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    files = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    patterns = {name: f"def {name[:-1] if name.endswith('…') else name + '[(]'}" for name in names}
    assert [name for name, pattern in patterns.items() if name not in files and not re.search(pattern, tests)] == []


@each_page
def test_make_targets_exist(page: Path) -> None:
    text = "\n".join([*spans(page), *blocks(page, "")])
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|[\s`])make ([a-z]+)", text)) <= targets


@each_page
def test_modules_that_are_run_exist(page: Path) -> None:
    modules = re.findall(r"python -m ([\w.]+)", page.read_text())
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


@each_page
def test_commands_are_understood(page: Path) -> None:
    """Every call of our programs is one that its parser takes."""
    assert [complaint for words in command_lines(page) if (complaint := refusal(words))] == []


def refusal(words: list[str]) -> str | None:
    """What the parser of the program that is called says against it; None where it takes it, or none is called."""
    names = [word.removeprefix(".venv/bin/") for word in words]
    start = next((n for n, name in enumerate(names) if name in PARSERS), None)
    if start is None or names[0] == "docker":
        return None
    parser = PARSERS[names[start]]
    parse = parser.parse_intermixed_args if names[start] == "trainer/run.py" else parser.parse_args
    complaint = io.StringIO()
    with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(io.StringIO()):
        try:
            parse(words[start + 1 :])
        except SystemExit as end:
            return f"{shlex.join(words)}: {complaint.getvalue()}" if end.code else None
    return None


def test_a_wrong_command_would_be_refused() -> None:
    assert "--sizes" in (refusal([".venv/bin/switchpoint-mixer", "show", "x.yaml", "--sizes", "3"]) or "")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_configurations_are_right(path: Path) -> None:
    assert load(path).num_steps > 0


@each_page
def test_yaml_in_pages_is_right(page: Path, tmp_path: Path) -> None:
    base = yaml.safe_load((ROOT / "trainer" / "configs" / "tiny.yaml").read_text())
    for number, text in enumerate(blocks(page, "yaml", "yml")):
        part = yaml.safe_load(text)
        path = tmp_path / f"{number}.yaml"
        path.write_text(text if "run_name" in part else yaml.safe_dump(base | part))
        load(path)


def test_there_are_runs_among_the_yaml_of_the_pages() -> None:
    found = [text for page in PAGES for text in blocks(page, "yaml") if "run_name:" in text]
    assert len(found) >= 3


@pytest.mark.parametrize("name", ["changing-corpora", "dynamic-mixing"])
def test_guides_in_python_print_what_they_say(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs" / "guides" / f"{name}.md"
    names: dict[str, object] = {}
    for code in blocks(page, "python"):
        exec(code, names)
    assert capsys.readouterr().out == "".join(blocks(page, "text")) != ""
