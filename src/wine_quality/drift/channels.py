"""Where messages about incidents are sent: the log, webhooks that take JSON, apprise's services.

A channel that does not take a message says why in its own words, and no address appears in them:
addresses of chats and pagers are secrets.
"""

import hashlib
import hmac
import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from string import Template
from typing import TYPE_CHECKING, Any, Protocol

import requests

from wine_quality.drift.alerts import LOG_CHANNEL, AlertSettings, ChannelSettings, Severity
from wine_quality.drift.messages import FORMAT_VERSION, Message, digest
from wine_quality.system.retrying import asked_pause, doubling, retry

if TYPE_CHECKING:
    from apprise.plugins.base import NotifyBase

logger = logging.getLogger(__name__)

MOST_MESSAGES, MOST_LINES = 5, 10
"""Messages that people are sent one by one, and lines of the log; more come as one."""
LONGEST_TEXT = 4_000
"""Characters of a message to people; many services take less, and say so to apprise."""
SHORTER = {"NotifyPagerDuty": 1_024}
"""Services that take less than apprise 1.13 knows."""
LONGEST_WORDS = 200
"""Characters of what a channel says."""
SIGNATURE = "X-Wine-Quality-Signature-256"
PASSING = frozenset({408, 425, 429})
"""Statuses below 500 after which another try may help."""


class ChannelError(Exception):
    """A channel has not taken a message.

    Attributes:
        may_pass: Whether another try may help.
        retry_after: Seconds that it asks to wait, if it does.
    """

    def __init__(self, words: str, may_pass: bool, retry_after: float | None = None) -> None:
        """Take what the channel said.

        Args:
            words: Why, in one line.
            may_pass: Whether another try may help.
            retry_after: Seconds that it asks to wait.
        """
        super().__init__(words)
        self.may_pass = may_pass
        self.retry_after = retry_after


class Sender(Protocol):
    """Sends messages to one place."""

    most_at_once: int | None
    """Messages that are sent one by one, beyond which they are put into one; None: always so."""

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            ChannelError: It was not taken.
        """


@dataclass(frozen=True)
class Channel:
    """A place for messages.

    Attributes:
        name: What it is called.
        lowest_severity: Of the incidents that it is sent.
        sender: Sends there; a text says why there is none.
    """

    name: str
    lowest_severity: Severity
    sender: Sender | str

    def batches(self, count: int) -> list[slice]:
        """Say which of so many messages are sent together."""
        if isinstance(self.sender, str) or self.sender.most_at_once is None:
            together = False
        else:
            together = count > self.sender.most_at_once
        return [slice(count)] if together else [slice(k, k + 1) for k in range(count)]

    def send(self, messages: Sequence[Message], settings: AlertSettings) -> None:
        """Send messages as one, trying again while that may help.

        Raises:
            ChannelError: They were not taken.
        """
        if isinstance(self.sender, str):
            raise ChannelError(self.sender, may_pass=False)
        sender = self.sender
        message = messages[0] if len(messages) == 1 else digest(messages, settings)
        retry(
            lambda: sender.send(message),
            may_pass=lambda error: isinstance(error, ChannelError) and error.may_pass,
            pauses=doubling(settings.attempts),
            until=time.monotonic() + settings.patience,
        )


def open_channels(settings: AlertSettings) -> list[Channel]:
    """Find the channels of the settings, the log first; one with a mistake says so when used."""
    channels = [Channel(LOG_CHANNEL, "warning", _Log())]
    for given in settings.channels:
        sender: Sender | str
        try:
            sender = _sender(given, settings.timeout)
        except ChannelError as error:
            sender = str(error)
        channels.append(Channel(given.name, given.lowest_severity, sender))
    return channels


def _sender(given: ChannelSettings, timeout: float) -> Sender:
    url = _filled(given.url)
    # its own addresses of chats begin with https, too
    service = _service(url)
    if service is not None:
        service.socket_connect_timeout = service.socket_read_timeout = timeout
        return _Apprise(service)
    if url.startswith(("http://", "https://")):
        return _Webhook(url, _filled(given.secret) if given.secret else None, timeout)
    scheme = url.partition("://")[0] if "://" in url else ""
    raise ChannelError(
        f"its url{f' with the scheme {scheme!r}' if scheme else ''} is none that apprise knows, "
        "or something is missing in it: see https://appriseit.com/services/",
        may_pass=False,
    )


def _filled(text: str) -> str:
    """Put the values of environment variables into a text."""
    try:
        return Template(text).substitute(os.environ)
    except KeyError as error:
        raise ChannelError(
            f"the environment variable {error.args[0]} is not set", may_pass=False
        ) from error
    except ValueError as error:
        raise ChannelError(
            "its url or secret has a dollar sign without a name: write $$ for the sign itself",
            may_pass=False,
        ) from error


class _Log:
    """The log of the run."""

    most_at_once: int | None = MOST_LINES

    def send(self, message: Message) -> None:
        more = f"; {message.heading.rstrip(':')}" if message.details else ""
        logger.warning("%s. %s%s", message.title, message.summary, more)


class _Webhook:
    """A server that takes JSON, see docs/how-to/alert-channels.md."""

    most_at_once: int | None = None

    def __init__(self, url: str, secret: str | None, timeout: float) -> None:
        self._url, self._secret, self._timeout = url, secret, timeout

    def send(self, message: Message) -> None:
        content = {
            "version": FORMAT_VERSION,
            "sent_at": datetime.now(UTC).isoformat(),
            "title": message.title,
            **message.content,
        }
        body = json.dumps(content, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "wine-quality"}
        if self._secret:
            digested = hmac.new(self._secret.encode(), body, hashlib.sha256)
            headers[SIGNATURE] = f"sha256={digested.hexdigest()}"
        try:
            answer = requests.post(
                self._url, data=body, headers=headers, timeout=self._timeout, allow_redirects=False
            )
        except requests.RequestException as error:
            raise _unreached(error) from error
        if not 200 <= answer.status_code < 300:
            raise _refused(answer)


class _Apprise:
    """A service that apprise knows: chats, pagers, mail."""

    most_at_once: int | None = MOST_MESSAGES

    def __init__(self, service: "NotifyBase") -> None:
        self._service = service

    def send(self, message: Message) -> None:
        from apprise import NotifyFormat
        from apprise.common import OverflowMode

        service = self._service
        # where there are no titles it goes into the text
        room = min(LONGEST_TEXT, service.body_maxlen, SHORTER.get(type(service).__name__, 10**6))
        if service.title_maxlen <= 0:
            room -= len(message.title) + 4
        with _listening() as heard:
            sent = service.notify(
                title=_cut(message.title, service.title_maxlen),
                body=message.text(max(room, 40)),
                notify_type=_notify_type(message),
                body_format=NotifyFormat.TEXT,
                overflow=OverflowMode.TRUNCATE,
            )
        if not sent:
            raise heard.error()


def _cut(text: str, longest: int) -> str:
    return text[:longest] if longest > 0 else text


def _service(url: str) -> "NotifyBase | None":
    """The service of an address; None if apprise knows none."""
    from apprise import Apprise, AppriseAsset
    from apprise.common import PersistentStoreMode

    asset = AppriseAsset(app_id="wine-quality", storage_mode=PersistentStoreMode.MEMORY)
    with _listening():
        found = Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    return found or None


def _notify_type(message: Message) -> Any:
    from apprise import NotifyType

    if message.severity is None:
        return NotifyType.INFO
    if message.is_over:
        return NotifyType.SUCCESS
    return NotifyType.WARNING if message.severity == "warning" else NotifyType.FAILURE


class _Heard(logging.Handler):
    """What a service answered, which apprise keeps to itself, and what apprise logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.answer: requests.Response | None = None
        self.failure: requests.RequestException | None = None
        self.logged: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.logged.append(record.getMessage())

    def error(self) -> ChannelError:
        if self.failure is not None:
            return _unreached(self.failure)
        # a service may refuse with status 200 and say so in the body alone
        if self.answer is not None:
            return _refused(self.answer)
        return ChannelError(_one_line("; ".join(self.logged)) or "it gave no reason", may_pass=True)


