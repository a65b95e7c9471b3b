"""What orchestration.yml may say, and which rule holds for a node."""

from importlib.util import find_spec

import pytest
from kedro.pipeline import Node
from pydantic import ValidationError

from wine_quality.cli import explain
from wine_quality.orchestration.settings import OrchestrationSettings, read_settings

pytestmark = pytest.mark.skipif(
    find_spec("prefect") is None, reason="Prefect is an extra: './just extras'"
)


def do_nothing(value):
    return value


def node(name, *tags):
    return Node(do_nothing, "a", "b", name=name, tags=tags)


def mistake(values):
    with pytest.raises(ValidationError) as caught:
        read_settings({"orchestration": values})
    told = explain(caught.value)
    assert "\n" not in told
    return told


def test_the_last_rule_that_fits_a_node_holds(plain_settings):
    plain_settings["retries"] = {
        "all": {"nodes": ["*"], "errors": ["network"], "tries": 5},
        "once": {"nodes": ["training.decide_*"], "tries": 1},
        "slow": {"tags": ["slow"], "errors": ["network", "database"], "tries": 9},
    }
    settings = read_settings({"orchestration": plain_settings})
    tries = {
        name: settings.rule_for(one).tries
        for name, one in {
            "any": node("monitoring.count_windows"),
            "once": node("training.decide_promotion"),
            "tagged": node("training.decide_promotion", "slow", "other"),
        }.items()
    }
    assert tries == {"any": 5, "once": 1, "tagged": 9}


def test_without_a_rule_a_node_is_tried_once(plain_settings):
    settings = read_settings({"orchestration": plain_settings | {"retries": {}}})
    rule = settings.rule_for(node("training.decide_promotion"))
    assert (rule.tries, settings.error_types(rule)) == (1, ())


def test_kinds_of_errors_are_loaded_by_rule(plain_settings):
    settings = OrchestrationSettings.model_validate(
        plain_settings
        | {
            "errors": {"network": ["builtins.ConnectionError"], "files": ["builtins.OSError"]},
            "retries": {"all": {"nodes": ["*"], "errors": ["network"], "tries": 2}},
        }
    )
    rule = settings.rule_for(node("any"))
    assert settings.error_types(rule) == (ConnectionError,)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"retrys": {}}, "retrys: Extra inputs are not permitted"),
        ({"errors": {"network": ["builtins.ConectionError"]}}, "has no attribute 'ConectionError'"),
        ({"errors": {"network": ["builtins.print"]}}, "builtins.print is no exception"),
        ({"errors": {"network": ["nowhere.at.all"]}}, "nowhere"),
        (
            {"retries": {"all": {"nodes": ["*"], "errors": ["weather"]}}},
            "retries.all.errors: there is no kind 'weather', choose network",
        ),
        ({"retries": {"all": {"nodes": ["*"], "tries": 0}}}, "retries.all.tries"),
        ({"nodes_at_once": 0}, "nodes_at_once"),
        ({"dask": {"processes": 2}}, "dask.nodes: Field required"),
    ],
)
def test_a_mistake_is_named_in_one_line(plain_settings, change, told):
    message = mistake(plain_settings | change)
    assert message.startswith("Wrong settings of orchestration.yml: ")
    assert told in message


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"cron": "every hour"}, "deployments.one.cron"),
        ({"cron": "5 * * * *", "interval": 60}, "either cron or interval, not both"),
        ({"interval": 0}, "an interval is longer than nothing"),
        ({"cron": "5 * * * *", "timezone": "Europe/Lisbom"}, "no timezone 'Europe/Lisbom'"),
        ({"collision": "wait"}, "deployments.one.collision"),
        ({"concurrency_limit": 0}, "deployments.one.concurrency_limit"),
        ({"schedule": "daily"}, "deployments.one.schedule: Extra inputs are not permitted"),
    ],
)
def test_a_mistake_in_a_deployment_is_named_in_one_line(plain_settings, given, told):
    plain_settings["deployments"] = {"one": {"pipeline": "monitoring"} | given}
    assert told in mistake(plain_settings)


def test_names_that_no_node_bears_are_listed(plain_settings):
    settings = read_settings({"orchestration": plain_settings})
    found = settings.unknown_nodes([node("training.describe_version"), node("tuning.x.any")])
    assert "retries.once_only.nodes: no node is called 'training.decide_promotion'" in found
    assert "dask.nodes: no node is called 'tuning.*.tune_candidate'" in found
    assert not [line for line in found if "'*'" in line or "describe_version" in line]
