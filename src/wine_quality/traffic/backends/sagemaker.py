"""An endpoint of Amazon SageMaker that hosts the model in an MLflow container."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any, Self
from uuid import UUID

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from wine_quality.errors import WineQualityError
from wine_quality.parameters import Parameters
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.labels import read_labels
from wine_quality.serving.moments import Moments
from wine_quality.serving.predictor import ModelDescription, check_wines
from wine_quality.traffic.backends.base import (
    BackendContext,
    BackendUnavailableError,
    Health,
    read_config,
)
from wine_quality.traffic.backends.capture import (
    CapturingBackend,
    decode_predictions,
    encode_wines,
    lent_log,
)
from wine_quality.wines import INPUTS, QUALITY

PASSING_ERRORS = frozenset(
    {
        "InternalDependencyException", "InternalError", "InternalFailure", "ModelNotReadyException",
        "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException",
        "TooManyRequestsException",
    }
)  # fmt: skip
"""Codes of AWS's errors after which asking again may help."""
_PASSING_STATUSES = frozenset({429, 502, 503, 504})
_EVENT_VERSION = "0"


class SageMakerConfig(Parameters):
    """Which endpoint, and where its records go; credentials come from AWS's usual chain alone."""

    endpoint: str = Field(
        pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$", description="Name of the endpoint"
    )
    region: str = Field(min_length=1, description="AWS region, like eu-west-1")
    version: str = Field(
        min_length=1,
        # 3 is a number on the command line and in YAML
        coerce_numbers_to_str=True,
        description="Registered version that the endpoint hosts",
    )
    registered_model: str = Field("wine-quality", description="Name of the model in the registry")
    variant: str = Field("AllTraffic", min_length=1, description="Production variant that answers")
    bucket: str = Field(min_length=3, description="S3 bucket of data capture and ground truth")
    prefix: str = Field(
        "wine-quality",
        pattern=r"^[^/]+(/[^/]+)*$",
        description="Folder in the bucket; data-capture/ and ground-truth/ lie in it",
    )
    client_capture: bool = Field(
        True, description="Whether to write data capture, for an endpoint that writes none itself"
    )
    rows_per_request: int = Field(
        1_000, ge=1, le=25_000, description="A larger batch goes in several invocations"
    )
    timeout_s: float = Field(60.0, gt=0, description="Seconds until an answer has to be there")
    connections: int = Field(16, ge=1, description="Most connections at once")


