"""Keeps out of the log what no one who reads it can act on."""

import logging

KNOWN_NOISE = (
    # mlflow, about a model wrapper inside kedro-mlflow; it forces the warning past any filter
    "Add type hints to the `predict` method",
)


class KnownNoise(logging.Filter):
    """Drops records that hold one of the known texts."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is worth showing."""
        message = record.getMessage()
        return not any(noise in message for noise in KNOWN_NOISE)
