"""Fetches files over HTTP and keeps only those with the expected content."""

import hashlib
import os
import tempfile
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from wine_quality.errors import WineQualityError
from wine_quality.system.retrying import doubling, retry

CHUNK = 1 << 16
# urllib tells of an address that makes no sense by a ValueError
_TROUBLES = (OSError, HTTPException, ValueError)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_file(url: str, path: Path, sha256: str, timeout: float, attempts: int) -> None:
    """Fetch a file with a progress bar; it appears at its path only whole and verified.

    A failed try is repeated after 1, 2, 4, … seconds; a 4xx answer and a wrong content are not.

    Args:
        url: http or https address.
        path: Where the file goes; its folder is made.
        sha256: Expected content, in hex.
        timeout: Seconds without an answer before a try fails.
        attempts: Number of tries.

    Raises:
        WineQualityError: The file cannot be fetched, or its content is not the expected one.
    """
    if not url.startswith(("http://", "https://")):
        raise WineQualityError(f"{url} is neither an http nor an https address.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WineQualityError(f"{path.parent} cannot be made: {error.strerror}.") from error
    try:
        retry(
            lambda: _fetch_once(url, path, sha256, timeout),
            may_pass=_may_pass,
            pauses=doubling(attempts),
        )
    except _TROUBLES as error:
        raise WineQualityError(
            f"{url} cannot be fetched ({error}): check the network and the address in "
            f"download.sources, or put the file to {path} yourself."
        ) from error


def _may_pass(error: Exception) -> bool:
    refused = isinstance(error, HTTPError) and error.code < 500
    return isinstance(error, _TROUBLES) and not refused


def _fetch_once(url: str, path: Path, sha256: str, timeout: float) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            found = _stream(url, file, path.name, timeout)
        if found != sha256:
            raise WineQualityError(
                f"{url} has not the expected content (sha256 {found}, expected {sha256}): "
                "the file changed at its source. Check it, then correct download.sources."
            )
        partial.chmod(0o644)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _stream(url: str, file: BinaryIO, name: str, timeout: float) -> str:
    """Copy an address into an open file and return the sha256 of what came."""
    digest = hashlib.sha256()
    request = Request(url, headers={"User-Agent": "wine-quality"})  # noqa: S310 - scheme is checked
    with urlopen(request, timeout=timeout) as response:  # noqa: S310
        total = int(response.headers.get("Content-Length") or 0)
        received = 0
        with tqdm(total=total or None, desc=name, unit="B", unit_scale=True) as progress:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                digest.update(chunk)
                received += len(chunk)
                progress.update(len(chunk))
    if total and received < total:
        raise OSError(f"the connection ended after {received:,} of {total:,} bytes")
    return digest.hexdigest()