class SageMakerBackend(CapturingBackend):
    """An endpoint of SageMaker, and its records in S3.

    Predictions and labels stand in the inference log, like those of any backend. For SageMaker's
    own Model Monitor they are written to S3 as well, in its formats. Sources: Amazon SageMaker
    Developer Guide, "Data capture" and "Ingest Ground Truth labels and merge them with
    predictions", which matches a label's ``eventId`` with a captured ``inferenceId``.

    * ``PREFIX/data-capture/ENDPOINT/VARIANT/yyyy/mm/dd/hh/*.jsonl``: an event a wine, whose
      ``inferenceId`` is its prediction id; the hour is that of the prediction.
    * ``PREFIX/ground-truth/yyyy/mm/dd/hh/*.jsonl``: a label a line; the hour is ``labelled_at``'s.

    An object's name is made of what it is about, so that repeating a request replaces it by the
    same. An endpoint that captures by itself (``client_capture: false``) makes an event of an
    invocation, not of a wine: its ``InferenceId`` is the prediction id of the first wine, so that
    labels meet all events with ``rows_per_request: 1`` only.
    """

    settings_type = SageMakerConfig

    def __init__(
        self,
        settings: SageMakerConfig,
        log: InferenceLog,
        *,
        runtime: Any,
        control: Any,
        storage: Any,
    ) -> None:
        """Take clients of boto3, which threads may share.

        Args:
            settings: Which endpoint and bucket.
            log: Where the endpoint's answers are kept.
            runtime: Client of ``sagemaker-runtime``.
            control: Client of ``sagemaker``.
            storage: Client of ``s3``.
        """
        super().__init__(ModelDescription(settings.registered_model, settings.version), log)
        self._settings = settings
        self._runtime = runtime
        self._control = control
        self._storage = storage

    @classmethod
    def check_config(cls, config: Mapping[str, Any], name: str) -> None:
        """See that boto3 is there, too."""
        super().check_config(config, name)
        _require_boto3()

    @classmethod
    def from_config(cls, config: Mapping[str, Any], context: BackendContext) -> Self:
        """Make clients by ``SageMakerConfig``; nothing is asked of AWS yet."""
        settings = read_config(SageMakerConfig, config, "sagemaker")
        log = lent_log(context, "sagemaker")
        _require_boto3()
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        options = Config(
            region_name=settings.region,
            connect_timeout=settings.timeout_s,
            read_timeout=settings.timeout_s,
            max_pool_connections=settings.connections,
            # who sends the traffic asks again
            retries={"total_max_attempts": 1},
        )
        try:
            session = boto3.session.Session()
            runtime, control, storage = (
                session.client(service, config=options)
                for service in ("sagemaker-runtime", "sagemaker", "s3")
            )
        except (BotoCoreError, ValueError) as error:
            raise WineQualityError(
                f"AWS cannot be reached with these settings ({error}): see the region and the "
                "profile."
            ) from error
        return cls(settings, log, runtime=runtime, control=control, storage=storage)

    def predict(
        self, wines: pd.DataFrame, *, event_time: Moments, source: str, request_id: str
    ) -> pd.DataFrame:
        """Have a batch predicted; it is in the log, and captured in S3, when this returns."""
        answer = super().predict(wines, event_time=event_time, source=source, request_id=request_id)
        if self._settings.client_capture and len(answer):
            self._capture(check_wines(wines), answer)
        return answer

    def submit_ground_truth(self, labels: pd.DataFrame) -> int:
        """Write labels into the inference log, then to S3."""
        new = super().submit_ground_truth(labels)
        hours: dict[str, list[Mapping[str, Any]]] = {}
        rows, _ = read_labels(labels)
        for row in rows:
            event = {
                "groundTruthData": {"data": str(row[QUALITY]), "encoding": "CSV"},
                "eventMetadata": {"eventId": str(row["prediction_id"])},
                "eventVersion": _EVENT_VERSION,
            }
            hours.setdefault(_hour(row["labelled_at"]), []).append(event)
        for hour, events in hours.items():
            self._put(f"ground-truth/{hour}", events)
        return new

    def _ask(
        self, inputs: pd.DataFrame, prediction_ids: Sequence[UUID], request_id: str
    ) -> NDArray[np.float64]:
        step = self._settings.rows_per_request
        return np.concatenate(
            [
                self._invoke(inputs.iloc[i : i + step], prediction_ids[i], request_id)
                for i in range(0, len(inputs), step)
            ]
        )

    def _invoke(self, inputs: pd.DataFrame, first_id: UUID, request_id: str) -> NDArray[np.float64]:
        name = self._settings.endpoint
        with _AwsErrors(f"The endpoint {name}"):
            said = self._runtime.invoke_endpoint(
                EndpointName=name,
                ContentType="application/json",
                Accept="application/json",
                InferenceId=str(first_id),
                CustomAttributes=f"request-id={request_id}",
                TargetVariant=self._settings.variant,
                Body=encode_wines(inputs),
            )["Body"].read()
        predictions = decode_predictions(said, f"The endpoint {name}")
        if len(predictions) != len(inputs):
            raise WineQualityError(
                f"The endpoint {name} answered {len(inputs)} wines with {len(predictions)} "
                "predictions: see which model it hosts."
            )
        return predictions

    def _capture(self, inputs: pd.DataFrame, answer: pd.DataFrame) -> None:
        first = UUID(answer["prediction_id"].iloc[0])
        # a UUID of version 7 begins with the milliseconds since 1970
        moment = datetime.fromtimestamp((first.int >> 80) / 1000, UTC)
        settings = self._settings
        lines = inputs[list(INPUTS)].to_csv(index=False, header=False).splitlines()
        events = [
            {
                "captureData": {
                    "endpointInput": _data("INPUT", line),
                    "endpointOutput": _data("OUTPUT", repr(prediction)),
                },
                "eventMetadata": {
                    "eventId": prediction_id,
                    "inferenceId": prediction_id,
                    "inferenceTime": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
                },
                "eventVersion": _EVENT_VERSION,
            }
            for line, prediction_id, prediction in zip(
                lines, answer["prediction_id"], answer["prediction"].tolist(), strict=True
            )
        ]
        folder = f"data-capture/{settings.endpoint}/{settings.variant}/{_hour(moment)}"
        self._put(folder, events)

    def _put(self, folder: str, events: Iterable[Mapping[str, Any]]) -> None:
        body = b"".join(orjson.dumps(event) + b"\n" for event in events)
        name = hashlib.blake2b(body, digest_size=16).hexdigest()
        with _AwsErrors(f"The bucket {self._settings.bucket}"):
            self._storage.put_object(
                Bucket=self._settings.bucket,
                Key=f"{self._settings.prefix}/{folder}/{name}.jsonl",
                Body=body,
                ContentType="application/jsonlines",
            )

    def _server_health(self) -> Health:
        name = self._settings.endpoint
        with _AwsErrors(f"The endpoint {name}"):
            found = self._control.describe_endpoint(EndpointName=name)
        with _AwsErrors(f"The bucket {self._settings.bucket}"):
            self._storage.head_bucket(Bucket=self._settings.bucket)
        if found["EndpointStatus"] != "InService":
            return Health(False, f"The endpoint {name} is {found['EndpointStatus']}: wait for it.")
        capture = found.get("DataCaptureConfig") or {}
        if self._settings.client_capture and capture.get("EnableCapture"):
            return Health(
                False,
                f"The endpoint {name} captures data itself: set the backend's client_capture to "
                "false, or everything is captured twice.",
            )
        return Health(ready=True)


