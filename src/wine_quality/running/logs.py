"""What is logged: as the configuration says, without what no one who reads it can act on."""

import logging
import os
from pathlib import Path

from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.framework.project import LOGGING

KNOWN_NOISE = (
    # mlflow, about a model wrapper inside kedro-mlflow; it forces the warning past any filter
    "Add type hints to the `predict` method",
    # mlflow, with a stack trace of what it raises anyway
    "SQLAlchemy database error. The following exception is caught.",
    # kedro-viz, on every run that is not of everything, and on every packaged one
    "Workflow tracking is disabled during partial pipeline runs",
    "No Kedro project found in",
)
NOISY_LOGGERS = (
    "py.warnings",
    "mlflow.store.db.utils",
    "kedro_viz.integrations.kedro.run_hooks",
    "kedro_viz.integrations.kedro.hooks_utils",
)
"""Loggers of these; Kedro takes no filter of ours in logging.yml."""


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


def step_in_words(node: str) -> str:
    """Name a node in plain words, such as `training: xgboost: tune candidate`."""
    return node.replace(".", ": ").replace("_", " ")


def configure_logging(conf_source: str | Path) -> None:
    """Log as the file `logging.yml` of a configuration says, which Kedro would not read by itself.

    Where there is no such file, or the variable `KEDRO_LOGGING_CONFIG` names another, nothing
    changes.

    Args:
        conf_source: A folder, an archive or an address, as `--conf-source` takes it.
    """
    if "KEDRO_LOGGING_CONFIG" in os.environ:
        return
    patterns = {"logging": ["logging.yml"]}
    loader = OmegaConfigLoader(
        str(conf_source), base_env="", default_run_env="", config_patterns=patterns
    )
    try:
        LOGGING.configure(loader["logging"])
    except MissingConfigException:
        return
