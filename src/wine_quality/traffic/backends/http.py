"""A server over HTTP: it answers, or there is one line that says why not."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import HttpUrl

from wine_quality.errors import WineQualityError
from wine_quality.serving.settings import LOOPBACK
from wine_quality.system.retrying import asked_pause
from wine_quality.traffic.backends.base import BackendUnavailableError

if TYPE_CHECKING:
    import httpx

PASSING_STATUSES = frozenset({408, 429, 502, 503, 504})
"""What a server, or a proxy before it, answers when asking again may help."""
_LONGEST_DETAIL = 300


class RefusedError(WineQualityError):
    """The server has answered, and not with what was asked for.

    Attributes:
        status: The HTTP status.
        body: What it said.
    """

    def __init__(self, message: str, status: int, body: bytes) -> None:
        """Take what the server said.

        Args:
            message: One line: what is wrong, and what to do.
            status: The HTTP status.
            body: The answer's body.
        """
        super().__init__(message)
        self.status = status
        self.body = body


class HttpServer:
    """A server that one backend talks to; may be shared by threads, which share its connections.

    Args:
        url: Where it is.
        name: What it is, for error messages: ``the prediction service``.
        timeout_s: Seconds until it has to have answered.
        connections: Most connections at once.
        headers: Headers of all requests.
    """

    def __init__(
        self,
        url: HttpUrl,
        *,
        name: str,
        timeout_s: float,
        connections: int,
        headers: Mapping[str, str],
    ) -> None:
        import httpx

        self.url = str(url).rstrip("/")
        self.name = name
        self._timeout_s = timeout_s
        self._client = httpx.Client(
            headers=dict(headers),
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            # what runs on this machine is not asked for through a proxy of the environment
            trust_env=(url.host or "").strip("[]") not in LOOPBACK,
        )

    def get(self, path: str) -> bytes:
        """Ask for something; see ``post``."""
        return self._ask("GET", path, None, {})

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
        """Send JSON.

        Args:
            path: Where to, beginning with a slash.
            body: The JSON.
            headers: Further headers.

        Returns:
            The answer's body.

        Raises:
            BackendUnavailableError: If the server is not there, is busy or does not answer in time.
            RefusedError: If it answers with another status than 2xx.
        """
        return self._ask(
            "POST", path, body, {"Content-Type": "application/json", **(headers or {})}
        )

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        import httpx

        try:
            answer = self._client.request(
                method, self.url + path, content=body, headers=dict(headers)
            )
        except httpx.ConnectError as error:
            raise BackendUnavailableError(
                f"Nothing answers at {self.url} ({error}): start {self.name}, or correct the "
                "backend's url."
            ) from error
        except httpx.TimeoutException as error:
            raise BackendUnavailableError(
                f"{self.url} did not answer within {self._timeout_s:g} seconds: see whether it "
                "hangs, or raise the backend's timeout_s."
            ) from error
        except httpx.TransportError as error:
            raise BackendUnavailableError(
                f"The connection to {self.url} broke off ({error}): see whether it still runs."
            ) from error
        if answer.is_success:
            return answer.content
        said = f"{self.url}{path} answered {answer.status_code} {answer.reason_phrase}".rstrip()
        detail = _detail(answer)
        if answer.status_code in PASSING_STATUSES:
            raise BackendUnavailableError(
                f"{said}: {detail}", asked_pause(answer.headers.get("retry-after"))
            )
        raise RefusedError(f"{said}: {detail}", answer.status_code, answer.content)


def _detail(answer: "httpx.Response") -> str:
    """What the server said, in a line: a problem document, MLflow's errors, or anything."""
    text = answer.text
    try:
        content = answer.json()
    except ValueError:
        content = None
    if isinstance(content, dict):
        text = str(content.get("detail") or content.get("message") or text)
        errors = content.get("errors")
        text += "".join(
            f"; {e.get('field')}: {e.get('message')}"
            for e in (errors if isinstance(errors, list) else ())
            if isinstance(e, dict)
        )
    line = " ".join(text.split())
    if not answer.headers.get("content-type", "").startswith(("application/", "text/plain")):
        line = ""  # a page for people
    if len(line) > _LONGEST_DETAIL:
        line = line[:_LONGEST_DETAIL] + "…"
    return line or "without a word; see whether the backend's url is the right one."
