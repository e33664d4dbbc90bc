"""What the sections of a configuration are made of: strict, frozen objects, and the types of their values.

Each part of the trainer has its section beside its code, in a file that imports neither torch nor composer;
`config.Config` puts them together.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, lt=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Duration = int | str
UNION = "one of: "  # begins the tags of unions, which are no part of a place in the file


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
