"""Accepting a period of logged traffic as a version's reference: what has to be true of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from wine_quality.drift.acceptance_store import AcceptanceStore
from wine_quality.drift.accepted import (
    AcceptedPeriod,
    epochs_of_windows,
    in_force,
    make_reference,
)
from wine_quality.drift.incident_store import IncidentStore
from wine_quality.drift.profile_store import ProfileStore
from wine_quality.drift.reference import Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.sources import version_of
from wine_quality.drift.verdict_store import VerdictStore
from wine_quality.drift.vocabulary import UNFINISHED
from wine_quality.drift.window_names import in_words, span_in_words
from wine_quality.drift.windows import OF_VERSIONS
from wine_quality.errors import WineQualityError

RUN = "'kedro run --pipeline monitoring'"


class VersionKeys(Protocol):
    """What knows the registered versions."""

    def key(self, version: str) -> str:
        """Identify a version for good.

        Raises:
            WineQualityError: There is no such version.
        """


@dataclass(frozen=True)
class Proposal:
    """What a person wants to accept. Moments are UTC.

    Attributes:
        start: Where the period begins.
        end: Where it ends, without this moment itself.
        version: Whose traffic, as verdicts name it; None: the only one that has wines then.
        person: Who accepts it.
        note: Why.
        now: This moment.
    """

    start: datetime
    end: datetime
    version: str | None
    person: str
    note: str
    now: datetime

    @property
    def span(self) -> str:
        """When it is."""
        return f"{span_in_words(self.start, self.end)} UTC"


class Acceptance:
    """Accepts periods, with all that monitoring has kept of them."""

    def __init__(self, url: str, versions: VersionKeys, settings: DriftSettings) -> None:
        """Name the database.

        Args:
            url: The monitoring's database.
            versions: The registered versions.
            settings: How the log is counted and divided into windows.
        """
        self._url = url
        self._versions = versions
        self._settings = settings
        self._grain = settings.calendar.grain

    def accept(self, proposal: Proposal) -> AcceptedPeriod:
        """Make a period the reference of its version.

        Raises:
            WineQualityError: It cannot be one; the message says why and what to do.
        """
        if proposal.end <= proposal.start:
            raise WineQualityError(
                f"The period ends ({in_words(proposal.end)}) before it begins "
                f"({in_words(proposal.start)}): name a later --to."
            )
        for moment in (proposal.start, proposal.end):
            if moment.timestamp() % self._grain:
                raise WineQualityError(
                    f"{in_words(moment)} UTC is no whole hour, and wines are counted by the hour: "
                    "name whole hours."
                )
        with ProfileStore(self._url) as profiles:
            version = proposal.version or self._only_version(profiles, proposal)
            key = self._versions.key(version_of(version))
            registered = profiles.reference(key)
            if registered is None:
                raise WineQualityError(f"Version {version} was never judged: run {RUN} first.")
            hours = profiles.load(version, registered, self._grain).between(
                int(proposal.start.timestamp()), int(proposal.end.timestamp())
            )
        if not len(hours):
            raise WineQualityError(f"Version {version} has no counted wine in {proposal.span}.")
        self._check_verdicts(version, proposal)
        self._check_alerts(version, proposal)

        def make(known: list[AcceptedPeriod]) -> AcceptedPeriod:
            own = [
                period
                for period in in_force(known, version)
                if period.registered == registered.fingerprint
            ]
            before = _before(registered, own, proposal)
            reference, labelled = make_reference(hours, before, self._settings)
            return AcceptedPeriod(
                0, version, proposal.start, proposal.end, registered.fingerprint, reference,
                labelled, proposal.person, proposal.note, proposal.now,
            )  # fmt: skip

        with AcceptanceStore(self._url) as store:
            return store.accept(make)

    def _only_version(self, profiles: ProfileStore, proposal: Proposal) -> str:
        span = int(proposal.start.timestamp()), int(proposal.end.timestamp())
        found = profiles.versions_between(self._grain, *span)
        if not found:
            raise WineQualityError(
                f"No wine is counted in {proposal.span}: name a period with traffic, or run {RUN} "
                "to count what is new."
            )
        if len(found) > 1:
            names = " or ".join(f"--version '{name}'" for name in found)
            raise WineQualityError(f"Several versions have wines in {proposal.span}: add {names}.")
        return found[0]

    def _check_verdicts(self, version: str, proposal: Proposal) -> None:
        with VerdictStore(self._url) as store:
            judged = store.in_force_between(version, proposal.start, proposal.end)
        judged = judged[~judged["subject"].isin(OF_VERSIONS)]
        over = judged[judged["verdict"] != UNFINISHED]
        until = over["window_end"].max() if len(over) else None
        if until is None or until < proposal.end:
            known = f"only until {in_words(until)} UTC" if until else "not at all"
            raise WineQualityError(
                f"The period is not finished: version {version} has been judged {known} in "
                f"{proposal.span}. Name an earlier --to, or run {RUN} when it is over."
            )
        faulty = judged[judged["verdict"] == "data_quality"]
        if len(faulty):
            first = faulty.iloc[0]
            window = span_in_words(first["window_start"], first["window_end"])
            raise WineQualityError(
                f"{first['subject']} has the verdict data_quality in {window} ({first['reason']}): "
                "faulty values are no normal state. Name a period without."
            )

    def _check_alerts(self, version: str, proposal: Proposal) -> None:
        with IncidentStore(self._url) as store:
            incidents = store.incidents()
        for incident in incidents:
            for alert in incident.alerts:
                concerns = (
                    incident.model_version == version
                    and alert.verdict == "data_quality"
                    and alert.subject not in OF_VERSIONS
                    and alert.since < proposal.end
                    and (alert.resolved is None or alert.resolved > proposal.start)
                )
                if concerns:
                    raise WineQualityError(
                        f"Incident {incident.number} (data_quality of {alert.describe()}) lies in "
                        "the period: faulty values are no normal state. Name a period without."
                    )


def _before(registered: Reference, own: Sequence[AcceptedPeriod], proposal: Proposal) -> Reference:
    """What the version was compared with before the proposed period."""
    for period in own:
        if period.start < proposal.end and proposal.start < period.end:
            raise WineQualityError(
                f"Period {period.number} ({period.span}) is accepted already: take it back with "
                f"'kedro monitoring accept --withdraw {period.number}' first."
            )
    start = int(proposal.start.timestamp())
    return [e.reference for e in epochs_of_windows(registered, own) if e.since <= start][-1]
