"""A headless browser's page, and what it asks for."""

import time
from dataclasses import dataclass, field
from typing import Any


def until(page: Any, condition: str, seconds: float = 60) -> None:
    """Wait for something on a page, whose security policy forbids Playwright's own way."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, (condition, page.inner_text("body"))
        page.wait_for_timeout(100)


@dataclass
class Phone:
    """A browser's page as wide as a phone, what it complains of and whom it asks."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda line: self.complaints.append(line.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
