"""Whole answers, whose headers are written once."""

from collections.abc import Iterable
from typing import Any

import orjson
from starlette.responses import Response

JSON = b"application/json"


class Answer(Response):
    """A response that is all there.

    Starlette's own works out its headers from texts each time, which takes as long as reading a
    wine does.

    Args:
        content: The body.
        media_type: What it is, as the header says it.
        status: The HTTP status.
        headers: Further headers.
    """

    def __init__(
        self,
        content: bytes,
        media_type: bytes = JSON,
        status: int = 200,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        self.status_code = status
        self.body = content
        self.background = None
        self.raw_headers = [
            (b"content-type", media_type),
            (b"content-length", b"%d" % len(content)),
            *headers,
        ]


def json_answer(content: Any, headers: Iterable[tuple[bytes, bytes]] = ()) -> Answer:
    """An answer in JSON."""
    return Answer(orjson.dumps(content), headers=headers)
