"""Parameters of the processing pipeline."""

from typing import Literal

from pydantic import Field, model_validator

from wine_quality.parameters import Parameters

Finding = Literal["rejected_rows", "leakage"]


class SplitParameters(Parameters):
    """How wines are divided into training and held-out wines."""

    method: Literal["grouped", "file"] = Field(
        description="`grouped`: seeded, stratified by type and quality, equal wines on one side; "
        "`file`: one source file is held out as it stands"
    )
    held_out_share: float = Field(
        gt=0,
        le=0.5,
        description="Share of wines held out (`grouped`), as one part of a whole number of equal "
        "parts: 0.2 is one of five, 0.3 one of three",
    )
    held_out_file: str | None = Field(
        default=None, description="Name of the file held out (`file`)"
    )
    seed: int = Field(ge=0)

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
