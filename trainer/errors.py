"""What can go wrong in a run, as one tree.

    TrainerError            one line for the user; `exit_code` is what the program ends with
    ├── ConfigError         the YAML, an override or the data it points to is wrong (exit code 2)
    ├── ResumeError         a checkpoint that does not belong to this run (exit code 2)
    ├── ServiceError        the service refuses this run or gave it to another trainer (exit code 2); to be away is none
    ├── ExportError         what is to be exported is no checkpoint, or where it shall go exists (exit code 2)
    ├── CheckpointError     a checkpoint could not be written, or not be had (exit code 1)
    └── Stopped             the run was asked to end and has saved its state (exit code 75: start it again)

All can be pickled, and all carry what they are about as attributes.
"""

from collections.abc import Sequence


class TrainerError(Exception):
    """A problem that its message explains completely; no traceback is shown for it."""

    exit_code = 2


class ConfigError(TrainerError):
    """Everything that is wrong with a configuration, at once: `problems` is a list of "message @ $.place"."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


class ResumeError(TrainerError):
    """The checkpoint was made from other data, another seed, another order of samples or another past."""


class ServiceError(TrainerError):
    """The service answered and refused: a wrong token, another run of the same name, another trainer that has this one.

    Starting again by itself is no use, or, where two trainers take the run from each other, does harm.
    """


class ExportError(TrainerError):
    """A checkpoint that cannot be exported, or a folder that is there already."""


class CheckpointError(TrainerError):
    """A checkpoint could not be written or fetched: disk full, storage away. Those written before are untouched."""

    exit_code = 1


class Stopped(TrainerError):
    """A signal ended the run after a step, and its state is saved. 75 is EX_TEMPFAIL of BSD's sysexits.h: try again."""

    exit_code = 75
