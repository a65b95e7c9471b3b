"""API keys: who may ask, and what. The service knows their hashes alone.

A key is 32 random bytes, so that a plain SHA-256 of it can neither be guessed nor looked up; a slow
hash is for passwords.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from wine_quality.errors import WineQualityError

Scope = Literal["read", "write"]
SCOPES: tuple[Scope, ...] = ("read", "write")
_KEY_PREFIX = "wq_"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ApiKey:
    """A key as the service knows it.

    Attributes:
        name: Whose it is; stands in logs.
        scopes: What it allows: `read` (model, metrics, live data), `write` (predictions, ground
            truth).
        digest: SHA-256 of the key.
    """

    name: str
    scopes: frozenset[Scope]
    digest: bytes

    def line(self) -> str:
        """The key as it stands in the environment or the secret file."""
        scopes = "+".join(scope for scope in SCOPES if scope in self.scopes)
        return f"{self.name}:{scopes}:{self.digest.hex()}"


class ApiKeys:
    """All keys of a service.

    Args:
        keys: The keys; none of them leaves the service without guard.
    """

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._keys)

    @classmethod
    def read(cls, text: str, file: Path | None) -> Self:
        """Read keys from the environment and a secret file.

        Args:
            text: Lines (or parts between commas) `name:scope+scope:sha256`.
            file: File with such lines; empty ones and those with # are passed over.

        Raises:
            WineQualityError: If the file cannot be read or a line is no key.
        """
        if file is not None:
            try:
                text = f"{text}\n{file.read_text()}"
            except (OSError, UnicodeDecodeError) as error:
                raise WineQualityError(
                    f"The file of API keys {file} cannot be read ({type(error).__name__}): see "
                    "that it is there and may be read."
                ) from error
        lines = [line.strip() for line in re.split(r"[\n,]", text)]
        return cls(
            _parse(number, line)
            for number, line in enumerate(lines, 1)
            if line and not line.startswith("#")
        )

    def find(self, presented: str) -> ApiKey | None:
        """Whose key this is; None if it is nobody's.

        Every key is compared, and each in constant time: how long it takes tells nothing.
        """
        digest = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


def new_key(name: str, scopes: Iterable[Scope]) -> tuple[str, ApiKey]:
    """Make a key.

    Args:
        name: Whose it is.
        scopes: What it allows.

    Returns:
        The key, which is shown once and kept nowhere, and what the service is to know of it.

    Raises:
        WineQualityError: If the name cannot stand in a line.
    """
    if not _NAME.fullmatch(name):
        raise WineQualityError(f"{name!r} cannot name a key: use letters, digits, dots, - and _.")
    key = _KEY_PREFIX + secrets.token_urlsafe(32)
    return key, ApiKey(name, frozenset(scopes), hashlib.sha256(key.encode()).digest())


def _parse(number: int, line: str) -> ApiKey:
    # the line is not shown: somebody may have put the key itself there
    parts = line.split(":")
    if len(parts) == 3:
        name, given, digest = parts
        scopes = frozenset(scope for scope in SCOPES if scope in given.split("+"))
        if (
            _NAME.fullmatch(name)
            and _DIGEST.fullmatch(digest)
            and len(scopes) == len(given.split("+"))
        ):
            return ApiKey(name, scopes, bytes.fromhex(digest))
    raise WineQualityError(
        f"Line {number} of the API keys is none: write name:read+write:SHA256, as "
        "'python -m wine_quality.serving new-key' prints it."
    )
