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
from wine_quality.drift.sources import MODEL_VERSION, name_traffic
from wine_quality.modelling.registry import FITTED_TAG, RegisteredVersion
from wine_quality.parameters import Parameters
from wine_quality.wines import PREDICTION, QUALITY

Action = Literal["keep", "retrain"]
RETRAIN: Action = "retrain"
SINCE_TAG = "judged_since"
"""Tag of a version: since when wines are judged as they are now, ISO 8601; see `Decision`."""
FEWEST_SINCE = 100
"""Labels since that moment, below which all labels count: nothing can be judged by so few."""


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
    most_growth: float | None = Field(
        gt=1,
        description="Usable wines, as a multiple of those that the champion was fitted on, from "
        "which it is trained again; null: never for that",
    )
    cool_down_hours: float = Field(ge=0, description="Hours between two retrainings")
    least_new_share: float = Field(
        ge=0,
        description="Labels that have to come after a retraining in vain before the next one for "
        "the same cause, as a share of those that it had",
    )
    most_in_vain: int = Field(
        ge=1,
        description="Retrainings in a row for the same cause without a promotion, after which a "
        "person is asked",
    )


@dataclass(frozen=True)
class PastRetraining:
    """A retraining that came to an outcome.

    Attributes:
        decided_at: When it was decided, with a time zone.
        promoted: Whether its version became champion.
        labels: Usable labels that it had.
        newest_label: Event time of the newest of them; None where it is not known.
    """

    decided_at: datetime
    promoted: bool
    labels: int = 0
    newest_label: datetime | None = None


@dataclass(frozen=True)
class _Cause:
    """What speaks for training again, in words, and when it began in event time, if it has."""

    words: str
    began: datetime | None = None


@dataclass(frozen=True)
class Decision:
    """What is to be done, and why.

    Attributes:
        action: `retrain` or `keep`.
        causes: What speaks for training again, in words.
        obstacles: What keeps it from being done, in words.
        champion: The champion's version; None without one.
        labels: Usable labelled predictions, those of `since` on.
        decided_at: When, ISO 8601 in UTC.
        undone: Why the newest promotion was undone before, in words; empty if it was not.
        since: Since when wines are judged as they are now, ISO 8601 in UTC: those judged before
            tell nothing about which model is better. Empty: always.
        newest_label: Event time of the newest usable label, likewise; empty without any.
    """

    action: Action
    causes: tuple[str, ...]
    obstacles: tuple[str, ...]
    champion: str | None
    labels: int
    decided_at: str
    undone: str = ""
    since: str = ""
    newest_label: str = ""

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
    raw_wines: int = 0,
) -> Decision:
    """Decide whether to train again.

    Where the champion decayed, and not because of the wines, they are judged otherwise than before:
    from then on labels since the decay began are those that count.

    Args:
        champion: The champion.
        alerts: What monitoring raised; open ones on the champion count.
        model_verdicts: Rows of `performance.judge_performance`.
        labels: Usable labelled predictions: event time, version, prediction and quality.
        past: Retrainings that came to an outcome, the newest last.
        settings: What counts.
        now: The present, with a time zone.
        sources: Sources that monitoring sets apart, and whose wines may ask for another model, too.
        raw_wines: Wines of the raw files, which count unless wines are judged otherwise since.
    """
    causes: list[_Cause] = []
    obstacles: list[str] = []
    since = None
    if champion is None:
        obstacles.append("there is no champion: train one with 'kedro run --pipeline training'")
    else:
        traffics = {name_traffic(champion.version, source) for source in ("", *sources)}
        own = [a for a in alerts if a.is_open and a.model_version in traffics]
        judged = model_verdicts[model_verdicts["model_version"].isin(traffics)]
        decay = _decay(champion.version, own, judged, labels, settings)
        since = _judged_since(champion, decay)
        if since is not None:
            recent = labels[labels[EVENT_TIME] >= since]
            # what a person asks for is done, with all labels if need be
            if len(recent) < FEWEST_SINCE and settings.force:
                since = None
            else:
                labels, raw_wines = recent, 0
        causes += decay
        causes += _drift(own, labels, settings)
        causes += _age(champion, settings, now)
        causes += _growth(champion, raw_wines + len(labels), settings)
        obstacles += [
            f"there is bad data ({alert.describe()})"
            for alert in own
            if alert.verdict == "data_quality"
        ]
    needed = max(settings.least_labels, FEWEST_SINCE if since else 0)
    obstacles += _too_few(len(labels), needed, since)
    obstacles += _limits(labels, past, causes, settings, now)
    if settings.force:
        causes.append(_Cause("retraining.decision.force asks for it"))
        # what a person asks for is held up by nothing but a missing champion
        obstacles = [] if champion else obstacles[:1]
    action: Action = RETRAIN if causes and not obstacles else "keep"
    return Decision(
        action,
        tuple(cause.words for cause in causes),
        tuple(obstacles),
        champion.version if champion else None,
        len(labels),
        now.astimezone(UTC).isoformat(timespec="seconds"),
        since=since.isoformat() if since else "",
        newest_label=labels[EVENT_TIME].max().isoformat() if len(labels) else "",
    )


