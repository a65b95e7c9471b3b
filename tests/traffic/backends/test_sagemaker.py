"""SageMaker on moto, whose endpoint answers with the champion."""

import base64
import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import numpy as np
import pandas as pd
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from moto import mock_aws
from moto.sagemakerruntime.models import SageMakerRuntimeBackend

from wine_quality.errors import WineQualityError
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.predictor import ModelDescription
from wine_quality.traffic.backend_contract import NOON, BackendContract, contract_wines
from wine_quality.traffic.backends import (
    Backend,
    BackendContext,
    BackendUnavailableError,
    create_backend,
)

REGION, BUCKET, ENDPOINT = "eu-west-1", "cellar", "wine-quality"
CONFIG = {"endpoint": ENDPOINT, "region": REGION, "bucket": BUCKET, "version": "1"}


@dataclass
class Aws:
    """An account of moto's, with a bucket and an endpoint.

    Attributes:
        asked: The headers and wines of all invocations.
    """

    asked: list[tuple[dict[str, str], pd.DataFrame]] = field(default_factory=list)

    def objects(self, folder: str) -> dict[str, list[Any]]:
        """The JSON lines of the bucket's objects in a folder, by key."""
        storage = boto3.client("s3", region_name=REGION)
        listed = storage.list_objects_v2(Bucket=BUCKET, Prefix=folder).get("Contents", [])
        keys = [entry["Key"] for entry in listed]
        bodies = [storage.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys]
        lines = [[json.loads(line) for line in body.splitlines()] for body in bodies]
        return dict(zip(keys, lines, strict=True))


