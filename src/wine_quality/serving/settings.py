"""What the prediction service can be told, by flag or by environment variable."""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from wine_quality.errors import WineQualityError
from wine_quality.system.project import project_folder

PREFIX = "WINE_QUALITY_"
MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Variable in which prometheus_client finds the folder that all workers share."""
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class ServiceSettings(BaseSettings):
    """The service's settings; the variable of `port` is `WINE_QUALITY_PORT`, and so on.

    The defaults fit a checkout in which `kedro run` has run, from any folder inside it.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True
    )

    host: str = Field("127.0.0.1", description="Address to bind to; API keys guard all others")
    port: int = Field(8000, ge=0, le=65535, description="Port; 0 takes a free one")
    workers: int = Field(1, ge=1, le=64, description="Processes that answer")
    tracking_uri: str = Field(
        default_factory=lambda: f"sqlite:///{project_folder()}/data/mlflow.db",
        description="MLflow tracking server",
    )
    registered_model: str = Field("wine-quality", description="Name in the model registry")
    alias: str = Field("champion", description="Alias whose version answers")
    trusted_types: str = Field(
        "", description="Types of a team's own that the model may hold, joined by commas"
    )
    log_url: str = Field(
        default_factory=lambda: f"sqlite:///{project_folder()}/data/inference_log.db",
        repr=False,
        description="Database of the inference log",
    )
    api_keys: str = Field(
        "", repr=False, description="Lines name:scope+scope:sha256 of those who may ask"
    )
    api_keys_file: Path | None = Field(
        None, description="File of lines name:scope+scope:sha256, which new-key prints"
    )
    reload_s: float = Field(2.0, gt=0, description="Seconds between two looks at the registry")
    retry_refused_s: float = Field(60.0, gt=0, description="Seconds until a refused version's turn")
    batch_limit: int = Field(5_000, ge=1, description="Most wines or labels in one request")
    body_limit: int = Field(4 * 1024 * 1024, ge=1024, description="Most bytes in a request's body")
    time_limit_s: float = Field(15.0, gt=0, description="Seconds that a request may take")
    rate_limit: float = Field(
        0.0, ge=0, description="Requests a second for each key, or address without keys; 0: no end"
    )
    queue_rows: int = Field(20_000, ge=1, description="Most wines that wait for the log")
    shadow_share: float = Field(
        0.0, ge=0, le=1, description="Share of requests that the challenger answers for the log too"
    )
    shadow_rows: int = Field(
        5_000, ge=1, description="Most wines that wait for the challenger's shadow answers"
    )
    shadow_slow_ms: float = Field(
        20.0,
        gt=0,
        description="Milliseconds for which requests wait for the log, smoothed, from "
        "which on shadow answers are dropped",
    )
    canary_share: float = Field(
        0.0, ge=0, le=1, description="Share of clients whom the challenger answers"
    )
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Path prefix that a proxy leaves before all paths, like /wines",
    )
    log_all_requests: bool = Field(
        False, description="Whether answered predictions get a line, which stand in the log anyway"
    )

    @classmethod
    def from_environment(cls, **flags: Any) -> Self:
        """Read the settings.

        Args:
            flags: Settings that were given by name and go before; None counts as not given.

        Raises:
            WineQualityError: If a value cannot be used; the message names it.
        """
        try:
            return cls(**{name: value for name, value in flags.items() if value is not None})
        except ValidationError as error:
            mistakes = "; ".join(
                f"{PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()
            )
            raise WineQualityError(f"The service's settings cannot be used: {mistakes}.") from None

    def to_environment(self) -> dict[str, str]:
        """The settings as variables, for worker processes; `from_environment` reads them back."""
        return {
            PREFIX + name.upper(): str(value)
            for name, value in self.model_dump().items()
            if value is not None
        }
