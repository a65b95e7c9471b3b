"""What tests of alerts share: alerts, and servers that behave as services document they do."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from wine_quality.drift.alerts import Alert

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)


def alert(subject="pH", verdict="drift", since=FIRST, resolved=None, **others) -> Alert:
    plain = Alert(
        verdict, "1", subject, "all", since + HOUR, since, since - HOUR, since + HOUR, resolved,
        200, "because",
    )  # fmt: skip
    return replace(plain, **others)


@dataclass
class Service:
    """A stand-in for a service: what it was sent, and what it answers."""

    received: list = field(default_factory=list)
    headers: list = field(default_factory=list)
    bodies: list = field(default_factory=list)
    trouble: list = field(default_factory=list)
    """Answers (status, headers, body) that come first, whatever was sent."""

    def __call__(self, headers, body):
        self.headers.append(headers)
        self.bodies.append(body)
        if self.trouble:
            return self.trouble.pop(0)
        try:
            content = json.loads(body)
        except ValueError:
            return 400, {}, "invalid_payload"
        status, words = self.judge(content)
        if status < 300:
            self.received.append(content)
        return status, {}, words

    def judge(self, content):
        """A webhook takes whatever is JSON."""
        return 200, ""


class Slack(Service):
    """https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks"""

    def judge(self, content):
        parts = content.get("attachments", [])
        if not (content.get("text") or content.get("blocks") or parts):
            return 400, "no_text"
        if len(parts) > 100:
            return 400, "too_many_attachments"
        if len(content.get("text", "")) > 40_000:
            return 400, "msg_too_long"
        return 200, "ok"


class Teams(Service):
    """https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors"""

    def judge(self, content):
        if len(self.bodies[-1]) > 28 * 1024:
            return 413, '{"error": {"code": "RequestEntityTooLarge", "message": "too large"}}'
        (card,) = content["attachments"]
        if card["contentType"] != "application/vnd.microsoft.card.adaptive":
            return 400, '{"error": {"code": "BadRequest", "message": "no adaptive card"}}'
        return 202, ""


class PagerDuty(Service):
    """https://developer.pagerduty.com/docs/send-alert-event"""

    def judge(self, content):
        errors = []
        if len(content.get("routing_key", "")) != 32:
            errors.append("'routing_key' is invalid (must be 32 characters)")
        if content.get("event_action") not in ("trigger", "acknowledge", "resolve"):
            errors.append("'event_action' is invalid")
        elif content["event_action"] == "trigger":
            payload = content.get("payload", {})
            if not payload.get("summary") or len(payload["summary"]) > 1024:
                errors.append("'payload.summary' is missing or longer than 1024 characters")
            if payload.get("severity") not in ("critical", "error", "warning", "info"):
                errors.append("'payload.severity' is invalid")
            if not payload.get("source"):
                errors.append("'payload.source' is missing or blank")
        elif not content.get("dedup_key"):
            errors.append("'dedup_key' is missing")
        if errors:
            return 400, json.dumps({"status": "invalid event", "errors": errors})
        return 202, json.dumps({"status": "success", "dedup_key": content.get("dedup_key", "1")})
