"""What the demo found out: everything that its report and its summary show, in one value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from demo.check import Result, Run
from demo.conversion import Converted
from demo.metrics import History
from demo.plots import COLOURS, Marks
from demo.settings import Settings
from demo.training import Trained


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All facts of one demo. `stages`: name → seconds. `same_without_service`: steps."""

    settings: Settings
    described: str
    corpora: Mapping[str, Converted]
    tokenizer: str
    trained: Trained
    run: Run
    history: History
    result: Result
    same_without_service: int
    stages: Sequence[tuple[str, float]]

    @property
    def marks(self) -> Marks:
        edit = self.trained.edit
        return Marks(
            num_steps=self.settings.num_steps,
            switchpoint=self.settings.switchpoint,
            posted=edit.step,
            in_force=edit.revision["effective_step"],
            killed_after=self.trained.killed_after,
            resumed_at=self.trained.resumed_at,
        )

    @property
    def mixed(self) -> list[str]:
        """The corpora that the schedule names, in the order of the colours."""
        return [name for name in COLOURS if name in self.run.ledger.schedule.names]

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second in the median step; evaluations and checkpoints fall between steps and count little."""
        times = [
            (after["time"] - before["time"], after["tokens"] - before["tokens"])
            for launch in self.history.launches
            for before, after in pairwise(launch)
        ]
        rates = sorted(tokens / seconds for seconds, tokens in times if seconds > 0)
        return rates[len(rates) // 2] if rates else 0.0