@contextmanager
def _listening() -> Iterator[_Heard]:
    """Hear what requests of this thread are answered, and what apprise would log."""
    heard, own, send = _Heard(), threading.get_ident(), requests.Session.send

    def send_and_hear(self: requests.Session, request: Any, **options: Any) -> requests.Response:
        if threading.get_ident() != own:
            return send(self, request, **options)
        heard.answer = heard.failure = None
        try:
            heard.answer = send(self, request, **options)
        except requests.RequestException as error:
            heard.failure = error
            raise
        return heard.answer

    log = logging.getLogger("apprise")
    propagate, log.propagate = log.propagate, False
    log.addHandler(heard)
    requests.Session.send = send_and_hear  # type: ignore[method-assign]
    try:
        yield heard
    finally:
        requests.Session.send = send  # type: ignore[method-assign]
        log.removeHandler(heard)
        log.propagate = propagate


def _refused(answer: requests.Response) -> ChannelError:
    status = answer.status_code
    words = _one_line(answer.text) or answer.reason or ""
    return ChannelError(
        f"{status} {words}".strip(),
        may_pass=status >= 500 or status in PASSING,
        retry_after=asked_pause(answer.headers.get("retry-after")),
    )


def _unreached(error: requests.RequestException) -> ChannelError:
    """Say why there was no answer; the error's own text has the address."""
    if isinstance(error, requests.Timeout):
        words = "it did not answer in time"
    elif isinstance(error, requests.exceptions.SSLError):
        words = "its certificate is not accepted"
    elif isinstance(error, requests.ConnectionError):
        words = "nothing answers at its address"
    else:
        words = f"its address cannot be used ({type(error).__name__})"
    return ChannelError(words, may_pass=isinstance(error, requests.ConnectionError))


def _one_line(text: str) -> str:
    line = " ".join(re.sub(r"<[^>]*>", " ", text).split())
    return line if len(line) <= LONGEST_WORDS else f"{line[: LONGEST_WORDS - 1]}…"
