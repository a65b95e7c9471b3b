"""Sending what has become of incidents: each change once, what goes on again after a while."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from wine_quality.database.locks import Confirm
from wine_quality.drift.alerts import LOG_CHANNEL, SEVERITIES, Alert, AlertSettings, Severity
from wine_quality.drift.channels import Channel, ChannelError, open_channels
from wine_quality.drift.incident_store import IncidentStore
from wine_quality.drift.messages import (
    Cost,
    Message,
    message_of,
    rollback_message,
    trial_message,
)
from wine_quality.drift.vocabulary import count_of

logger = logging.getLogger(__name__)


def notify(
    raised: Sequence[Alert],
    store: IncidentStore,
    cost: Cost,
    settings: AlertSettings,
    now: datetime | None = None,
) -> list[Alert]:
    """Bring the incidents up to date, and send each channel what it is owed.

    What a channel does not take stays owed, so that the next run tries again; the run goes on.

    Args:
        raised: All alerts of this run.
        store: The incidents.
        cost: Says what an incident costs.
        settings: Where to send, how often to try, when to send again.
        now: The moment of the run, if it is not this one.

    Returns:
        All alerts in the same order, with the number of their incident, `new` and `sent`.

    Raises:
        WineQualityError: Another run sends for too long, or the database cannot be used.
    """
    now = now or datetime.now(UTC)
    channels = open_channels(settings)
    lowest = {channel.name: channel.lowest_severity for channel in channels}
    with store.turn() as confirm:
        current = store.follow(raised, lowest, settings, now)
        for channel in channels:
            _deliver(channel, store, cost, settings, confirm)

        def is_heard(severity: Severity, takers: frozenset[str]) -> bool:
            """Whether somebody was sent it: the log alone counts where nobody else is to be."""
            rank = SEVERITIES.index(severity)
            wanted = {name for name, low in lowest.items() if SEVERITIES.index(low) <= rank}
            return bool(takers - {LOG_CHANNEL}) or (bool(takers) and wanted <= {LOG_CHANNEL})

        sent = store.settle(is_heard, now)
    return [replace(alert, sent=alert.incident in sent) for alert in current]


def _deliver(
    channel: Channel, store: IncidentStore, cost: Cost, settings: AlertSettings, confirm: Confirm
) -> None:
    """Send a channel what it is owed, until it refuses something."""
    owed = store.owed(channel.name)
    messages = [message_of(notification, cost, settings) for notification in owed]
    for part in channel.batches(len(owed)):
        # a lock that was lost may be another run's
        confirm()
        try:
            channel.send(messages[part], settings)
        except ChannelError as error:
            waiting = owed[part.start or 0 :]
            logger.warning(
                "Channel %s did not take %s (%s); the next run tries again",
                channel.name,
                count_of(len(waiting), "message"),
                error,
            )
            store.mark_refused(waiting, str(error))
            return
        store.mark_sent(owed[part], datetime.now(UTC))


def try_channels(settings: AlertSettings) -> list[tuple[str, str | None]]:
    """Send a test message to each channel of the settings.

    Returns:
        The channels' names, each with why it did not take the message; None where it did.
    """
    return _send(trial_message(settings), open_channels(settings)[1:], settings)


def announce_rollback(reason: str, settings: AlertSettings) -> None:
    """Tell each channel once that a promotion was undone; a refusal is a line in the log."""
    message = rollback_message(reason, settings)
    takers = [
        channel
        for channel in open_channels(settings)
        if SEVERITIES.index(channel.lowest_severity) <= SEVERITIES.index("error")
    ]
    for name, refusal in _send(message, takers, settings):
        if refusal is not None:
            logger.warning("Channel %s did not take a message (%s)", name, refusal)


def _send(
    message: Message, channels: Sequence[Channel], settings: AlertSettings
) -> list[tuple[str, str | None]]:
    outcomes: list[tuple[str, str | None]] = []
    for channel in channels:
        try:
            channel.send([message], settings)
        except ChannelError as error:
            outcomes.append((channel.name, str(error)))
        else:
            outcomes.append((channel.name, None))
    return outcomes
