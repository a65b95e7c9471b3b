"""Where traffic goes: whatever hosts the model, behind one interface."""

from collections.abc import Mapping
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any

from wine_quality.errors import WineQualityError
from wine_quality.traffic.backends.base import (
    Backend,
    BackendContext,
    BackendUnavailableError,
    Health,
    read_config,
)
from wine_quality.traffic.backends.capture import CapturingBackend, lent_log
from wine_quality.traffic.backends.in_process import InProcessBackend
from wine_quality.traffic.backends.lake import LakeBackend
from wine_quality.traffic.backends.mlflow_server import MlflowServerBackend
from wine_quality.traffic.backends.sagemaker import SageMakerBackend
from wine_quality.traffic.backends.service import ServiceBackend

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendContext",
    "BackendUnavailableError",
    "CapturingBackend",
    "Health",
    "InProcessBackend",
    "LakeBackend",
    "MlflowServerBackend",
    "SageMakerBackend",
    "ServiceBackend",
    "check_backend",
    "create_backend",
    "lent_log",
    "read_config",
]

BACKENDS: Mapping[str, type[Backend]] = MappingProxyType(
    {
        "in_process": InProcessBackend,
        "service": ServiceBackend,
        "mlflow_server": MlflowServerBackend,
        "sagemaker": SageMakerBackend,
        "lake": LakeBackend,
    }
)
"""The backends that have a short name."""


def create_backend(name: str, config: Mapping[str, Any], context: BackendContext) -> Backend:
    """Make a backend by its short name or its class path.

    Args:
        name: A key of ``BACKENDS``, or the path of a subclass of ``Backend``, like
            ``our_team.backends.OurBackend``.
        config: Its settings.
        context: What the run lends.

    Returns:
        The backend.

    Raises:
        WineQualityError: If there is no such backend, or it refuses its settings.
    """
    return _backend_class(name).from_config(config, context)


def check_backend(name: str, config: Mapping[str, Any]) -> None:
    """See, before a run begins, that there is such a backend and that it takes its settings.

    Raises:
        WineQualityError: If not.
    """
    _backend_class(name).check_config(config, name)


def _backend_class(name: str) -> type[Backend]:
    if name in BACKENDS:
        return BACKENDS[name]
    if "." not in name:
        raise WineQualityError(
            f"There is no backend {name!r}: choose {', '.join(BACKENDS)}, or give the path of a "
            "class, like our_team.backends.OurBackend."
        )
    try:
        found = resolve_name(":".join(name.rsplit(".", 1)))
    # Importing runs somebody's module, which may fail in any way.
    except Exception as error:
        raise WineQualityError(
            f"The backend {name!r} cannot be imported ({type(error).__name__}: {error}): check the "
            "path, and that its package is installed."
        ) from error
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise WineQualityError(
            f"{name!r} is no backend: give a subclass of {Backend.__module__}.{Backend.__name__}."
        )
    return found