def _judged_since(champion: RegisteredVersion, decay: Sequence[_Cause]) -> datetime | None:
    """Since when wines are judged as they are now: known from the champion, or found now."""
    moments = [cause.began for cause in decay if cause.began]
    if SINCE_TAG in champion.tags:
        moments.append(datetime.fromisoformat(champion.tags[SINCE_TAG]))
    return max(moments, default=None)


def _decay(
    version: str,
    alerts: Sequence[Alert],
    model_verdicts: pd.DataFrame,
    labels: pd.DataFrame,
    settings: DecisionSettings,
) -> list[_Cause]:
    """Decay that the wines alone do not explain: another model may know better.

    Monitoring judges all labels. Where the champion errs as usual by those that may train a model,
    it is the others that are wrong.
    """
    judged = model_verdicts[
        (model_verdicts["segment"] == ALL) & model_verdicts["verdict"].isin(["ok", "decayed"])
    ]
    if judged.empty:
        return []
    newest = judged.sort_values("window_end", kind="stable").iloc[-1]
    began = max((alert.since for alert in alerts if alert.verdict == "decayed"), default=None)
    if began is None and newest["verdict"] != "decayed":
        return []
    if not newest["concept"] >= settings.least_concept:
        return []
    start = newest["window_start"] if began is None else began
    answered = (labels[EVENT_TIME] >= start) & (labels[MODEL_VERSION] == version)
    error = (labels[PREDICTION] - labels[QUALITY])[answered].abs().mean()
    # none at all contradict nobody
    if error - newest["reference_mae"] < settings.least_concept:
        return []
    words = (
        f"version {version} decayed, and {newest['concept']:+.3f} points of its error's rise are "
        "not explained by the wines"
    )
    return [_Cause(words, began)]


def _drift(
    alerts: Sequence[Alert], labels: pd.DataFrame, settings: DecisionSettings
) -> list[_Cause]:
    causes = []
    for alert in alerts:
        if alert.verdict == "drift":
            since = int((labels[EVENT_TIME] >= alert.since).sum()) if len(labels) else 0
            if since >= settings.least_drift_labels:
                words = f"{alert.subject} drifted, and {since:,} labels came since"
                causes.append(_Cause(words, alert.since))
    return causes


def _growth(champion: RegisteredVersion, wines: int, settings: DecisionSettings) -> list[_Cause]:
    fitted = int(champion.tags.get(FITTED_TAG, 0))
    if not fitted or settings.most_growth is None or wines < settings.most_growth * fitted:
        return []
    words = f"there are {wines:,} usable wines, and version {champion.version} was fitted on "
    return [_Cause(f"{words}{fitted:,}")]


def _age(champion: RegisteredVersion, settings: DecisionSettings, now: datetime) -> list[_Cause]:
    days = (now - champion.created_at) / timedelta(days=1)
    if settings.oldest_days is None or days < settings.oldest_days:
        return []
    return [_Cause(f"version {champion.version} is {days:.0f} days old")]


def _too_few(labels: int, needed: int, since: datetime | None) -> list[str]:
    if labels >= needed:
        return []
    after = f" since {since:%Y-%m-%d %H:%M} UTC" if since else ""
    return [f"there are {labels:,} usable labels{after}, and {needed:,} are needed"]


def _limits(
    labels: pd.DataFrame,
    past: Sequence[PastRetraining],
    causes: Sequence[_Cause],
    settings: DecisionSettings,
    now: datetime,
) -> list[str]:
    found = []
    if past:
        hours = (now - past[-1].decided_at) / timedelta(hours=1)
        if hours < settings.cool_down_hours:
            found.append(
                f"the last retraining began {hours:.1f} h ago, and {settings.cool_down_hours:g} h "
                "have to lie between two"
            )
    # what was in vain before the newest cause began says nothing about it
    began = max((cause.began for cause in causes if cause.began), default=None)
    in_vain = len(list(takewhile(lambda one: _is_in_vain(one, began), reversed(past))))
    if in_vain:
        last = past[-1]
        # all of them where it is not known what it knew; older ones may have been left out since
        new = len(labels) - last.labels
        if last.newest_label is not None:
            new = int((labels[EVENT_TIME] > last.newest_label).sum())
        needed = round(last.labels * settings.least_new_share)
        if new < needed:
            found.append(
                f"the last retraining was in vain with {last.labels:,} labels: the next one needs "
                f"{needed:,} newer ones, and there are {max(new, 0):,}"
            )
    if in_vain >= settings.most_in_vain:
        found.append(
            f"{in_vain} retrainings in a row led to no better model: a person has to look, then "
            "--params retraining.decision.force=true"
        )
    return found


def _is_in_vain(past: PastRetraining, began: datetime | None) -> bool:
    knew = began is None or past.newest_label is None or past.newest_label >= began
    return knew and not past.promoted
