import json
from datetime import UTC, datetime, timedelta

import mlflow
import numpy as np
import pandas as pd
import pytest
from yaml import safe_load

from wine_quality.drift.alerts import AlertSettings
from wine_quality.drift.performance import PERFORMANCE_DTYPES
from wine_quality.errors import WineQualityError
from wine_quality.modelling.candidates import Candidate, build_model
from wine_quality.modelling.promotion import PromotionSettings
from wine_quality.modelling.registry import TrainedModel
from wine_quality.pipelines.retraining import create_pipeline, nodes
from wine_quality.pipelines.retraining.parameters import RetrainingParameters
from wine_quality.pipelines.training.parameters import TrainingParameters
from wine_quality.retraining.decision import Decision
from wine_quality.retraining.decision_store import DecisionStore
from wine_quality.system.project import project_folder
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import INPUTS, PREDICTION, QUALITY, wine_hashes

FOREST = {
    "estimator": "sklearn.ensemble.ExtraTreesRegressor",
    "settings": {"n_estimators": 40, "min_samples_leaf": 2},
}
STUMP = {"estimator": "sklearn.tree.DecisionTreeRegressor", "settings": {"max_depth": 1}}
HELD_OUT = draw_wines(150, 21)
TRAFFIC = draw_wines(300, 22)
START = datetime(2026, 3, 1, tzinfo=UTC)
WINE_AUDIT = {
    "read": 240,
    "accepted": 240,
    "rejected": 0,
    "exact_duplicates": 0,
    "by_type": {"red": 60, "white": 180},
    "by_quality": {},
    "missing": {},
    "implausible": {},
    "contradictory_groups": 0,
    "fingerprint": "x",
}
SPLIT_AUDIT = {
    "training_rows": 240,
    "held_out_rows": 150,
    "held_out_rows_in_training": 0,
    "distinct_complete_rows": 150,
    "distinct_complete_rows_in_training": 0,
}
TRAFFIC_AUDIT = {"used": True, "labelled": 310, "accepted": 300, "left_out": {"source": 10}}


def training_parameters(candidates):
    text = (project_folder() / "conf/base/parameters_training.yml").read_text()
    plain = safe_load(text.replace("${globals:seed}", "2009"))["training"]
    plain["comparison"]["cross_validation"]["folds"] = 3
    plain["analysis"]["bootstrap_resamples"] = 100
    return TrainingParameters.model_validate(plain | {"candidates": candidates})


def retraining_parameters(**decision):
    text = (project_folder() / "conf/base/parameters_retraining.yml").read_text()
    plain = safe_load(text)["retraining"]
    return RetrainingParameters.model_validate(
        plain | {"use_traffic": True, "decision": plain["decision"] | decision}
    )


def usable(labelled_wines, answers):
    """Raw wines, and traffic that version 1 answered."""
    moments = [START + k * timedelta(hours=1) for k in range(len(TRAFFIC))]
    rows = TRAFFIC[[*INPUTS, QUALITY]].assign(
        prediction_id=[f"id-{k}" for k in range(len(TRAFFIC))],
        model_version="1",
        source="shop",
        event_time=pd.to_datetime(moments, utc=True),
        **{PREDICTION: answers},
    )
    return pd.concat([labelled_wines, rows], ignore_index=True)


@pytest.fixture
def champion(registry, experiment_id, labelled_wines):
    """A stump that is champion."""
    model = build_model(Candidate(**STUMP), 0)
    model.fit(labelled_wines[list(INPUTS)], labelled_wines[QUALITY])
    predicted = np.asarray(model.predict(HELD_OUT[list(INPUTS)]), dtype=float)
    reference = HELD_OUT[[*INPUTS, QUALITY]].assign(**{PREDICTION: predicted})
    trained = TrainedModel(
        model, reference, {"candidate": "tree"}, fitted=wine_hashes(labelled_wines)
    )
    with mlflow.start_run(experiment_id=experiment_id):
        version = registry.register(trained)
    registry.promote(version.version, instead_of=None)
    return model


@pytest.fixture
def retrain(run_pipeline, registry, experiment_id, labelled_wines, champion, tmp_path):
    store = DecisionStore(f"sqlite:///{tmp_path}/monitoring.db")

    def run(candidates, wines=None, channels=(), **decision):
        answered = usable(labelled_wines, champion.predict(TRAFFIC[list(INPUTS)]))
        given = {
            "usable_wines": answered if wines is None else wines,
            "alerts": [],
            "model_verdicts": pd.DataFrame(columns=list(PERFORMANCE_DTYPES)).astype(
                PERFORMANCE_DTYPES
            ),
            "training_wines": labelled_wines,
            "held_out_wines": HELD_OUT,
            "wine_audit": WINE_AUDIT,
            "split_audit": SPLIT_AUDIT,
            "traffic_audit": TRAFFIC_AUDIT,
            "model_registry": registry,
            "decision_store": store,
            "params:training": training_parameters(candidates),
            "params:promotion": PromotionSettings(),
            "params:monitoring.alerts": AlertSettings(channels=channels),
            "params:retraining": retraining_parameters(**decision),
        }
        with mlflow.start_run(experiment_id=experiment_id):
            return run_pipeline(create_pipeline(), given)

    yield run
    store.close()


