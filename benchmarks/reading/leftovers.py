"""What a process that was killed has left: shared memory segments, and files in the folders it could write to."""

from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")


def segments() -> set[Path]:
    return set(SHARED_MEMORY.iterdir()) if SHARED_MEMORY.exists() else set()


def in_use() -> set[str]:
    """Shared memory that some process has mapped."""
    found = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            lines = maps.read_text().splitlines()
        except OSError:  # it ended meanwhile, or is another user's
            continue
        found |= {line.split(maxsplit=5)[5] for line in lines if str(SHARED_MEMORY) in line}
    return found


def stale(before: set[Path]) -> list[Path]:
    """Segments that were not there before and that nobody uses: those of other programs at work are passed over."""
    new = segments() - before
    used = in_use()  # looked at afterwards: what others make meanwhile is not among the new
    return sorted(path for path in new if str(path) not in used)


def files(*folders: Path) -> set[Path]:
    return {path for folder in folders for path in folder.rglob("*") if path.is_file()}


def num_bytes(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
