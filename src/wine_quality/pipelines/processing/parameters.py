"""Parameters of the processing pipeline."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from wine_quality.parameters import Parameters

Finding = Literal["rejected_rows", "leakage"]


class SplitParameters(Parameters):
    """How wines are divided into training and held-out wines."""

    method: Literal["hash", "file"] = Field(
        description="`hash`: a seeded hash of its twelve inputs decides a wine's side for ever; "
        "`file`: one source file is held out as it stands"
    )
    held_out_share: float = Field(
        gt=0, le=0.5, description="Share of the distinct wines held out (`hash`)"
    )
    held_out_file: str | None = Field(
        default=None, description="Name of the file held out (`file`)"
    )
    seed: int = Field(ge=0)

    @field_validator("method", mode="before")
    @classmethod
    def _former_method(cls, method: object) -> object:
        if method == "grouped":
            raise ValueError("the split `grouped` is gone: use `hash`, which keeps equal wines too")
        return method

    @model_validator(mode="after")
    def _file_is_named(self) -> "SplitParameters":
        if self.method == "file" and not self.held_out_file:
            raise ValueError("method `file` needs held_out_file")
        return self


class ProcessingParameters(Parameters):
    """Parameters of the processing pipeline."""

    allow: tuple[Finding, ...] = Field(
        description="Findings that do not stop the run: rejected_rows, leakage"
    )
    split: SplitParameters
