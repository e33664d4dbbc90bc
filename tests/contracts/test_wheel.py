"""The wheel holds exactly the four packages with their data, and nothing else of the repository."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("mixer", "service", "shards", "trainer")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel as the build backend makes it, which is what `make wheel` calls."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.iterdir()
    assert path.name == "switchpoint-0.1.0-py3-none-any.whl"
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_four_packages_whole(wheel: zipfile.ZipFile) -> None:
    found = [name for name in wheel.namelist() if ".dist-info/" not in name]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES]
    tracked = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert sorted(found) == sorted(name for name in tracked if Path(ROOT / name).exists())
    assert {name.split("/")[0] for name in found} == set(PACKAGES)


def test_the_data_of_the_packages_is_in_it(wheel: zipfile.ZipFile) -> None:
    found = set(wheel.namelist())
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "trainer" / "configs").rglob("*.yaml")} <= found
    assert {"trainer/configs/tiny.yaml", "trainer/configs/paper/sizes/410m.yaml"} <= found
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "shards" / "recipes").glob("*.yaml")} <= found
    assert {"shards/recipes/c4.yaml", "shards/recipes/knowledgeqa.yaml"} <= found
    assert "service/migrations/script.py.mako" in found
    assert any(name.startswith("service/migrations/versions/m0001") for name in found)
    assert {f"service/page/static/{name}" for name in ("index.html", "style.css", "main.js")} <= found


def test_the_commands_are_installed_with_it(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert wheel.read(entry_points).decode().split("\n") == [
        "[console_scripts]",
        "switchpoint-mixer = mixer.cli:main",
        "switchpoint-service = service.cli:main",
        "switchpoint-shards = shards.cli:main",
        "",
    ]