def test_where_nothing_asks_for_it_nothing_is_trained(retrain, registry):
    made = retrain({"tree": FOREST})
    assert made["retraining"] == {
        "format": 1,
        "id": made["retraining"]["id"],
        "action": "keep",
        "causes": [],
        "obstacles": [],
        "champion": "1",
        "labels": 300,
        "decided_at": made["retraining"]["decided_at"],
        "reason": "nothing asks for another model",
        "undone": "",
        "since": "",
        "newest_label": "2026-03-13T11:00:00+00:00",
        "review": {
            "champion": "1",
            "former": None,
            "labels": 0,
            "undone": False,
            "reason": "version 1 has no champion before it",
        },
        "version": None,
        "promoted": False,
        "outcome": "",
        "replayed": 0,
    }
    assert registry.newest().version == "1"
    assert "nothing asks for another model" in made["retraining_page_html"]
    assert "left out by source: 10" in made["retraining_page_html"]


def test_a_better_version_is_promoted_after_it_answered_the_traffic(retrain, registry):
    made = retrain({"tree": FOREST}, force=True)
    found = made["retraining"]
    assert (found["action"], found["version"], found["promoted"]) == ("retrain", "2", True)
    assert found["replayed"] == len(made["replayed_traffic"]) == 300
    assert "on 150 held-out wines and 300 replayed predictions" in found["outcome"]
    assert registry.version("champion").version == "2"
    assert registry.version("2").tags["candidate"] == "tree"
    assert len(made["replay_figure"].data) == 2
    assert "<dt>version 2</dt>\n  <dd>is champion: it is better" in made["retraining_page_html"]
    # the next run finds the cool-down, and another one may be forced
    again = retrain({"tree": FOREST}, oldest_days=1e-9)["retraining"]
    assert again["action"] == "keep"
    assert "h have to lie between two" in again["reason"]


def test_after_a_change_of_the_tasters_what_they_say_since_decides(
    registry, champion, labelled_wines
):
    """Raw wines, and 300 of traffic that are judged two points worse, as are those held out."""
    answered = usable(labelled_wines, champion.predict(TRAFFIC[list(INPUTS)]))
    moments = pd.Series(pd.Timestamp(START), HELD_OUT.index[:100])
    held_out = HELD_OUT.assign(event_time=moments)
    wines, held_out = (
        frame.assign(
            **{QUALITY: (frame[QUALITY] - 2 * frame["event_time"].notna()).clip(0).astype(int)}
        )
        for frame in (answered, held_out)
    )
    since = START.isoformat()
    claim = nodes.Claim("id", Decision("retrain", ("so",), (), "1", 300, since, since=since))
    given = (registry, WINE_AUDIT, SPLIT_AUDIT, training_parameters({"tree": FOREST}))
    trained = nodes.retrain_champion(claim, wines, held_out, *given).trained
    assert trained.tags["judged_since"] == since
    # kept they would contradict those since, and left out there are few
    assert trained.tags["earlier_labels"].startswith("moved by -")
    assert set(trained.fitted) == set(wine_hashes(wines))
    assert len(trained.reference) == 100
    error = trained.reference[PREDICTION] - trained.reference[QUALITY]
    assert abs(error.mean()) < 0.3
    before = nodes.Claim("id", Decision("retrain", ("so",), (), "1", 300, since))
    kept = nodes.retrain_champion(before, wines, held_out, *given).trained
    assert "judged_since" not in kept.tags
    assert len(kept.reference) == 150


def test_a_version_that_is_no_better_stays_challenger(retrain, registry):
    found = retrain({"tree": STUMP}, force=True)["retraining"]
    assert (found["action"], found["version"], found["promoted"]) == ("retrain", "2", False)
    assert "not better with confidence" in found["outcome"]
    assert registry.version("champion").version == "1"
    assert registry.version("challenger").version == "2"


