"""Every decision to train again or not, in the monitoring's database: no two machines do it twice.

One run at a time decides and trains (`running.run_lock`), so that a retraining without an outcome
is one whose process was killed or failed. If it had registered its version, the next run goes on
with that; else it is marked as interrupted, and keeps nobody from the next.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

import sqlalchemy as sa

from wine_quality.drift.store_database import StoreDatabase
from wine_quality.drift.store_schema import RETRAININGS
from wine_quality.retraining.decision import RETRAIN, Decision, PastRetraining

_C = RETRAININGS.c
INTERRUPTED = "interrupted: its process ended before it came to an outcome"


class DecisionStore(StoreDatabase):
    """The decisions of all models in a SQLite file or a PostgreSQL database."""

    def decide(
        self, model: str, decide: Callable[[list[PastRetraining]], Decision]
    ) -> tuple[str, Decision]:
        """Decide in one transaction, which sees and writes what all machines share.

        Args:
            model: Name of the registered model.
            decide: Decides, given the retrainings that came to an outcome, the newest last.

        Returns:
            The decision's identifier, and the decision.
        """
        identifier = str(uuid4())
        begun = sa.and_(_C.model == model, _C.action == RETRAIN)
        query = sa.select(_C.decided_at, _C.promoted, _C.details).where(
            begun, _C.promoted.is_not(None)
        )
        interrupted = sa.update(RETRAININGS).where(begun, _C.outcome.is_(None))
        with self.transaction() as connection:
            connection.execute(interrupted.values(outcome=INTERRUPTED))
            past = [
                _past(moment, bool(won), Decision.from_dict(json.loads(details)))
                for moment, won, details in connection.execute(query.order_by(_C.decided_at))
            ]
            decision = decide(past)
            row = {
                "decision_id": identifier,
                "model": model,
                "decided_at": datetime.fromisoformat(decision.decided_at).replace(tzinfo=None),
                "action": decision.action,
                "champion": decision.champion,
                "reason": decision.reason,
                "details": json.dumps(decision.to_dict()),
            }
            connection.execute(sa.insert(RETRAININGS), row)
        return identifier, decision

    def unsettled(self, model: str) -> tuple[str, Decision] | None:
        """Find the newest retraining without an outcome: identifier and decision."""
        query = (
            sa.select(_C.decision_id, _C.details)
            .where(_C.model == model, _C.action == RETRAIN, _C.outcome.is_(None))
            .order_by(_C.decided_at.desc())
        )
        with self.transaction() as connection:
            row = connection.execute(query).first()
        return (row.decision_id, Decision.from_dict(json.loads(row.details))) if row else None

    def settle(self, identifier: str, version: str, promoted: bool, reason: str) -> None:
        """Add what a retraining came to."""
        outcome = {"version": version, "promoted": int(promoted), "outcome": reason}
        with self.transaction() as connection:
            connection.execute(
                sa.update(RETRAININGS).where(_C.decision_id == identifier).values(**outcome)
            )

    def newest(self, model: str, most: int) -> list[dict[str, str]]:
        """Read the newest decisions, the newest first: moment, action, version and reasons."""
        names = ("decided_at", "action", "champion", "version", "reason", "outcome")
        query = (
            sa.select(*(_C[name] for name in names))
            .where(_C.model == model)
            .order_by(_C.decided_at.desc())
            .limit(most)
        )
        with self.transaction() as connection:
            rows = connection.execute(query).all()
        return [
            {name: "" if value is None else str(value) for name, value in row._mapping.items()}
            for row in rows
        ]


def _past(moment: datetime, promoted: bool, decision: Decision) -> PastRetraining:
    # decisions of earlier versions do not say what their newest label was
    newest = datetime.fromisoformat(decision.newest_label) if decision.newest_label else None
    return PastRetraining(moment.replace(tzinfo=UTC), promoted, decision.labels, newest)
