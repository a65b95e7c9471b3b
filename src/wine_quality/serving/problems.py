"""What the service says when it cannot do what it is asked: RFC 9457 problem details."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from wine_quality.serving.answers import Answer

PROBLEM_MEDIA_TYPE = "application/problem+json"
NAMED = 20
"""So many refused values are named: more than the twelve of one wine."""
TITLES = {
    400: "Bad request",
    401: "API key needed",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Request came too slowly",
    409: "Idempotency key used before",
    413: "Request too large",
    415: "Media type not supported",
    422: "Values cannot be used",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available now",
}


class FieldError(BaseModel):
    """A value that was refused."""

    field: str = Field(description="Where it stands, like wines.3.alcohol")
    message: str = Field(description="What is wrong with it")


class Problem(BaseModel):
    """Why a request was not answered."""

    model_config = ConfigDict(title="Problem")

    type: str = Field("about:blank", description="Kind of problem; the status says it all")
    title: str = Field(description="The status in words")
    status: int = Field(description="The HTTP status")
    detail: str = Field(description="What is wrong, and what to do")
    errors: list[FieldError] = Field(
        [], description=f"The values that were refused, {NAMED} at most"
    )
    unknown: list[str] = Field([], description="The identifiers that are not known, all of them")


class ProblemError(Exception):
    """Ends a request with a problem."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        unknown: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Take what is said to the client.

        Args:
            status: The HTTP status, one of `TITLES`.
            detail: What is wrong, and what to do. No text of an exception, no secret.
            errors: The values that were refused.
            unknown: The identifiers that are not known.
            headers: Further headers of the answer.
        """
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.unknown = unknown
        self.headers = dict(headers or {})

    def response(self) -> Answer:
        """The answer that says so."""
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            content["errors"] = [e.model_dump() for e in self.errors]
        if self.unknown:
            content["unknown"] = list(self.unknown)
        # names of a client's columns may hold half a surrogate pair, which UTF-8 cannot
        return Answer(
            orjson.dumps(_encodable(content)),
            PROBLEM_MEDIA_TYPE.encode(),
            self.status,
            [(k.lower().encode(), v.encode()) for k, v in self.headers.items()],
        )


def unusable(mistakes: Sequence[FieldError]) -> ProblemError:
    """A problem of values that cannot be: 422, with the first of them by name."""
    n = len(mistakes)
    told = "1 value cannot be used" if n == 1 else f"{n} values cannot be used"
    more = f"; the first {NAMED} are named" if n > NAMED else ""
    return ProblemError(422, f"{told}{more}.", errors=mistakes[:NAMED])


def unavailable(detail: str, retry_after_s: int = 1) -> ProblemError:
    """A problem that passes by itself: 503, with the time after which to try again."""
    return ProblemError(503, detail, headers={"Retry-After": str(retry_after_s)})


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _encodable(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_encodable(v) for v in value]
    return value
