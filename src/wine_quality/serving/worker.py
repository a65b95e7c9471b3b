"""What a worker process of the server runs."""

import gc
import os
import sys

from fastapi import FastAPI

from wine_quality.serving.app import create_app
from wine_quality.serving.telemetry import log_as_json


def create() -> FastAPI:
    """Make the service from the environment, with its log lines as JSON."""
    # a bar of characters is no log line
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # who looks at the registry every two seconds need not try each look for four minutes, for which
    # the service could not stop; both count from the last byte, so that long downloads are safe
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    log_as_json()
    # The thread that writes the log has to win the interpreter's lock from the event loop after
    # every call of the driver; by default the loop may keep it for ten times as long.
    sys.setswitchinterval(0.0005)
    return create_app(on_loaded=settle)


def settle() -> None:
    """Tell the garbage collector that what has been loaded by now is here to stay.

    Otherwise it looks through all of it again every few thousand requests, the modules of MLflow
    and scikit-learn included, and everybody waits for 0.15 s; now that happens once a model.
    """
    # what the last call froze may have become garbage since: the version that answered before
    gc.unfreeze()
    gc.collect()
    gc.freeze()
