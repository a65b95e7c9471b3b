"""Files that may lie in an object store: whatever fsspec reaches by an address like ``s3://…``.

Credentials and endpoint are found by the store's own client, never by this project. What such a
client tries again by itself is not tried again here.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import Any, BinaryIO
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem

from wine_quality.errors import WineQualityError

# other processes write to a store, too: what it held when it was last asked is no answer
fsspec.config.conf.setdefault("s3", {}).setdefault("use_listings_cache", False)


def is_address(path: str) -> bool:
    """Tell an address from a path of this machine."""
    return "://" in path


def address_of(files: Any, path: str) -> str:
    """Name a file the way a person does: by its path on this machine, else by its address.

    Args:
        files: An fsspec file system.
        path: A path as that file system has it.
    """
    address: str = files.unstrip_protocol(path)
    return address.removeprefix("file://")


@contextmanager
def write_whole(files: Any, path: str) -> Iterator[BinaryIO]:
    """Open a file that appears at its path only whole, when the block has ended well.

    Until then what was there before can be read; a block that fails leaves it as it was.

    Args:
        files: An fsspec file system.
        path: Where the file goes; its folder is made.
    """
    target = PurePosixPath(path)
    partial = f"{target.parent}/.{target.name}.{uuid4().hex}"
    if isinstance(files, LocalFileSystem):
        # a store has no folders, and would make the bucket if it may not look at it
        files.makedirs(str(target.parent), exist_ok=True)
    try:
        with files.open(partial, "wb") as file:
            yield file
        files.mv(partial, path)
    except BaseException:
        # what failed is what is told, not that it cannot be tidied up
        with suppress(Exception):
            files.rm_file(partial)
        raise


def find_store(address: str) -> tuple[Any, str]:
    """Find the file system of an address, and the path in it; asks nobody yet.

    Raises:
        WineQualityError: The address makes no sense, or an extra is missing.
    """
    try:
        files, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise WineQualityError(
            f"{address} cannot be used ({error}): add the extras with './just extras', or pip "
            "install 'wine-quality[s3]'."
        ) from error
    except ValueError as error:
        raise WineQualityError(
            f"{address} cannot be used ({error}): name a folder, or an address like "
            "s3://bucket/wines."
        ) from error
    return files, path


def check_place(address: str) -> None:
    """See that a folder in a store can be listed; whether anything is in it does not matter.

    Raises:
        WineQualityError: It cannot be.
    """
    files, path = find_store(address)
    try:
        files.ls(path)
    except Exception as error:
        for told in (error, error.__cause__):
            if told and is_from_store(told):
                raise WineQualityError(describe_trouble(told, address)) from error
        # nothing was written there yet
        if not isinstance(error, FileNotFoundError):
            raise


def is_from_store(error: object) -> bool:
    """Tell whether an error was raised by the client of a store."""
    # the client is an extra, so its classes are known by name only
    return type(error).__module__.partition(".")[0] in ("boto3", "botocore")


def describe_trouble(error: BaseException, place: str | None = None) -> str:
    """Say in one line that a store cannot be used, and why.

    Args:
        error: What its client raised.
        place: What was to be read or written, if that is known.
    """
    if type(error).__module__.startswith("boto3"):
        # it names the place that it failed to bring a file to, which is one of MLflow's
        place = None
    return (
        f"{place or 'The object store'} cannot be used ({_in_words(error)}): see that the bucket "
        "is there, that AWS_ENDPOINT_URL, where it is set, leads to the store that has it, and "
        "that your credentials may list, read and write there."
    )


def _in_words(error: BaseException) -> str:
    """Tell a client's error by what the store answered, or else as it tells itself."""
    answer = getattr(error, "response", {}).get("Error", {})
    if not answer:
        return str(error).rstrip(".")
    operation = getattr(error, "operation_name", "request")
    return f"{operation}: {answer.get('Code')}, {str(answer.get('Message')).rstrip('.')}"
