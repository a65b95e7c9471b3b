"""Accepted periods in the monitoring's database: whatever machine judges by them."""

import json
from collections.abc import Callable
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from wine_quality.drift.accepted import AcceptedPeriod, Withdrawal
from wine_quality.drift.reference import Reference
from wine_quality.drift.store_database import StoreDatabase, without_zone
from wine_quality.drift.store_schema import ACCEPTED_PERIODS, PROFILE_HOURS
from wine_quality.errors import WineQualityError

_C = ACCEPTED_PERIODS.c


class AcceptanceStore(StoreDatabase):
    """The accepted periods in a SQLite file or a PostgreSQL database."""

    def periods(self) -> list[AcceptedPeriod]:
        """Read all periods, those that were withdrawn too, by number."""
        with self.transaction(writing=False) as connection:
            return _read(connection)

    def accept(self, make: Callable[[list[AcceptedPeriod]], AcceptedPeriod]) -> AcceptedPeriod:
        """Write down a period; the windows from its start on are judged again.

        Args:
            make: Makes it from all that there are, or says why it is none; whatever number it has
                is replaced.
        """
        with self.transaction() as connection:
            known = _read(connection)
            period = make(known)
            number = max((one.number for one in known), default=0) + 1
            row = {
                "period": number,
                "model_version": period.model_version,
                "registered": period.registered,
                "period_start": without_zone(period.start),
                "period_end": without_zone(period.end),
                "reference": json.dumps(period.reference.to_dict()),
                "labelled": period.labelled,
                "person": period.person,
                "note": period.note,
                "accepted_at": without_zone(period.accepted_at),
            }
            connection.execute(sa.insert(ACCEPTED_PERIODS), row)
            _judge_again(connection, period)
            return _read(connection)[-1]

    def withdraw(self, number: int, withdrawal: Withdrawal) -> AcceptedPeriod:
        """Take a period back; the windows from its start on are judged again.

        Raises:
            WineQualityError: There is none of this number, or it was withdrawn before.
        """
        with self.transaction() as connection:
            found = {period.number: period for period in _read(connection)}.get(number)
            if found is None:
                raise WineQualityError(
                    f"There is no accepted period {number}: 'kedro monitoring accepted' lists them."
                )
            if found.withdrawn is not None:
                raise WineQualityError(
                    f"Accepted period {number} was withdrawn by {found.withdrawn.person} on "
                    f"{found.withdrawn.at:%Y-%m-%d}."
                )
            values = {
                "withdrawn_by": withdrawal.person,
                "withdrawn_note": withdrawal.note,
                "withdrawn_at": without_zone(withdrawal.at),
            }
            own = _C.period == number
            connection.execute(sa.update(ACCEPTED_PERIODS).where(own).values(values))
            _judge_again(connection, found)
            return {period.number: period for period in _read(connection)}[number]


def _judge_again(connection: sa.Connection, period: AcceptedPeriod) -> None:
    hours = PROFILE_HOURS.c
    connection.execute(
        sa.update(PROFILE_HOURS)
        .where(
            hours.model_version == period.model_version,
            hours.reference == period.registered,
            hours.start_second >= int(period.start.timestamp()),
        )
        .values(recounted=1)
    )


def _read(connection: sa.Connection) -> list[AcceptedPeriod]:
    rows = connection.execute(sa.select(ACCEPTED_PERIODS).order_by(_C.period))
    return [_period(row) for row in rows]


def _period(row: Row[Any]) -> AcceptedPeriod:
    withdrawn = None
    if row.withdrawn_at is not None:
        withdrawn = Withdrawal(
            row.withdrawn_by, row.withdrawn_note, row.withdrawn_at.replace(tzinfo=UTC)
        )
    return AcceptedPeriod(
        number=row.period,
        model_version=row.model_version,
        start=row.period_start.replace(tzinfo=UTC),
        end=row.period_end.replace(tzinfo=UTC),
        registered=row.registered,
        reference=Reference.from_dict(json.loads(row.reference)),
        labelled=row.labelled,
        person=row.person,
        note=row.note,
        accepted_at=row.accepted_at.replace(tzinfo=UTC),
        withdrawn=withdrawn,
    )
