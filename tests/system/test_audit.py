"""`.ci/audit.py`: what of an audit fails, what passes with a word, and that it never claims what was not done."""

import importlib.util
import sys
import tomllib
from importlib.metadata import requires
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.conftest import ROOT

EXCEPTIONS = tomllib.loads((ROOT / ".ci" / "audit.toml").read_text())


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hole(name: str, version: str, *fixes: str, id: str = "PYSEC-1") -> dict[str, Any]:
    """A package with one vulnerability, as pip-audit says it."""
    return {"name": name, "version": version, "vulns": [{"id": id, "aliases": ["CVE-1"], "fix_versions": [*fixes]}]}


def run(audit: ModuleType, monkeypatch: pytest.MonkeyPatch, *answer: dict[str, Any]) -> int:
    """The exit code when one source knows its canary and answers this of the lock."""
    locked: list[str] = []

    def ask(source: str, requirements: str) -> list[dict[str, Any]]:
        if source != "pypi":
            return []
        if requirements == audit.CANARY:
            return [hole("jinja2", "2.10", "2.10.1")]
        locked.append(requirements)
        return [*answer]

    monkeypatch.setattr(audit, "ask", ask)
    code = int(audit.main())
    assert "fastapi==" in locked[0]  # the lock itself is asked about, hashes and all extras
    assert "torch==" in locked[0]
    return code


def test_a_hole_with_a_fix_fails(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(audit, monkeypatch, hole("starlette", "1.10.0", "1.10.1")) == 1
    captured = capsys.readouterr()
    assert "VULNERABLE: starlette 1.10.0: CVE-1 PYSEC-1 (fixed in 1.10.1)" in captured.err
    assert "audited 1 locked packages against pypi" in captured.out


def test_a_hole_without_a_fix_is_told(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(audit, monkeypatch, hole("starlette", "1.10.0"), {"name": "odd", "skip_reason": "not found"}) == 0
    captured = capsys.readouterr().out
    assert "waiting: starlette 1.10.0: CVE-1 PYSEC-1 (no fix yet)" in captured
    assert "not known there: odd" in captured


def test_what_is_held_passes_unless_a_fix_can_be_taken(audit: ModuleType) -> None:
    found = audit.findings([hole("torch", "2.7.0", "2.8.0"), hole("torch", "2.6.0", "2.7.0", "2.8.0")])
    refused, notes = audit.judge(found, held={"torch": Version("2.7.1")}, allowed={})
    assert [finding.version for finding in refused] == ["2.6.0"]
    assert notes == ["held below 2.7.1: torch 2.7.0: CVE-1 PYSEC-1 (fixed in 2.8.0)"]


def test_a_reason_is_by_any_name_and_told_when_it_is_needed_no_more(audit: ModuleType) -> None:
    found = audit.findings([hole("h11", "0.16.0", "0.17")])
    assert audit.judge(found, held={}, allowed={"CVE-1": "not reached", "CVE-2": "old"}) == (
        [],
        [
            "allowed: h11 0.16.0: CVE-1 PYSEC-1 (fixed in 0.17): not reached",
            "no longer needed in .ci/audit.toml: CVE-2",
        ],
    )


@pytest.mark.parametrize(("required", "code"), [("", 0), ("required", 1)])
def test_without_a_source_it_says_that_nothing_was_audited(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    required: str,
    code: int,
) -> None:
    """Also where pip-audit is content: a package it does not find it skips, and calls that no vulnerability."""
    skipped = [{"name": "jinja2", "skip_reason": "Dependency not found on PyPI"}]
    monkeypatch.setattr(audit, "ask", lambda source, requirements: skipped if source == "pypi" else [])
    monkeypatch.setenv("SWITCHPOINT_AUDIT", required)
    assert audit.main() == code
    assert "DEPENDENCIES WERE NOT AUDITED" in capsys.readouterr().out


def test_a_source_that_fails_is_none(audit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert audit.ask("osv", audit.CANARY) == []


@pytest.mark.parametrize("entry", EXCEPTIONS["held"], ids=lambda entry: entry["package"])
def test_what_is_said_to_hold_a_package_does(entry: dict[str, str]) -> None:
    wanted = [Requirement(text) for text in requires(entry["by"]) or ()]
    (bound,) = {str(one.specifier) for one in wanted if one.name == entry["package"] and not one.marker}
    assert not Requirement(f"{entry['package']}{bound}").specifier.contains(entry["below"]), bound
    assert len(entry["reason"]) > 10
