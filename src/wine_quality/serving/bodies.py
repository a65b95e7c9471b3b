"""Request bodies: unpacked within a limit, and read as JSON that says nothing twice."""

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson
import pydantic_core

from wine_quality.serving.problems import FieldError, ProblemError, unusable

ENCODINGS = (b"identity", b"gzip")
"""Content encodings that a body may have."""
_GZIP = 16 + zlib.MAX_WBITS


def too_large(limit: int) -> ProblemError:
    """The problem of a body beyond its limit."""
    return ProblemError(413, f"The body is larger than {limit} bytes: send fewer wines at once.")


def unpack(body: bytes, encoding: bytes, limit: int) -> bytes:
    """Undo a body's content encoding.

    No more than the limit is ever unpacked, whatever the body would grow to.

    Args:
        body: As it was sent.
        encoding: One of `ENCODINGS`.
        limit: Most bytes that it may have afterwards.

    Raises:
        ProblemError: 413 if it would be larger; 400 if it is not what it says.
    """
    if encoding == b"identity":
        return body
    packed = zlib.decompressobj(_GZIP)
    try:
        plain = packed.decompress(body, limit + 1)
    except zlib.error:
        raise ProblemError(400, "The body is no gzip, which its Content-Encoding says.") from None
    if len(plain) > limit:
        raise too_large(limit)
    if not packed.eof:
        raise ProblemError(400, "The gzip body breaks off: send it whole.")
    if packed.unused_data:
        # a second member would unpack to something that was never counted
        raise ProblemError(400, "Something follows the gzip body: send one member alone.")
    return plain


def parse_json(body: bytes) -> Any:
    """Read a body as JSON; NaN and infinities are read too, as Python's own writer makes them.

    Raises:
        ProblemError: 422 if it is not JSON, or an object in it gives a name twice.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = _parse_with_nan(body)
    if not _gives_all_names_once(body, content) and (names := _repeated_names(body)):
        mistakes = [
            FieldError(field=name, message="is given twice: give it once") for name in names
        ]
        raise unusable(mistakes)
    return content


def _parse_with_nan(body: bytes) -> Any:
    try:
        return pydantic_core.from_json(body, allow_inf_nan=True)
    except ValueError as error:
        mistake = FieldError(field="body", message=f"is not JSON: {error}")
        raise ProblemError(422, "The body is not JSON.", errors=[mistake]) from None


def _gives_all_names_once(body: bytes, content: Any) -> bool:
    """Whether it is certain that no name was given twice; parsers keep the last without a word.

    A colon stands after every name and inside of texts, nowhere else. Where the texts hold no
    escapes, as many colons in the body as names and texts account for leave none for a name that
    was lost.
    """
    if b"\\" in body:
        return False
    colons = body.count(b":")
    if type(content) is dict and colons == len(content):
        return True
    return colons == _names(content) or colons == _names_and_colons(content)


def _names(content: Any) -> int:
    """Names of an object and of the objects in its lists: most bodies have no more."""
    if type(content) is not dict:
        return 0
    lists = (value for value in content.values() if type(value) is list)
    return len(content) + sum(len(x) for rows in lists for x in rows if type(x) is dict)


def _names_and_colons(content: Any) -> int:
    """All names, and all colons inside of names and texts."""
    total, pending = 0, [content]
    while pending:
        value = pending.pop()
        if type(value) is dict:
            total += len(value) + "".join(value).count(":")
            pending.extend(value.values())
        elif type(value) is list:
            pending.extend(value)
        elif type(value) is str:
            total += value.count(":")
    return total


def _repeated_names(body: bytes) -> Sequence[str]:
    """The names that an object gives twice, each once."""
    found: dict[str, None] = {}

    def collect(pairs: list[tuple[str, Any]]) -> None:
        if len(dict(pairs)) < len(pairs):
            times = Counter(name for name, _ in pairs)
            found.update(dict.fromkeys(name for name, n in times.items() if n > 1))

    try:
        # the value of a number does not matter here, and very long ones are refused
        json.loads(body, object_pairs_hook=collect, parse_int=float)
    except (ValueError, RecursionError):
        raise ProblemError(422, "The body is not JSON.") from None
    return list(found)
