"""Parameters of the download pipeline."""

from pydantic import Field

from wine_quality.parameters import Parameters


class SourceFile(Parameters):
    """One file to fetch and the content it must have."""

    url: str | None = Field(
        default=None, description="Where to fetch it; none where that takes an account"
    )
    page: str = Field(description="The page that a person reads about the file")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class DownloadParameters(Parameters):
    """Parameters of the download pipeline."""

    folder: str = Field(description="Where the files go")
    timeout: float = Field(gt=0, description="Seconds without an answer before giving up")
    attempts: int = Field(ge=1, description="Tries of each file")
    sources: dict[str, SourceFile]
