"""Known vulnerabilities of everything in the lock file: `python .ci/audit.py`.

Fails (exit 1) on each that has a fix which the lock could take and does not, but for what .ci/audit.toml names with a
reason. Says so, in lines that cannot be overlooked, when there is no source to ask: pip-audit itself then answers "no
known vulnerabilities". A source counts as one when it knows the holes of an old release that is known to have some.
With SWITCHPOINT_AUDIT=required that too is a failure.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from packaging.version import Version

ROOT = Path(__file__).parent.parent
SOURCES = ("osv", "pypi")
CANARY = "jinja2==2.10"  # of 2018, with holes that every source has known for years
UV = ("uv",) if shutil.which("uv") else (sys.executable, "-m", "uv")
LOCKED = (*UV, "export", "--frozen", "--all-extras", "--all-groups", "--no-emit-project", "--no-hashes", "--quiet")
EXCEPTIONS = Path(__file__).with_name("audit.toml")


class Finding(NamedTuple):
    """One vulnerability of one locked release."""

    package: str
    version: str
    names: frozenset[str]  # its ids: PYSEC, CVE, GHSA
    fixes: tuple[str, ...]

    def __str__(self) -> str:
        fix = f"fixed in {', '.join(self.fixes)}" if self.fixes else "no fix yet"
        return f"{self.package} {self.version}: {' '.join(sorted(self.names))} ({fix})"


def main() -> int:
    """Audit the lock file; the exit code."""
    locked = subprocess.run(LOCKED, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    source = next((source for source in SOURCES if findings(ask(source, CANARY))), None)
    if source is None:
        print("=" * 100)
        print("DEPENDENCIES WERE NOT AUDITED: no source of known vulnerabilities can be reached from here.")
        print(f"Tried: {', '.join(SOURCES)}. Run `make audit` where one of them can be.")
        print("=" * 100, flush=True)
        return int(os.environ.get("SWITCHPOINT_AUDIT") == "required")
    answer = ask(source, locked)
    unknown = [item["name"] for item in answer if item.get("skip_reason")]
    exceptions = tomllib.loads(EXCEPTIONS.read_text())
    held = {entry["package"]: Version(entry["below"]) for entry in exceptions.get("held", ())}
    allowed = {entry["id"]: entry["reason"] for entry in exceptions.get("allowed", ())}
    refused, notes = judge(findings(answer), held=held, allowed=allowed)
    print(f"audited {len(answer) - len(unknown)} locked packages against {source}")
    for line in [*notes, *(f"not known there: {name}" for name in unknown)]:
        print(f"  {line}")
    for finding in refused:
        print(f"VULNERABLE: {finding}: take the fix, or give .ci/audit.toml the reason why not", file=sys.stderr)
    return int(bool(refused))


def ask(source: str, requirements: str) -> list[Mapping[str, Any]]:
    """What pip-audit says of pinned requirements, a dictionary each; nothing where the source cannot be asked."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        options = ("--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off", "--timeout", "15")
        command = [sys.executable, "-m", "pip_audit", "-r", file.name, "-s", source, *options]
        done = subprocess.run(command, capture_output=True, text=True)
    try:
        found: list[Mapping[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        return []
    return found


def findings(answer: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """The vulnerabilities of an answer."""

    def of(item: Mapping[str, Any]) -> Iterator[Finding]:
        for hole in item.get("vulns", ()):
            names = frozenset([hole["id"], *hole.get("aliases", ())])
            yield Finding(item["name"], item["version"], names, tuple(hole["fix_versions"]))

    return [finding for item in answer for finding in of(item)]


def judge(
    found: Sequence[Finding], *, held: Mapping[str, Version], allowed: Mapping[str, str]
) -> tuple[list[Finding], list[str]]:
    """(those that must not be, remarks on the others and on exceptions that nothing needs any more).

    `held` is the first version of a package that others keep us from; `allowed` gives reasons by the id of a hole.
    """
    refused, notes, used = [], [], set()
    for finding in found:
        known = sorted(finding.names & allowed.keys())
        used |= set(known)
        bound = held.get(finding.package)
        if known:
            notes.append(f"allowed: {finding}: {allowed[known[0]]}")
        elif not finding.fixes:
            notes.append(f"waiting: {finding}")
        elif bound is not None and all(Version(fix) >= bound for fix in finding.fixes):
            notes.append(f"held below {bound}: {finding}")
        else:
            refused.append(finding)
    notes += [f"no longer needed in .ci/audit.toml: {name}" for name in sorted(allowed.keys() - used)]
    return refused, notes


if __name__ == "__main__":
    sys.exit(main())
