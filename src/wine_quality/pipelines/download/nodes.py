"""Node of the download pipeline: raw files, each with the content it must have."""

import logging
from pathlib import Path
from typing import Any

from wine_quality.errors import WineQualityError
from wine_quality.pipelines.download.fetching import fetch_file, sha256_of
from wine_quality.pipelines.download.parameters import DownloadParameters
from wine_quality.system.storage import is_address

logger = logging.getLogger(__name__)


def fetch_raw_files(parameters: DownloadParameters) -> dict[str, Any]:
    """Bring the raw files into their folder; one that is there with the right content stays.

    Returns:
        Per file name: `sha256`, `bytes`, and whether it was `fetched` now.

    Raises:
        WineQualityError: There is nothing to fetch here, or no disk to fetch it to; a file cannot
            be fetched, or its content is not the expected one. No file is left half written.
    """
    if not parameters.sources:
        raise WineQualityError(
            "This environment has no files to fetch: add --env uci, or use the embedded sample."
        )
    if is_address(parameters.folder):
        raise WineQualityError(
            f"Files are fetched to a disk, and {parameters.folder} is none: add --params "
            "download.folder=FOLDER, then copy them there with a tool of the store."
        )
    folder = Path(parameters.folder)
    fetched = {}
    for name, source in parameters.sources.items():
        path = folder / name
        present = path.is_file() and sha256_of(path) == source.sha256
        if not present and source.url is None:
            raise WineQualityError(
                f"{name} cannot be fetched without an account: download it from {source.page} "
                f"and put it into {folder} (sha256 {source.sha256})."
            )
        if not present:
            fetch_file(
                str(source.url), path, source.sha256, parameters.timeout, parameters.attempts
            )
        logger.info("%s %s", path, "is there already" if present else "fetched and verified")
        fetched[name] = {
            "sha256": source.sha256,
            "bytes": path.stat().st_size,
            "fetched": not present,
        }
    return fetched
