"""Functions of nodes computed by Dask."""

import os
import sys
import threading
from importlib.util import find_spec

import pytest
from kedro.pipeline import Node, Pipeline

from wine_quality.errors import WineQualityError
from wine_quality.orchestration.dask_workers import DaskWorkers, start_workers
from wine_quality.orchestration.settings import DaskSettings

pytestmark = pytest.mark.skipif(
    find_spec("distributed") is None, reason="Dask is an extra: './just extras'"
)
SETTINGS = DaskSettings(processes=1, nodes=("far.*",))


def where(number):
    return number, os.getpid()


def fail(number):
    raise WineQualityError(f"There are {number} wines too few.")


def make_lock(number):
    return threading.Lock()


def measure(number):
    import mlflow

    mlflow.log_metric("measured", number)
    return mlflow.active_run().info.run_id


def far(function):
    return Node(function, "number", "made", name="far.node")


@pytest.fixture(scope="module")
def workers():
    import cloudpickle

    # the worker cannot import the tests
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with start_workers(SETTINGS, Pipeline([far(where)])) as started:
        yield started


@pytest.mark.slow
def test_a_function_is_computed_in_another_process(workers):
    node = far(where)
    assert workers.compute(node)
    assert not workers.compute(Node(where, "number", "made", name="near.node"))
    remote = workers.remote(node)
    assert (remote.name, remote.inputs, remote.outputs) == (node.name, node.inputs, node.outputs)
    number, process = remote.run({"number": 3})["made"]
    assert number == 3
    assert process != os.getpid()


@pytest.mark.slow
def test_a_failure_comes_back_as_it_was(workers):
    with pytest.raises(WineQualityError, match=r"^There are 3 wines too few\.$"):
        workers.remote(far(fail)).run({"number": 3})


@pytest.mark.slow
def test_what_cannot_travel_is_refused_by_name(workers):
    with pytest.raises(WineQualityError, match=r"far\.node cannot .* its input number is a conn"):
        workers.remote(far(where)).run({"number": threading.Lock()})
    with pytest.raises(WineQualityError, match=r"far\.node cannot .* its output is a connection"):
        workers.remote(far(make_lock)).run({"number": 3})


@pytest.mark.slow
def test_a_worker_joins_the_tracked_run_and_leaves_it_open(workers, experiment_id):
    import mlflow

    with mlflow.start_run(experiment_id=experiment_id) as run:
        joined = workers.remote(far(measure)).run({"number": 3})["made"]
        found = mlflow.get_run(run.info.run_id)
    assert joined == run.info.run_id
    assert found.info.status == "RUNNING"
    assert found.data.metrics == {"measured": 3}
    assert mlflow.get_run(run.info.run_id).info.status == "FINISHED"


class Cluster:
    """Stands in for a client of a cluster elsewhere."""

    def nthreads(self):
        return {"tcp://dask.example:40000": 2}


def test_a_file_of_this_machine_is_no_tracking_server_for_others(experiment_id):
    import mlflow

    settings = DaskSettings(address="tcp://dask.example:8786", nodes=("far.*",))
    workers = DaskWorkers(Cluster(), settings)
    assert workers.slots == 2
    with (
        mlflow.start_run(experiment_id=experiment_id),
        pytest.raises(WineQualityError, match=r"at tcp://dask\.example:8786 cannot track in"),
    ):
        workers.remote(far(where)).run({"number": 3})


def test_a_pipeline_without_anything_to_compute_is_refused():
    near = Pipeline([Node(where, "number", "made", name="near.node")])
    with (
        pytest.raises(WineQualityError, match=r"No node of near is named in dask\.nodes"),
        start_workers(SETTINGS, near),
    ):
        pass


def test_a_scheduler_that_does_not_answer_is_named():
    import dask
    import distributed  # noqa: F401 - its defaults come with it, or would go with the block below

    settings = DaskSettings(address="tcp://127.0.0.1:9", nodes=("far.*",))
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "500ms"}),
        pytest.raises(WineQualityError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:9"),
        start_workers(settings, Pipeline([far(where)])),
    ):
        pass


def test_a_cluster_without_workers_is_refused():
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        settings = DaskSettings(address=cluster.scheduler_address, nodes=("far.*",))
        with (
            pytest.raises(WineQualityError, match="has no workers"),
            start_workers(settings, Pipeline([far(where)])),
        ):
            pass