@pytest.fixture
def aws(
    monkeypatch: pytest.MonkeyPatch, model: Callable[[pd.DataFrame], np.ndarray]
) -> Iterator[Aws]:
    """An endpoint that answers in MLflow's protocol."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_CONFIG_FILE", "/nowhere"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/nowhere"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    found = Aws()

    def answer(_: Any, unique_repr: bytes, **__: Any) -> tuple[str, str, str, str]:
        request = json.loads(base64.b64decode(unique_repr))
        table = json.loads(request.pop("Body"))["dataframe_split"]
        wines = pd.DataFrame(table["data"], columns=table["columns"]).astype(
            {name: "float64" for name in table["columns"] if name != "type"}
        )
        found.asked.append(({name.lower(): value for name, value in request.items()}, wines))
        return json.dumps({"predictions": model(wines).tolist()}), "application/json", "", ""

    with mock_aws():
        boto3.client("s3", region_name=REGION).create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        create_endpoint()
        monkeypatch.setattr(SageMakerRuntimeBackend, "invoke_endpoint", answer)
        yield found


def create_endpoint(name: str = ENDPOINT, **more: Any) -> None:
    """Make an endpoint whose container is of no matter."""
    control = boto3.client("sagemaker", region_name=REGION)
    role = "arn:aws:iam::123456789012:role/cellar"
    image = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/mlflow-pyfunc:3"
    control.create_model(ModelName=name, PrimaryContainer={"Image": image}, ExecutionRoleArn=role)
    variant = {
        "VariantName": "AllTraffic", "ModelName": name, "InitialInstanceCount": 1,
        "InstanceType": "ml.t2.medium", "InitialVariantWeight": 1.0,
    }  # fmt: skip
    control.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], **more)
    control.create_endpoint(EndpointName=name, EndpointConfigName=name)


def send(backend: Backend, wines: pd.DataFrame, request_id: str = "r") -> pd.DataFrame:
    return backend.predict(wines, event_time=NOON, source="test", request_id=request_id)


@pytest.fixture
def backend(aws: Aws, log: InferenceLog) -> Backend:
    return create_backend("sagemaker", CONFIG, BackendContext(log=log))


class TestSageMaker(BackendContract):
    @pytest.fixture
    def backend(self, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Backend:
        put, alone = backend._storage.put_object, threading.Lock()

        def put_alone(**request: Any) -> Any:
            # an object of moto's does not bear being replaced while it is written
            with alone:
                return put(**request)

        monkeypatch.setattr(backend._storage, "put_object", put_alone)
        return backend


def test_the_request_is_named(aws: Aws, backend: Backend) -> None:
    addresses = []
    backend._runtime.meta.events.register(
        "before-send.sagemaker-runtime.InvokeEndpoint",
        lambda request, **_: addresses.append(request.url),
    )
    answer = send(backend, contract_wines(3), "order-17")
    assert addresses == [
        f"https://runtime.sagemaker.{REGION}.amazonaws.com/endpoints/{ENDPOINT}/invocations"
    ]
    ((headers, wines),) = aws.asked
    assert headers["x-amzn-sagemaker-inference-id"] == answer["prediction_id"].iloc[0]
    assert headers["x-amzn-sagemaker-custom-attributes"] == "request-id=order-17"
    assert headers["x-amzn-sagemaker-target-variant"] == "AllTraffic"
    assert len(wines) == 3
    assert backend.describe_model() == ModelDescription("wine-quality", "1")


def test_a_large_batch_goes_in_parts(
    aws: Aws, log: InferenceLog, model: Callable[[pd.DataFrame], np.ndarray]
) -> None:
    config = {**CONFIG, "rows_per_request": 40}
    wines = contract_wines(100)
    answer = send(create_backend("sagemaker", config, BackendContext(log=log)), wines)
    assert [len(part) for _, part in aws.asked] == [40, 40, 20]
    firsts = [headers["x-amzn-sagemaker-inference-id"] for headers, _ in aws.asked]
    assert firsts == answer["prediction_id"].iloc[[0, 40, 80]].tolist()
    np.testing.assert_allclose(answer["prediction"], model(wines), rtol=0, atol=1e-6)


def test_what_was_answered_is_captured(aws: Aws, backend: Backend) -> None:
    wines = contract_wines(20)
    before = datetime.now(UTC).replace(microsecond=0)
    answer = send(backend, wines)
    after = datetime.now(UTC)
    ((key, events),) = aws.objects("wine-quality/data-capture/").items()
    first = datetime.fromisoformat(events[0]["eventMetadata"]["inferenceTime"])
    assert before <= first <= after
    assert key.startswith(f"wine-quality/data-capture/{ENDPOINT}/AllTraffic/{first:%Y/%m/%d/%H}/")
    assert key.endswith(".jsonl")
    assert [event["eventMetadata"]["inferenceId"] for event in events] == answer[
        "prediction_id"
    ].tolist()
    data = [event["captureData"] for event in events]
    assert {event["eventVersion"] for event in events} == {"0"}
    assert set(data[0]) == {"endpointInput", "endpointOutput"}
    assert {side["encoding"] for event in data for side in event.values()} == {"CSV"}
    outputs = [float(event["endpointOutput"]["data"]) for event in data]
    assert outputs == answer["prediction"].tolist()
    lines = "\n".join(event["endpointInput"]["data"] for event in data)
    read = pd.read_csv(io.StringIO(lines), header=None, names=list(wines))
    pd.testing.assert_frame_equal(
        read, wines.reset_index(drop=True), check_exact=True, check_dtype=False
    )


def test_a_repeated_request_completes_what_is_in_s3(aws: Aws, backend: Backend) -> None:
    answer = send(backend, contract_wines(5))
    captured = aws.objects("wine-quality/data-capture/")
    boto3.client("s3", region_name=REGION).delete_object(Bucket=BUCKET, Key=next(iter(captured)))
    pd.testing.assert_frame_equal(send(backend, contract_wines(5)), answer)
    assert aws.objects("wine-quality/data-capture/") == captured
    assert len(aws.asked) == 1


def test_ground_truth_is_in_s3_by_the_hour(aws: Aws, backend: Backend) -> None:
    answer = send(backend, contract_wines(4))
    labels = answer[["prediction_id"]].assign(
        quality=[5, 6, 7, 8], labelled_at=[NOON, NOON, NOON, NOON + timedelta(hours=13)]
    )
    for _ in range(2):
        backend.submit_ground_truth(labels)
    written = aws.objects("wine-quality/ground-truth/")
    assert [key.rpartition("/")[0] for key in written] == [
        "wine-quality/ground-truth/2026/01/31/12", "wine-quality/ground-truth/2026/02/01/01",
    ]  # fmt: skip
    events = [event for events in written.values() for event in events]
    assert events[0] == {
        "groundTruthData": {"data": "5", "encoding": "CSV"},
        "eventMetadata": {"eventId": answer["prediction_id"].iloc[0]},
        "eventVersion": "0",
    }
    assert [event["groundTruthData"]["data"] for event in events] == ["5", "6", "7", "8"]
    assert [e["eventMetadata"]["eventId"] for e in events] == answer["prediction_id"].tolist()


def test_unknown_labels_do_not_reach_s3(aws: Aws, backend: Backend) -> None:
    send(backend, contract_wines(1))
    labels = pd.DataFrame({"prediction_id": ["no-id"], "quality": [5], "labelled_at": [NOON]})
    with pytest.raises(WineQualityError, match="no-id"):
        backend.submit_ground_truth(labels)
    assert aws.objects("wine-quality/ground-truth/") == {}


def test_an_endpoint_that_captures_by_itself(aws: Aws, log: InferenceLog) -> None:
    capture = {
        "EnableCapture": True, "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{BUCKET}/capture", "CaptureOptions": [{"CaptureMode": "Input"}],
    }  # fmt: skip
    create_endpoint("capturing", DataCaptureConfig=capture)
    config = {**CONFIG, "endpoint": "capturing"}
    health = create_backend("sagemaker", config, BackendContext(log=log)).check_health()
    assert not health.ready
    assert "set the backend's client_capture to false" in health.reason
    config["client_capture"] = False
    assert create_backend("sagemaker", config, BackendContext(log=log)).check_health().ready
    config["endpoint"] = ENDPOINT
    send(create_backend("sagemaker", config, BackendContext(log=log)), contract_wines(2))
    assert aws.objects("wine-quality/") == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [({"endpoint": "other"}, "The endpoint other refuses"), ({"bucket": "barrel"}, "The bucket ")],
)
def test_it_is_not_ready_without_endpoint_and_bucket(
    aws: Aws, log: InferenceLog, change: dict[str, str], message: str
) -> None:
    backend = create_backend("sagemaker", {**CONFIG, **change}, BackendContext(log=log))
    health = backend.check_health()
    assert not health.ready
    assert message in health.reason
    assert "\n" not in health.reason


def test_an_endpoint_that_is_being_made(
    aws: Aws, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = boto3.client("sagemaker", region_name=REGION)
    found = control.describe_endpoint(EndpointName=ENDPOINT)
    monkeypatch.setattr(
        backend._control,
        "describe_endpoint",
        lambda **_: {**found, "EndpointStatus": "Creating"},
    )
    assert "is Creating: wait" in backend.check_health().reason


def refusal(code: str, status: int, original: int | None = None) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": "what it\nsays"},
        "ResponseMetadata": {"HTTPStatusCode": status},
        "OriginalStatusCode": original,
    }
    return ClientError(response, "InvokeEndpoint")


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (refusal("ThrottlingException", 400), True),
        (refusal("ServiceUnavailable", 503), True),
        (refusal("ModelNotReadyException", 429), True),
        (refusal("ModelError", 424, 503), True),
        (refusal("ModelError", 424, 400), False),
        (refusal("ValidationError", 400), False),
        (refusal("AccessDeniedException", 403), False),
        (ReadTimeoutError(endpoint_url="https://aws"), True),
        (ConnectTimeoutError(endpoint_url="https://aws"), True),
        (EndpointConnectionError(endpoint_url="https://aws"), True),
        (NoCredentialsError(), False),
    ],
)
def test_what_passes_is_told_from_what_is_final(
    aws: Aws,
    backend: Backend,
    log: InferenceLog,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    passes: bool,
) -> None:
    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setattr(backend._runtime, "invoke_endpoint", fail)
    with pytest.raises(WineQualityError, match="The endpoint wine-quality") as caught:
        send(backend, contract_wines(1))
    assert isinstance(caught.value, BackendUnavailableError) == passes
    assert "\n" not in str(caught.value)
    assert log.read().empty


def test_without_credentials(aws: Aws, log: InferenceLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    health = create_backend("sagemaker", CONFIG, BackendContext(log=log)).check_health()
    assert not health.ready
    assert "without AWS credentials" in health.reason


def test_its_mistakes_are_told(
    aws: Aws, log: InferenceLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent = BackendContext(log=log)
    with pytest.raises(WineQualityError, match=r"region: Field required.*bucket: Field required"):
        create_backend("sagemaker", {"endpoint": "e", "version": "1"}, lent)
    with pytest.raises(WineQualityError, match="aws_secret_access_key: Extra inputs"):
        create_backend("sagemaker", {**CONFIG, "aws_secret_access_key": "x"}, lent)
    with pytest.raises(WineQualityError, match="needs an inference log"):
        create_backend("sagemaker", CONFIG, BackendContext())
    with pytest.raises(WineQualityError, match="AWS cannot be reached with these settings"):
        create_backend("sagemaker", {**CONFIG, "region": "no where"}, lent)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(WineQualityError, match=r"pip install wine-quality\[s3\]"):
        create_backend("sagemaker", CONFIG, lent)
