"""Where each system of a benchmark runs: the project's own environment, or one made by `uv` from PyPI, off the lock.

Environments lie in `.envs/` beside this file (not under version control) and are made once; a changed requirement makes
one anew. A system that cannot be had (no network, no such Python) is left out with the reason.
"""

import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = HERE / ".envs"
NEWER_PYTHON = "3.12"


class NotInstalled(Exception):
    """This system cannot run here; the message says why."""


def requirements() -> dict[str, tuple[str, list[str]]]:
    """System → the Python it needs and what is installed for it. Torch is the project's, so that it is had once."""
    try:
        torch = f"torch=={version('torch')}"
    except PackageNotFoundError:
        torch = "torch"
    try:
        tokenizers = f"tokenizers=={version('tokenizers')}"
    except PackageNotFoundError:
        tokenizers = "tokenizers"
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {
        "levanter": (NEWER_PYTHON, ["marin-levanter==0.2.227.dev40316220070"]),
        "grain": (own, ["grain==0.2.18"]),
        "litdata": (own, ["litdata==0.2.76", tokenizers, torch]),
        "megatron": (own, ["megatron-core==0.16.1", torch]),
        "foundry": (own, ["llm-foundry==0.22.0", "setuptools<80", torch]),
        "datatrove": (own, ["datatrove[io,processing]==0.9.0", tokenizers]),
    }


def python_for(system: str, *, install: bool) -> str:
    """The interpreter that can import this system. Raises NotInstalled."""
    if system in ("ours", "draws"):
        return sys.executable
    if system == "streaming":
        if find_spec("streaming") is None:
            raise NotInstalled("the project's extra 'trainer' is not installed")
        return sys.executable
    python, packages = requirements()[system]
    folder = ENVIRONMENTS / system
    wanted, mark = f"{python} {' '.join(packages)}", folder / "installed"
    if not (mark.exists() and mark.read_text() == wanted):
        if not install:
            raise NotInstalled("no environment yet, and none was to be made")
        _make(folder, python, packages)
        mark.write_text(wanted)
    return str(folder / "bin" / "python")


def _make(folder: Path, python: str, packages: list[str]) -> None:
    uv = shutil.which("uv")
    if uv is None:
        raise NotInstalled("uv is not installed")
    print(f"installing {' '.join(packages)}", file=sys.stderr, flush=True)
    # --clear: what an interrupted installation left; prereleases: levanter has no other
    _uv([uv, "venv", "--quiet", "--clear", "--python", python, str(folder)])
    into = ["--python", str(folder), "--prerelease", "if-necessary-or-explicit"]
    _uv([uv, "pip", "install", "--quiet", *into, *packages])


def _uv(command: list[str]) -> None:
    pythons = [str(path) for path in sorted(Path.home().glob(".pyenv/versions/*/bin"))]  # uv looks on PATH alone
    environment = {**os.environ, "PATH": os.pathsep.join([os.environ.get("PATH", ""), *pythons])}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    except subprocess.TimeoutExpired:
        raise NotInstalled("installing took more than 15 minutes") from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise NotInstalled(said[-1][:120] if said else f"uv ended with {done.returncode}")
