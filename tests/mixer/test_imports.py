"""What importing costs, and what it must not pull in: each in a fresh Python."""

import subprocess
import sys

import pytest

import mixer

HEAVY = ("torch", "composer", "streaming", "transformers", "matplotlib", "pandas", "numba", "scipy")


MODULES = (
    "mixer", "mixer.cli", "mixer.documents", "mixer.proposers", "mixer.reader", "mixer.reading", "service.app",
    "shards.cli",
)  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_light_packages_stay_light(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_the_surface_is_complete() -> None:
    public = {name for name, value in vars(mixer).items() if not name.startswith("_") and hasattr(value, "__module__")}
    assert {name for name in public if name[0].isupper() or name in ("fork", "parse_num_steps", "parse_steps")} == set(
        mixer.__all__
    ) - {"ORDER_VERSION"}


def test_every_error_says_where_it_stands_in_the_tree() -> None:
    text = sys.modules["mixer.errors"].__doc__ or ""
    errors = {
        name for name, value in vars(mixer.errors).items() if isinstance(value, type) and issubclass(value, Exception)
    }
    assert {name for name in errors if name not in text} == set()
