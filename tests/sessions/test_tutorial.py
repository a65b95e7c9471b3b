"""The tutorial's commands, and that their output is what it shows."""

import doctest
import json
import re
import shlex
from pathlib import Path

import pytest

from tests.serving.in_process import ask
from wine_quality.serving.settings import ServiceSettings

TUTORIAL = (Path(__file__).parents[2] / "docs/tutorial.md").read_text()
# what differs from run to run: times, places, identifiers
CHANGING = {
    r"[\d,]+( +\d+ ms)+": "# ms",
    r"\S+/08_reporting/": "08_reporting/",
    r"git revision \w+\+?": "git revision #",
    r"\S+ \S+ UTC opened, channel log: sent \S+ \S+ UTC": "opened, channel log: sent",
}
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def console() -> list[tuple[str, str]]:
    """The commands of the tutorial and the output that it shows of each."""
    blocks = re.findall(r"```console\n(.*?)```", TUTORIAL, re.DOTALL)
    parts = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.M) if part]
    # an argument in quotes may be longer than a line
    found = (re.match(r"((?:[^'\n]|'[^']*')*)\n(.*)", part, re.DOTALL) for part in parts)
    return [(match[1], match[2]) for match in found if match]


def without_changing(text: str) -> str:
    for pattern, instead in CHANGING.items():
        text = re.sub(pattern, instead, text)
    return text


def is_as_shown(shown: str, output: str) -> bool:
    return doctest.OutputChecker().check_output(
        without_changing(shown), without_changing(output), SAME
    )


def test_each_command_does_what_the_tutorial_shows(
    whole_run, after_whole_run, kedro_command_here
) -> None:
    (first, shown), *others = [(c, shown) for c, shown in console() if c.startswith("kedro ")]
    assert first == "kedro run --env test"
    assert is_as_shown(shown, whole_run.outcome.output), whole_run.outcome.output
    assert len(others) == 5
    for command, shown in others:
        outcome = kedro_command_here(*shlex.split(command)[1:], root=after_whole_run)
        # first the log says that the folder is a copy
        said = f"{command}\n{outcome.output}{outcome.errors}"
        assert is_as_shown(f"...{shown}", outcome.output), said


def test_the_service_answers_what_the_tutorial_shows(whole_run, tmp_path) -> None:
    ((command, shown),) = [(c, shown) for c, shown in console() if c.startswith("curl ")]
    *_, place, _, header, _, body = shlex.split(command)
    settings = ServiceSettings(
        tracking_uri=f"sqlite:///{whole_run.root}/mlflow.db",
        log_url=f"sqlite:///{tmp_path}/inference_log.db",
    )

    async def work(client) -> None:
        name, _, value = header.partition(": ")
        path = place.partition("8000")[2]
        answer = await client.post(path, content=body, headers={name: value})
        told, said = json.loads(shown), answer.json()
        assert told.keys() == said.keys()
        assert told | {"prediction_id": said["prediction_id"]} == said

    ask(settings, work)


@pytest.mark.parametrize("change", [("39.4 exceeds", "38.4 exceeds"), ("drift ", "ok ")])
def test_another_output_is_noticed(change) -> None:
    shown = next(shown for _, shown in console() if "39.4 exceeds" in shown)
    assert is_as_shown(shown, shown)
    assert not is_as_shown(shown, shown.replace(*change))
