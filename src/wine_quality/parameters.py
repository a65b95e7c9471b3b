"""What the parameter models of all pipelines share."""

from pydantic import BaseModel, ConfigDict


class Parameters(BaseModel):
    """A group of parameters: frozen, and a key it does not know is an error that names the key."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
