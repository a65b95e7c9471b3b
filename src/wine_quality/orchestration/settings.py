"""What `orchestration.yml` says: retries, how nodes run, and what runs when."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

from kedro.config import AbstractConfigLoader
from kedro.pipeline.node import Node
from pydantic import ConfigDict, Field, field_validator, model_validator

from wine_quality.parameters import Parameters
from wine_quality.system.importing import load_object

FILE = "orchestration.yml"
# Prefect takes no more pauses than this
MOST_TRIES = 51


class RetryRule(Parameters):
    """How often some nodes are tried, and after which failures."""

    nodes: tuple[str, ...] = Field(
        default=(), description="Node names; * stands for any characters"
    )
    tags: tuple[str, ...] = Field(default=(), description="Tags of nodes")
    errors: tuple[str, ...] = Field(default=(), description="Kinds of failures that may pass")
    tries: int = Field(default=1, ge=1, le=MOST_TRIES, description="Tries in all; 1: no retry")
    first_pause: float = Field(
        default=2, gt=0, description="Seconds before the second try; then doubled"
    )
    longest_pause: float = Field(default=60, gt=0, description="Seconds that no pause exceeds")
    jitter: float = Field(
        default=0.5, ge=0, le=1, description="Share of a pause that is left to chance"
    )

    def fits(self, node: Node) -> bool:
        """Tell whether the rule speaks of a node."""
        named = any(fnmatchcase(node.name, pattern) for pattern in self.nodes)
        return named or bool(node.tags & set(self.tags))


class DaskSettings(Parameters):
    """Where Dask computes, and what."""

    address: str | None = Field(
        default=None, description="Scheduler; none: processes of this machine"
    )
    processes: int = Field(default=2, ge=1, description="Processes, where there is no address")
    nodes: tuple[str, ...] = Field(description="Node names whose functions Dask computes")

    def computes(self, node: Node) -> bool:
        """Tell whether a node's function goes to Dask."""
        return any(fnmatchcase(node.name, pattern) for pattern in self.nodes)


class Deployment(Parameters):
    """What is run when."""

    pipeline: str | tuple[str, ...] = Field(
        description="Registered pipelines, joined by commas; each of a list is a run of its own"
    )
    env: str | None = Field(
        default=None, description="Kedro's environment; none: the one deployed from"
    )
    params: dict[str, Any] = Field(default_factory=dict, description="As after --params, nested")
    cron: str | None = Field(default=None, description="When, in five fields")
    interval: timedelta | None = Field(
        default=None, description="Seconds from one start to the next"
    )
    timezone: str = Field(default="UTC", description="Of the cron fields")
    tries: int | None = Field(
        default=None,
        ge=1,
        le=MOST_TRIES,
        description="Instead of those of the retry rules that retry",
    )
    concurrency_limit: int = Field(default=1, ge=1, description="Runs of this deployment at once")
    collision: Literal["enqueue", "cancel_new"] = Field(
        default="enqueue",
        description="What becomes of a run beyond the limit: it waits, or is cancelled",
    )
    dask: bool = Field(default=False, description="Whether Dask computes what `dask.nodes` names")
    paused: bool = Field(default=False, description="Whether the schedule waits to be switched on")

    @field_validator("cron")
    @classmethod
    def _is_a_cron_line(cls, value: str | None) -> str | None:
        from prefect.client.schemas.schedules import CronSchedule

        try:
            if value is not None:
                CronSchedule(cron=value)
        except ValueError as error:
            raise ValueError(f"{value!r} does not say when in five fields") from error
        return value

    @field_validator("interval")
    @classmethod
    def _goes_forward(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and value <= timedelta():
            raise ValueError("an interval is longer than nothing")
        return value

    @field_validator("timezone")
    @classmethod
    def _is_a_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"there is no timezone {value!r}") from error
        return value

    @model_validator(mode="after")
    def _has_one_schedule_at_most(self) -> Self:
        if self.cron and self.interval:
            raise ValueError("either cron or interval, not both")
        return self

    @property
    def runs(self) -> list[str]:
        """What is run, one after another: names joined by commas."""
        return [self.pipeline] if isinstance(self.pipeline, str) else list(self.pipeline)

    @property
    def pipelines(self) -> list[str]:
        """The names of the pipelines."""
        return [name for run in self.runs for name in split_names(run)]


class OrchestrationSettings(Parameters):
    """All that `orchestration.yml` says."""

    model_config = ConfigDict(title=FILE)

    errors: dict[str, tuple[str, ...]] = Field(
        description="Kinds of failures that may pass, each with class paths of exceptions"
    )
    retries: dict[str, RetryRule] = Field(description="The last rule that fits a node holds")
    nodes_at_once: int = Field(
        default=1, ge=1, description="Nodes that run side by side, as threads"
    )
    dask: DaskSettings
    work_pool: str = Field(min_length=1, description="Prefect's work pool, of type process")
    deployments: dict[str, Deployment]

    @field_validator("errors")
    @classmethod
    def _are_exceptions(cls, value: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        for paths in value.values():
            for path in paths:
                _load_error(path)
        return value

    @model_validator(mode="after")
    def _knows_its_kinds(self) -> Self:
        for name, rule in self.retries.items():
            for kind in rule.errors:
                if kind not in self.errors:
                    raise ValueError(
                        f"retries.{name}.errors: there is no kind {kind!r}, "
                        f"choose {', '.join(self.errors)}"
                    )
        return self

    def unknown_nodes(self, nodes: Iterable[Node]) -> list[str]:
        """List the names, in rules and for Dask, that no node bears."""
        names = [node.name for node in nodes]
        patterns = {f"retries.{name}.nodes": rule.nodes for name, rule in self.retries.items()}
        return [
            f"{where}: no node is called {pattern!r}"
            for where, wanted in (patterns | {"dask.nodes": self.dask.nodes}).items()
            for pattern in wanted
            if not any(fnmatchcase(name, pattern) for name in names)
        ]

    def rule_for(self, node: Node) -> RetryRule:
        """Find the rule that holds for a node; without any, it is tried once."""
        fitting = [rule for rule in self.retries.values() if rule.fits(node)]
        return fitting[-1] if fitting else RetryRule()

    def error_types(self, rule: RetryRule) -> tuple[type[Exception], ...]:
        """Load the exceptions that a rule retries."""
        return tuple(_load_error(path) for kind in rule.errors for path in self.errors[kind])


def read_settings(loader: AbstractConfigLoader) -> OrchestrationSettings:
    """Read the settings of an environment.

    Raises:
        pydantic.ValidationError: A key is unknown or missing, or a value is wrong.
        kedro.config.MissingConfigException: There is no such file.
    """
    return OrchestrationSettings.model_validate(loader["orchestration"])


def split_names(names: str) -> list[str]:
    """Split what is joined by commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


def _load_error(path: str) -> type[Exception]:
    try:
        found: type[Exception] = load_object(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(found, type) or not issubclass(found, Exception):
        raise ValueError(f"{path} is no exception")  # noqa: TRY004 - pydantic tells of these
    return found
