"""An edit of the live schedule over REST, as a person or a script would make it while the trainer runs."""

from dataclasses import dataclass
from typing import Any

import httpx

from demo.processes import DemoError
from demo.settings import AUTHOR, EDITED_MIX, REASON, Settings

ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What was posted and what came back: the stored revision and the forecasts of the dry run."""

    revision: dict[str, Any]
    preview: dict[str, Any]
    frontier: int  # when it was posted
    step: int  # that the trainer had last reported


def find_run(url: str) -> str:
    """The id of the one run that the service has."""
    runs = httpx.get(f"{url}/v1/runs", timeout=30).raise_for_status().json()["runs"]
    if len(runs) != 1:
        raise DemoError(f"the service has {len(runs)} runs and should have the demo's one")
    return str(runs[0]["id"])


def post_revision(url: str, run_id: str, settings: Settings) -> Edit:
    """Look at the run, try the edit dry, then post it: from the step wanted, or the earliest that may still change.

    The frontier moves while we look: a step that has been frozen meanwhile answers 409 with the earliest one left.
    """
    place = f"/v1/runs/{run_id}"
    with httpx.Client(base_url=url, timeout=30) as service:
        state = service.get(place).raise_for_status().json()
        effective = max(settings.edit_from, state["frontier"])
        for _ in range(ATTEMPTS):
            body = {
                "parent": state["revision"],
                "effective_step": effective,
                "mixture": EDITED_MIX,
                "ramp": {"shape": "linear", "length": f"{settings.ramp}ba"},
                "author": AUTHOR,
                "reason": REASON,
            }
            preview = service.post(f"{place}/revisions", params={"dry_run": "true"}, json=body)
            answer = service.post(f"{place}/revisions", json=body) if preview.is_success else preview
            if answer.is_success:
                return Edit(
                    revision=answer.json(), preview=preview.json(), frontier=state["frontier"], step=state["step"] or 0
                )
            problem = answer.json()
            if answer.status_code != 409 or "earliest_step" not in problem:
                raise DemoError(f"the service refused the revision: {problem.get('detail', answer.text)}")
            effective = problem["earliest_step"]
    raise DemoError(f"the trainer was always ahead of the revision, {ATTEMPTS} times over")
