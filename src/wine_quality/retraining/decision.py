"""Whether to train again, and whether it may be done now; nothing here trains."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any, Literal, Self

import pandas as pd
from pydantic import Field

from wine_quality.drift.alerts import Alert
from wine_quality.drift.log_engines import EVENT_TIME
from wine_quality.drift.reference import ALL
from wine_quality.drift.sources import name_traffic
from wine_quality.modelling.registry import RegisteredVersion
from wine_quality.parameters import Parameters

Action = Literal["keep", "retrain"]
RETRAIN: Action = "retrain"


class DecisionSettings(Parameters):
    """When a model is trained again."""

    force: bool = Field(description="Train again whatever the verdicts and the limits say")
    least_concept: float = Field(
        ge=0, description="Points of the error's rise that the wines must not explain"
    )
    least_drift_labels: int = Field(ge=1, description="Labels since a drift began that answer it")
    oldest_days: float | None = Field(
        default=None, gt=0, description="Age at which a champion is trained again; null: never"
    )
    least_labels: int = Field(ge=0, description="Usable labels, below which nothing is trained")
    cool_down_hours: float = Field(ge=0, description="Hours between two retrainings")
    most_in_vain: int = Field(
        ge=1, description="Retrainings in a row without a promotion, after which a person is asked"
    )


@dataclass(frozen=True)
class PastRetraining:
    """A retraining that came to an outcome.

    Attributes:
        decided_at: When it was decided, with a time zone.
        promoted: Whether its version became champion.
    """

    decided_at: datetime
    promoted: bool


@dataclass(frozen=True)
class Decision:
    """What is to be done, and why.

    Attributes:
        action: `retrain` or `keep`.
        causes: What speaks for training again, in words.
        obstacles: What keeps it from being done, in words.
        champion: The champion's version; None without one.
        labels: Usable labelled predictions.
        decided_at: When, ISO 8601 in UTC.
        undone: Why the newest promotion was undone before, in words; empty if it was not.
    """

    action: Action
    causes: tuple[str, ...]
    obstacles: tuple[str, ...]
    champion: str | None
    labels: int
    decided_at: str
    undone: str = ""

    @property
    def reason(self) -> str:
        """The decision in a sentence."""
        before = f"{self.undone}; " if self.undone else ""
        if self.action == RETRAIN:
            return f"{before}training again, because {'; '.join(self.causes)}"
        if not self.causes:
            return f"{before}nothing asks for another model"
        return f"{before}not now, though {'; '.join(self.causes)}: {'; '.join(self.obstacles)}"

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Read back what `to_dict` wrote."""
        values = {field.name: plain[field.name] for field in fields(cls) if field.name in plain}
        lists = {name: tuple(values[name]) for name in ("causes", "obstacles")}
        return cls(**values | lists)

    def to_dict(self) -> dict[str, Any]:
        """As JSON knows it; `from_dict` reads it back."""
        lists = {"causes": list(self.causes), "obstacles": list(self.obstacles)}
        return asdict(self) | lists | {"reason": self.reason}


def decide_retraining(
    champion: RegisteredVersion | None,
    alerts: Sequence[Alert],
    model_verdicts: pd.DataFrame,
    labels: pd.DataFrame,
    past: Sequence[PastRetraining],
    settings: DecisionSettings,
    now: datetime,
    sources: Collection[str] = (),
) -> Decision:
    """Decide whether to train again.

    Args:
        champion: The champion.
        alerts: What monitoring raised; open ones on the champion count.
        model_verdicts: Rows of `performance.judge_performance`.
        labels: Usable labelled predictions, with their event time.
        past: Retrainings that came to an outcome, the newest last.
        settings: What counts.
        now: The present, with a time zone.
        sources: Sources that monitoring sets apart, and whose wines may ask for another model, too.
    """
    causes: list[str] = []
    obstacles: list[str] = []
    if champion is None:
        obstacles.append("there is no champion: train one with 'kedro run --pipeline training'")
    else:
        traffics = {name_traffic(champion.version, source) for source in ("", *sources)}
        own = [a for a in alerts if a.is_open and a.model_version in traffics]
        judged = model_verdicts[model_verdicts["model_version"].isin(traffics)]
        causes += _decay(champion.version, own, judged, settings)
        causes += _drift(own, labels, settings)
        causes += _age(champion, settings, now)
        obstacles += [
            f"there is bad data ({alert.describe()})"
            for alert in own
            if alert.verdict == "data_quality"
        ]
    obstacles += _limits(len(labels), past, settings, now)
    if settings.force:
        causes.append("retraining.decision.force asks for it")
        # what a person asks for is held up by nothing but a missing champion
        obstacles = [] if champion else obstacles[:1]
    action: Action = RETRAIN if causes and not obstacles else "keep"
    return Decision(
        action,
        tuple(causes),
        tuple(obstacles),
        champion.version if champion else None,
        len(labels),
        now.astimezone(UTC).isoformat(timespec="seconds"),
    )


def _decay(
    version: str,
    alerts: Sequence[Alert],
    model_verdicts: pd.DataFrame,
    settings: DecisionSettings,
) -> list[str]:
    """Decay that the wines alone do not explain: another model may know better."""
    judged = model_verdicts[
        (model_verdicts["segment"] == ALL) & model_verdicts["verdict"].isin(["ok", "decayed"])
    ]
    if judged.empty:
        return []
    newest = judged.sort_values("window_end", kind="stable").iloc[-1]
    is_open = any(alert.verdict == "decayed" for alert in alerts)
    if not (is_open or newest["verdict"] == "decayed"):
        return []
    if not newest["concept"] >= settings.least_concept:
        return []
    return [
        f"version {version} decayed, and {newest['concept']:+.3f} points of its error's rise are "
        "not explained by the wines"
    ]


def _drift(alerts: Sequence[Alert], labels: pd.DataFrame, settings: DecisionSettings) -> list[str]:
    causes = []
    for alert in alerts:
        if alert.verdict == "drift":
            since = int((labels[EVENT_TIME] >= alert.since).sum()) if len(labels) else 0
            if since >= settings.least_drift_labels:
                causes.append(f"{alert.subject} drifted, and {since:,} labels came since")
    return causes


def _age(champion: RegisteredVersion, settings: DecisionSettings, now: datetime) -> list[str]:
    days = (now - champion.created_at) / timedelta(days=1)
    if settings.oldest_days is None or days < settings.oldest_days:
        return []
    return [f"version {champion.version} is {days:.0f} days old"]


def _limits(
    labels: int, past: Sequence[PastRetraining], settings: DecisionSettings, now: datetime
) -> list[str]:
    found = []
    if labels < settings.least_labels:
        found.append(
            f"there are {labels:,} usable labels, and {settings.least_labels:,} are needed"
        )
    if past:
        hours = (now - past[-1].decided_at) / timedelta(hours=1)
        if hours < settings.cool_down_hours:
            found.append(
                f"the last retraining began {hours:.1f} h ago, and {settings.cool_down_hours:g} h "
                "have to lie between two"
            )
    in_vain = len(list(takewhile(lambda retraining: not retraining.promoted, reversed(past))))
    if in_vain >= settings.most_in_vain:
        found.append(
            f"{in_vain} retrainings in a row led to no better model: a person has to look, then "
            "--params retraining.decision.force=true"
        )
    return found