def test_without_traffic_held_out_wines_alone_decide(retrain, labelled_wines):
    made = retrain({"tree": FOREST}, wines=labelled_wines, force=True)
    found = made["retraining"]
    assert (found["labels"], found["replayed"], found["version"]) == (0, 0, "2")
    assert "on 150 held-out wines that neither was fitted on" in found["outcome"]
    assert made["replay_figure"].layout.title.text == "Nothing was replayed"


def test_a_promotion_that_was_a_mistake_is_undone_and_not_proposed_again(
    retrain, registry, experiment_id, labelled_wines, champion, serve_posts
):
    """A stump of nonsense follows the champion, by hand, and answers 300 wines."""
    arrived = []

    def take(_headers, body):
        arrived.append(json.loads(body))
        return 200, {}, "ok"

    made = retrain({"tree": FOREST}, force=True)
    assert made["retraining"]["promoted"]
    wrong = build_model(Candidate(**STUMP), 0)
    wrong.fit(labelled_wines[list(INPUTS)], labelled_wines[QUALITY].sample(frac=1, random_state=3))
    predicted = np.asarray(wrong.predict(HELD_OUT[list(INPUTS)]), dtype=float)
    trained = TrainedModel(
        wrong,
        HELD_OUT[[*INPUTS, QUALITY]].assign(**{PREDICTION: predicted}),
        {"candidate": "tree"},
        fitted=wine_hashes(labelled_wines),
    )
    with mlflow.start_run(experiment_id=experiment_id):
        version = registry.register(trained)
    registry.promote(version.version, instead_of=registry.version("champion"))
    wines = usable(labelled_wines, wrong.predict(TRAFFIC[list(INPUTS)]))
    wines["model_version"] = wines["model_version"].where(wines["model_version"].isna(), "3")
    with serve_posts(take) as address:
        desk = ({"name": "desk", "url": address},)
        made = retrain({"tree": FOREST}, wines=wines, channels=desk)
    review = made["retraining"]["review"]
    assert (review["champion"], review["former"], review["undone"]) == ("3", "2", True)
    assert review["labels"] == 200
    assert registry.version("champion").version == "2"
    reason = made["retraining"]["reason"]
    assert reason.startswith("the promotion of version 3 is undone: mean squared error ")
    assert reason.endswith("; nothing asks for another model")
    assert "the promotion of version 3 is undone" in made["retraining_page_html"]
    (message,) = arrived
    assert message["event"] == "promotion_undone"
    assert message["title"] == "Wine quality: a promotion is undone"
    assert message["summary"] == review["reason"]
    # once more changes nothing
    again = retrain({"tree": FOREST}, wines=wines)["retraining"]
    assert not again["review"]["undone"]
    assert registry.version("champion").version == "2"
    assert registry.former_champions() == ("1",)


def test_a_retraining_that_was_killed_keeps_nobody_from_the_next(retrain, registry, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(registry, "register", die)
        with pytest.raises(KeyboardInterrupt):
            retrain({"tree": FOREST}, oldest_days=1e-9)
    found = retrain({"tree": FOREST}, oldest_days=1e-9)
    assert found["retraining"]["promoted"]
    assert "interrupted: its process ended" in found["retraining_page_html"]
    # one that came to its end does
    assert retrain({"tree": FOREST}, oldest_days=1e-9)["retraining"]["action"] == "keep"


@pytest.mark.parametrize("step", ["settle", "promoted"])
def test_a_retraining_that_was_killed_with_its_version_registered_goes_on_with_it(
    retrain, registry, monkeypatch, step
):
    def die(*arguments):
        if step == "promoted":
            settle(*arguments)
        raise KeyboardInterrupt

    settle = nodes.settle
    with monkeypatch.context() as patched:
        patched.setattr(nodes, "settle", die)
        # also where it fails again and again, no second version is registered
        for _ in range(2 if step == "settle" else 1):
            with pytest.raises(KeyboardInterrupt):
                retrain({"tree": FOREST}, oldest_days=1e-9)
            assert registry.version("3") is None
    found = retrain({"tree": FOREST})["retraining"]
    assert (found["action"], found["version"], found["promoted"]) == ("retrain", "2", True)
    assert found["causes"] == ["version 1 is 0 days old"]
    assert registry.version("champion").version == "2"
    assert registry.version("3") is None
    assert (found["replayed"] > 0) == (step == "settle")
    # it has come to its end
    assert retrain({"tree": FOREST})["retraining"]["action"] == "keep"


def test_a_champion_whose_candidate_is_gone_says_what_to_do(retrain):
    with pytest.raises(WineQualityError, match=r"candidate tree is not in training\.candidates"):
        retrain({"other": FOREST}, force=True)


def test_without_traffic_there_are_no_labels(labelled_wines):
    assert nodes._labelled(labelled_wines).empty
