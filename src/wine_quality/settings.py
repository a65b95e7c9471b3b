"""Kedro's settings of this project."""

import logging
from pathlib import Path

from omegaconf.resolvers import oc

from wine_quality.orchestration.session import OrchestrationHook
from wine_quality.running.config_loader import ConfigLoader
from wine_quality.running.hooks import (
    ConfigurationHook,
    MissingInputsHook,
    PreflightHook,
    ProgressHook,
    RunLockHook,
    RunSummaryHook,
    StorageHook,
    TrackingHook,
)
from wine_quality.running.logs import (
    KNOWN_NOISE,
    NOISY_LOGGERS,
    WithoutTexts,
    configure_logging,
)
from wine_quality.system.project import project_folder, temporary_folder
from wine_quality.system.storage import is_address


def _project_path(relative: str) -> str:
    """Make a path absolute, so that commands work from any folder inside the project.

    An address of an object store is absolute already.
    """
    if is_address(relative):
        return relative
    return str(project_folder() / relative)


# Kedro reads it where a command starts in the project's own folder only
if project_folder() != Path.cwd():
    configure_logging(project_folder() / "conf")

for _logger in NOISY_LOGGERS:
    logging.getLogger(_logger).addFilter(WithoutTexts(*KNOWN_NOISE))

CONFIG_LOADER_CLASS = ConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"mlflow": ["mlflow*"], "orchestration": ["orchestration*"]},
    "merge_strategy": dict.fromkeys(("parameters", "globals", "mlflow", "orchestration"), "soft"),
    "custom_resolvers": {
        "oc.env": oc.env,
        "project_path": _project_path,
        "temporary_folder": temporary_folder,
    },
}
# of those that want to be first, the last one named is
HOOKS = (
    PreflightHook(),
    MissingInputsHook(),
    TrackingHook(),
    RunSummaryHook(),
    ProgressHook(),
    RunLockHook(),
    OrchestrationHook(),
    StorageHook(),
    ConfigurationHook(),
)
