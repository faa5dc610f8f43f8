"""What the generator's process is told to do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from tests.load.kinds import Credentials
from tests.load.plan import Plan
from tests.load.wire import Target


class Order(BaseModel):
    """One run; `run` marks its writes, `ledger` is a file that is not there yet."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    plan: Plan
    target: Target
    credentials: Credentials
    ledger: Path
