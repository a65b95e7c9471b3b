"""Asks an MLflow server whether it answers, before a run or a service relies on it."""

import re
import time
from typing import TYPE_CHECKING, Any

from wine_quality.database.addresses import without_password
from wine_quality.errors import WineQualityError, raised_from
from wine_quality.system.retrying import doubling, retry

if TYPE_CHECKING:
    from requests import Response

PATIENCE = 8.0
"""Seconds that a server has to answer for the first time; it may be starting.

With what a command imports before, a person waits for at most fifteen."""
TRY_SECONDS = 5.0
"""Most seconds of one try."""
_LOOK_AT = "/api/2.0/mlflow/experiments/search"
_ANSWER = frozenset({"experiments", "next_page_token"})
_AWAY = "see that it runs and can be reached from here, or correct {named_by}"


class _TroubleError(WineQualityError):
    """A server that cannot be used.

    Args:
        message: What is wrong and what to do.
        may_pass: Whether it is worth asking again.
    """

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


def is_server(address: str) -> bool:
    """Tell the address of an MLflow server from that of a database."""
    return address.startswith(("http://", "https://"))


def check_server(address: str, named_by: str) -> None:
    """See that an MLflow server answers, and lets this process in.

    MLflow's own client would try for four minutes. Its settings stay as they are: once a run has
    begun, patience with a server that restarts is worth more than a quick end.

    Args:
        address: The server's address.
        named_by: The setting that names it.

    Raises:
        WineQualityError: It does not answer, lets nobody in, or is no MLflow server.
    """
    until = time.monotonic() + PATIENCE
    retry(
        lambda: _look(address, named_by, min(TRY_SECONDS, max(1.0, until - time.monotonic()))),
        may_pass=lambda error: isinstance(error, _TroubleError) and error.may_pass,
        pauses=doubling(first=0.25, longest=2.0),
        until=until,
    )


def _look(address: str, named_by: str, seconds: float) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        answer = http_request(
            get_default_host_creds(address),
            _LOOK_AT,
            "POST",
            json={"max_results": 1},
            max_retries=0,
            timeout=seconds,
            raise_on_status=False,
        )
    except MlflowException as error:
        raise _about_error(address, error, named_by) from error
    trouble = _about_answer(address, answer, named_by)
    if trouble:
        raise trouble


def describe_server_trouble(address: str, error: Exception, named_by: str) -> str | None:
    """Say in one line why a server failed in the middle of a run.

    Args:
        address: The server's address.
        error: What MLflow's client, or the one below it, raised.
        named_by: The setting that names the server.

    Returns:
        The line; None where the server answered, and said what it did not like.
    """
    status = re.search(r"failed with error code (\d{3})", str(error))
    if status:
        return str(_about_status(address, int(status[1]), named_by))
    if _reasons(error):
        return str(_about_error(address, error, named_by))
    return None


def _about_error(address: str, error: Exception, named_by: str) -> _TroubleError:
    """Say that there was no answer, and why."""
    from ssl import SSLCertVerificationError

    from requests.exceptions import InvalidSchema, InvalidURL

    causes = _reasons(error)
    if any(isinstance(cause, SSLCertVerificationError) for cause in causes):
        return _TroubleError(
            f"{_server(address)} has a certificate that this machine does not trust "
            f"({_words(causes[-1])}): name that of its authority in "
            "MLFLOW_TRACKING_SERVER_CERT_PATH."
        )
    wrong = any(isinstance(cause, InvalidURL | InvalidSchema) for cause in causes)
    reason = _words(causes[-1]) if causes else str(error)
    advice = f"correct {named_by}" if wrong else _AWAY.format(named_by=named_by)
    return _TroubleError(
        f"{_server(address)} does not answer ({reason}): {advice}.", may_pass=not wrong
    )


def _about_answer(address: str, answer: "Response", named_by: str) -> _TroubleError | None:
    """Say what is wrong with an answer; None where MLflow has answered."""
    status = answer.status_code
    is_mlflow = _is_from_mlflow(answer)
    if status in (401, 403) or status >= 500 or (status != 200 and not is_mlflow):
        return _about_status(address, status, named_by)
    if is_mlflow:
        return None
    kind = answer.headers.get("Content-Type", "").partition(";")[0] or "of no type"
    title = re.search(r"<title[^>]*>([^<]*)", answer.text, re.IGNORECASE)
    page = f"{kind}, titled {' '.join(title[1].split())!r}" if title else kind
    return _TroubleError(
        f"{_server(address)} answers with a page ({page}) instead of MLflow's data: see that "
        f"{named_by} is the address of MLflow itself; if it is a page to sign in, "
        f"{_credentials(address)}."
    )


def _about_status(address: str, status: int, named_by: str) -> _TroubleError:
    from http.client import responses

    said = f"{_server(address)} answers with {status} {responses.get(status, '')}".rstrip()
    if status in (401, 403):
        return _TroubleError(f"{said}: {_credentials(address)}.")
    if status >= 500 or status == 429:
        advice = (
            "the gateway before it does not reach it; " if status in (502, 503, 504) else ""
        ) + _AWAY.format(named_by=named_by)
        return _TroubleError(f"{said}: {advice}.", may_pass=True)
    return _TroubleError(f"{said}: see that {named_by} is the address of MLflow itself.")


def _credentials(address: str) -> str:
    """Say which credentials MLflow's client looks for, and which of them it found."""
    from mlflow.utils.credentials import get_default_host_creds

    found = get_default_host_creds(address)
    looked_for = (
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or ~/.mlflow/credentials), or "
        "MLFLOW_TRACKING_TOKEN"
    )
    if found.username and found.password:
        return f"user {found.username!r} was sent; correct {looked_for}"
    if found.token:
        return f"the token of MLFLOW_TRACKING_TOKEN was sent; correct it, or set {looked_for}"
    return f"no credentials were found; set {looked_for}"


def _reasons(error: BaseException) -> list[BaseException]:
    """List what the HTTP client raised below an error, the innermost last."""
    from requests.exceptions import RequestException

    links = list(raised_from(error))
    first = next((n for n, link in enumerate(links) if isinstance(link, RequestException)), None)
    return [] if first is None else links[first:]


def _words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _is_from_mlflow(answer: "Response") -> bool:
    """Tell MLflow's answer, or its refusal, from the JSON of another service."""
    try:
        content: Any = answer.json()
    except ValueError:
        return False
    if not isinstance(content, dict):
        return False
    return content.keys() <= _ANSWER if answer.status_code == 200 else "error_code" in content


def _server(address: str) -> str:
    return f"The MLflow server {without_password(address)}"