def _data(mode: str, line: str) -> Mapping[str, str]:
    return {"observedContentType": "text/csv", "mode": mode, "data": line, "encoding": "CSV"}


def _hour(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y/%m/%d/%H}"


class _AwsErrors:
    """Says in a line what AWS complains of, and whether asking again may help."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from botocore import exceptions

        if isinstance(error, exceptions.ClientError):
            raise self._refused(error.response) from error
        if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
            raise WineQualityError(
                f"{self._what} cannot be reached without AWS credentials: set AWS_PROFILE, or "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            ) from error
        if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
            raise BackendUnavailableError(
                f"{self._what} cannot be reached now ({_line(error)}): see the network and the "
                "region."
            ) from error
        if isinstance(error, exceptions.BotoCoreError):
            raise WineQualityError(
                f"{self._what} cannot be reached ({_line(error)}): see the AWS settings."
            ) from error

    def _refused(self, response: Mapping[str, Any]) -> WineQualityError:
        found = response.get("Error", {})
        code = found.get("Code", "unknown")
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        # what the container said, where the endpoint hands it on
        inner = response.get("OriginalStatusCode")
        says = f"{self._what} refuses ({code}: {_line(found.get('Message', ''))})"
        if code in PASSING_ERRORS or {status, inner} & _PASSING_STATUSES:
            return BackendUnavailableError(f"{says}: try again later.")
        return WineQualityError(
            f"{says}: see endpoint, bucket and region, and what the credentials allow."
        )


def _line(text: object) -> str:
    return " ".join(str(text).split())[:300]


def _require_boto3() -> None:
    if find_spec("boto3") is None:
        raise WineQualityError(
            "The backend sagemaker needs boto3: install the extra, 'pip install wine-quality[s3]'."
        )
