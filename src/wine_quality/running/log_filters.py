"""Keeps out of the log what no one who reads it can act on."""

import logging

KNOWN_NOISE = (
    # mlflow, about a model wrapper inside kedro-mlflow; it forces the warning past any filter
    "Add type hints to the `predict` method",
    # mlflow, with a stack trace of what it raises anyway
    "SQLAlchemy database error. The following exception is caught.",
)


class WithoutTexts(logging.Filter):
    """Drops records that hold one of some texts.

    Args:
        texts: The texts.
    """

    def __init__(self, *texts: str) -> None:
        super().__init__()
        self._texts = texts

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is worth showing."""
        message = record.getMessage()
        return not any(text in message for text in self._texts)


NODE_FAILURES = WithoutTexts("failed with error")
"""For Kedro's logger of nodes, where the error that stopped a node is shown to a person anyway."""
