"""Has Dask compute the functions of nodes, in other processes or on other machines.

Only the function travels, with its inputs and its outputs: datasets are loaded and saved, and hooks
called, where the run is. A dataset that lives in memory is so no obstacle, and whatever a run
tracks goes into its one MLflow run; a worker joins that for as long as it computes.
"""

import functools
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from wine_quality.database.addresses import sqlite_file
from wine_quality.errors import WineQualityError
from wine_quality.orchestration.settings import DaskSettings

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Tracking:
    """The MLflow run that a worker joins.

    Attributes:
        uri: The tracking server.
        run_id: The run.
    """

    uri: str
    run_id: str


class DaskWorkers:
    """A cluster's workers, for the nodes that the settings name.

    Args:
        client: A `distributed.Client`.
        settings: Name the nodes.
    """

    def __init__(self, client: Any, settings: DaskSettings) -> None:
        self._client = client
        self._settings = settings
        self.slots = max(1, sum(client.nthreads().values()))

    def compute(self, node: Node) -> bool:
        """Tell whether a node's function is computed here."""
        return self._settings.computes(node)

    def remote(self, node: Node) -> Node:
        """Give the node with a function that has a worker compute the node's own."""
        function = node.func

        @functools.wraps(function)
        def compute_remotely(*args: Any, **kwargs: Any) -> Any:
            import cloudpickle

            inputs = dict(zip(node.inputs, args, strict=False)) | kwargs
            call = _pickled(node, function, args, kwargs, inputs)
            tracking = _tracking_of_this_run(self._settings)
            key = f"{node.name}-{uuid4().hex}"
            future = self._client.submit(_compute, call, tracking, node.name, key=key, pure=False)
            return cloudpickle.loads(future.result())

        return node._copy(func=compute_remotely)


@contextmanager
def start_workers(settings: DaskSettings, pipeline: Pipeline) -> Iterator[DaskWorkers]:
    """Reach the scheduler of the settings, or start processes on this machine for the block.

    Raises:
        WineQualityError: Dask has nothing to do in this pipeline, or nobody answers.
    """
    if not any(settings.computes(node) for node in pipeline.nodes):
        stages = sorted({node.name.partition(".")[0] for node in pipeline.nodes})
        raise WineQualityError(
            f"No node of {', '.join(stages)} is named in dask.nodes of orchestration.yml, so Dask "
            "would have nothing to compute: run it without Dask, or name one."
        )
    from distributed import Client, LocalCluster

    # who connected to whom is no news
    logging.getLogger("distributed").setLevel(logging.WARNING)
    if settings.address is None:
        with (
            LocalCluster(
                n_workers=settings.processes,
                threads_per_worker=1,
                host=LOOPBACK,
                dashboard_address=f"{LOOPBACK}:0",
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield DaskWorkers(client, settings)
        return
    try:
        client = Client(settings.address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise WineQualityError(
            f"No Dask scheduler answers at {settings.address} ({error}): start it with 'dask "
            "scheduler', or correct dask.address in orchestration.yml."
        ) from error
    with client:
        if not client.nthreads():
            raise WineQualityError(
                f"The Dask scheduler at {settings.address} has no workers, so nothing would ever "
                f"be computed: start one with 'dask worker {settings.address}'."
            )
        yield DaskWorkers(client, settings)


def _compute(call: bytes, tracking: Tracking | None, name: str) -> bytes:
    """Compute a call on a worker."""
    import cloudpickle

    function, args, kwargs = cloudpickle.loads(call)
    with _joined(tracking), warnings.catch_warnings():
        # scikit-learn leaves the processors to the other workers
        warnings.filterwarnings("ignore", message="Inside a Dask worker")
        result = function(*args, **kwargs)
    try:
        return bytes(cloudpickle.dumps(result))
    except Exception as error:
        raise _untransportable(name, "its output", error) from error


@contextmanager
def _joined(tracking: Tracking | None) -> Iterator[None]:
    """Make a run of another process the active one."""
    import mlflow

    if tracking is None:
        yield
        return
    mlflow.set_tracking_uri(tracking.uri)
    mlflow.start_run(run_id=tracking.run_id)
    try:
        yield
    finally:
        # leave it as it is: it ends where it began
        mlflow.end_run("RUNNING")


def _tracking_of_this_run(settings: DaskSettings) -> Tracking | None:
    import mlflow

    run = mlflow.active_run()
    if run is None:
        return None
    uri = mlflow.get_tracking_uri()
    if sqlite_file(uri) and not _is_here(settings.address):
        raise WineQualityError(
            f"Dask's workers at {settings.address} cannot track in {uri}, a file of this machine: "
            "name an MLflow server in mlflow.yml."
        )
    return Tracking(uri, run.info.run_id)


def _is_here(address: str | None) -> bool:
    host = urlsplit(address or "tcp://localhost").hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _pickled(
    node: Node,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    inputs: Mapping[str, Any],
) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps((function, args, kwargs)))
    except Exception as error:
        for name, value in inputs.items():
            try:
                cloudpickle.dumps(value)
            except Exception:
                raise _untransportable(node.name, f"its input {name}", error) from error
        raise


def _untransportable(node: str, what: str, error: Exception) -> WineQualityError:
    return WineQualityError(
        f"{node} cannot be computed by Dask, because {what} is a connection or the like and cannot "
        f"be sent ({error}): take the node out of dask.nodes in orchestration.yml."
    )
