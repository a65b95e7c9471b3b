import json
import re
from contextlib import closing
from datetime import UTC, datetime
from html import unescape
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from pydantic import ValidationError

from wine_quality.datasets import VerdictHistoryDataset
from wine_quality.drift import evidently_reports
from wine_quality.drift.acceptance_store import AcceptanceStore
from wine_quality.drift.alerts import AlertSettings, ChannelSettings
from wine_quality.drift.evidently_reports import KINDS, report_window
from wine_quality.drift.evidently_workspace import ReportWorkspace
from wine_quality.drift.incident_store import IncidentStore
from wine_quality.drift.log_reader import LakeReader
from wine_quality.drift.profile_store import ProfileStore
from wine_quality.drift.reference import JOINT, Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdict_store import VerdictStore
from wine_quality.drift.verdicts import COPIES, TRAFFIC
from wine_quality.errors import WineQualityError
from wine_quality.pipelines.monitoring import create_pipeline, nodes
from wine_quality.pipelines.monitoring.figures import (
    VERDICT_COLOURS,
    plot_drift_heat_map,
    plot_error_over_time,
)
from wine_quality.pipelines.monitoring.parameters import MonitoringParameters
from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.log_writing import ShadowAnswers
from wine_quality.serving.prediction_batch import PredictionBatch
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import INPUTS, PREDICTION, QUALITY

SETTINGS = DriftSettings(resamples=1000, seed=2009, reported_windows=0)
REPORTED = SETTINGS.model_copy(update={"reported_windows": 4})
COLUMNS = {*INPUTS, PREDICTION}
SUBJECTS = {*COLUMNS, JOINT, COPIES, TRAFFIC}
TABLES = ("verdicts", "model_verdicts")


def predicted(wines, seed):
    """Wines with predictions that err by a normal of 0.6 points."""
    error = np.random.default_rng(seed).normal(0, 0.6, len(wines))
    return wines.assign(**{PREDICTION: wines[QUALITY] + error})


def stronger(wines):
    return wines.assign(alcohol=wines["alcohol"] + 2)


# the second version was trained in a warmer year
REFERENCES = {
    "1": predicted(draw_wines(500, 1), 1),
    "2": predicted(stronger(draw_wines(500, 2)), 2),
}


class Registered:
    """The references as a registry holds them; those of the first edition have no profile."""

    def __init__(self, wines=REFERENCES, profiles=None):
        self.by_version, self.profiles, self.asked = wines, profiles or {}, []

    def key(self, version):
        if version not in self.by_version:
            raise WineQualityError(f"Version {version} of wine-quality is not in the registry.")
        return f"wine-quality/{version}"

    def profile(self, version):
        return self.profiles.get(version)

    def wines(self, version):
        self.asked.append(version)
        return self.by_version[version]


def day(number, version, wines, **changes):
    """What was logged on a day of January: the wines, and what became of their columns."""
    start = pd.Timestamp(2026, 1, number, tz="UTC")
    return wines.assign(
        prediction_id=[f"{start:%d}-{row:08x}" for row in range(len(wines))],
        event_time=start + pd.to_timedelta(np.arange(len(wines)), unit="min"),
        model_version=version,
        **changes,
    )


def week():
    """A day for each thing that can happen, the newest first."""
    wines = {n: predicted(draw_wines(120, 10 + n), n) for n in range(2, 6)}
    return pd.concat(
        [
            day(5, "2", stronger(wines[5]), pH=np.nan),
            day(4, "1", wines[4], quality=wines[4][QUALITY] + 1.0),
            day(3, "1", stronger(wines[3]), quality=np.nan),
            day(2, "1", wines[2]),
            day(1, "2", predicted(draw_wines(30, 9), 9)),
        ],
        ignore_index=True,
    )


LOG = week()


def lake_of(folder, log):
    """Keep a log as files, where monitoring reads it."""
    for start, part in log.groupby(log["event_time"].dt.strftime("%Y-%m-%d")):
        (folder / f"day={start}").mkdir(parents=True, exist_ok=True)
        part.to_parquet(folder / f"day={start}" / "part-0.parquet", index=False)
    return LakeReader(str(folder), "duckdb")


def monitor(run_pipeline, folder, reader, settings=SETTINGS, references=None):
    """One run, with the stores of the folder."""
    url = f"sqlite:///{folder}/monitoring.db"
    served = InferenceLog(f"sqlite:///{folder}/inference_log.db")
    acceptances = AcceptanceStore(url)
    with ProfileStore(url) as store, IncidentStore(url) as incidents, acceptances, served:
        given = {
            "inference_log": reader,
            "inference_log_connection": served,
            "profile_store": store,
            "acceptance_store": acceptances,
            "references": references or Registered(),
            "verdict_history": VerdictHistoryDataset(credentials={"url": url}),
            "incident_store": incidents,
            "evidently_workspace": workspace_of(folder),
            "params:monitoring.drift": settings,
            "params:monitoring.alerts": AlertSettings(),
        }
        made = run_pipeline(create_pipeline(), given)
    for name, page in made["evidently_pages"].items():
        file = folder / "pages" / f"{name}.html"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page)
    reports = workspace_of(folder).read()
    return made | {"verdict_history": history(folder), "reports": reports}


def workspace_of(folder):
    return ReportWorkspace(str(folder / "workspace"), "wines", str(folder / "pages"))


def history(folder):
    with VerdictStore(f"sqlite:///{folder}/monitoring.db") as store:
        return store.history()


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    reader = lake_of(tmp_path_factory.mktemp("lake"), LOG)
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def made(run_pipeline, reader, tmp_path_factory):
    """All that the pipeline makes of the week."""
    return monitor(run_pipeline, tmp_path_factory.mktemp("stores"), reader, REPORTED)


def of_day(table, number):
    return table[table["window_start"] == pd.Timestamp(2026, 1, number, tz="UTC")]


# The pipeline


def test_every_day_and_column_has_a_verdict(made):
    verdicts = made["verdicts"]
    assert verdicts["window_start"].is_monotonic_increasing
    for number in range(1, 6):
        rows = of_day(verdicts, number)
        assert sorted(rows["column"]) == sorted(SUBJECTS)
        assert (rows["window_end"] - rows["window_start"] == pd.Timedelta("1D")).all()
        assert set(rows["model_version"]) == {"2" if number in (1, 5) else "1"}


@pytest.mark.parametrize(
    ("number", "others", "special"),
    [
        (1, "insufficient_data", {}),
        (2, "ok", {}),
        (3, "ok", {"alcohol": "drift"}),
        (4, "ok", {}),
        # compared with the reference of its own version, the strong wines are no drift
        (5, "ok", {"pH": "data_quality", JOINT: "insufficient_data"}),
    ],
    ids=["too few", "as ever", "drift", "decay", "a column fails"],
)
def test_a_days_verdicts(made, number, others, special):
    found = of_day(made["verdicts"], number).set_index("column")["verdict"].to_dict()
    expected = dict.fromkeys({*COLUMNS, JOINT, COPIES}, others) | {TRAFFIC: "ok"}
    # a day of stronger wines changes how alcohol goes with everything else
    joint = {JOINT: found[JOINT]} if "alcohol" in special else {}
    assert found == expected | joint | special


def test_a_log_that_no_service_wrote_has_no_challenger(made):
    assert made["shadow_comparisons"] == []


def test_challengers_are_compared_by_their_shadow_answers(tmp_path, reader):
    wines = predicted(draw_wines(150, 1, duplicates=False), 3)
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    batch = PredictionBatch.from_frame(
        wines, wines[PREDICTION].to_numpy(), prediction_ids=uuid7_batch(150), event_time=noon,
        received_at=noon, model_version="1", source="test", latency_ms=1.0,
    )  # fmt: skip
    names = [str(i) for i in batch.prediction_ids]
    # half a point from the truth; the challenger's last answer has no label
    said = wines[QUALITY].to_numpy() + 0.5
    with InferenceLog(f"sqlite:///{tmp_path}/log.db") as log:
        assert nodes.compare_challengers(log, reader, SETTINGS) == []
        log.append_predictions(batch)
        log.append_shadows([ShadowAnswers(batch.prediction_ids, "2", said, noon)])
        assert nodes.compare_challengers(log, reader, SETTINGS) == []
        labels = {"prediction_id": names[:149], "quality": wines[QUALITY][:149]}
        log.append_ground_truth(pd.DataFrame(labels))
        (found,) = nodes.compare_challengers(log, reader, SETTINGS)
        apart = SETTINGS.model_copy(update={"sources_apart": ("test",)})
        (simulated,) = nodes.compare_challengers(log, reader, apart)
        without = SETTINGS.model_copy(update={"sources_left_out": ("test",)})
        assert nodes.compare_challengers(log, reader, without) == []
    assert simulated == found | {"champion": "1 (test)"}
    error = (wines[PREDICTION] - wines[QUALITY])[:149].abs().mean()
    assert (found["champion"], found["challenger"], found["labels"]) == ("1", "2", 149)
    assert found["champion_mae"] == pytest.approx(error)
    assert found["challenger_mae"] == pytest.approx(0.5)
    assert found["gain"] == pytest.approx(error - 0.5)
    assert json.loads(json.dumps(found)) == found


def test_the_models_verdicts(made):
    table = made["model_verdicts"]
    found = {number: of_day(table, number).set_index("segment") for number in range(1, 6)}
    assert [found[n].loc["all", "verdict"] for n in found] == [
        "insufficient_data",
        "ok",
        "no_labels",
        "decayed",
        "ok",
    ]
    assert all(set(rows.index) == {"all", "red", "white"} for rows in found.values())
    held_out = REFERENCES["1"]
    expected = (held_out[PREDICTION] - held_out[QUALITY]).abs().mean()
    assert found[4].loc["all", "reference_mae"] == pytest.approx(expected)
    day_four = LOG[LOG["event_time"].dt.day == 4]
    expected = (day_four[PREDICTION] - day_four[QUALITY]).abs().mean()
    assert found[4].loc["all", "mae"] == pytest.approx(expected)
    assert found[4].loc["all", "value"] > found[4].loc["all", "threshold"]


def test_every_hour_with_a_wine_is_counted(made):
    # a wine a minute: half an hour on the first day, two hours on each of the others
    assert made["counted_hours"]["counted"] >= 1 + 4 * 2


def test_the_alerts_name_what_changed_and_since_when(made):
    alerts = {(a["model_version"], a["subject"], a["verdict"]): a for a in made["alerts"]}
    strong = alerts["1", "alcohol", "drift"]
    assert strong["since"].startswith("2026-01-03T0")
    assert strong["since_earliest"] <= strong["since"] <= strong["since_latest"]
    assert "median went from" in strong["reason"]
    assert alerts["2", "pH", "data_quality"]["since"].startswith("2026-01-05")
    decay = alerts["1", "model", "decayed"]
    assert decay["since_earliest"] < "2026-01-04T02"
    assert decay["since_latest"] >= "2026-01-04T00"
    assert decay["found"].startswith("2026-01-04")
    assert "mean error went from" in decay["reason"]
    # for machines: plain JSON, without NaN
    assert json.loads(json.dumps(made["alerts"], allow_nan=False)) == made["alerts"]


def test_the_newest_and_the_alarming_windows_are_reported(made):
    pages, reports = made["evidently_pages"], made["reports"]
    folders = {"": (5, 2), "2026-01-03T000000_v1/": (3, 1), "2026-01-04T000000_v1/": (4, 1)}
    assert pages.keys() == {folder + kind for folder in folders for kind in KINDS}
    for folder, (number, version) in folders.items():
        window = f"2026-01-0{number} 00:00 to 2026-01-0{number + 1} 00:00 UTC"
        for kind in KINDS:
            page = pages[folder + kind]
            title = f"{kind.capitalize()}: {window}, model version {version}"
            if title in reports:
                assert page.lower().lstrip().startswith("<!doctype html")
                assert title in page
            else:
                # on that day nobody judged a wine
                assert (number, kind) == (3, "regression")
                assert "<h1>No regression report</h1>" in page
    assert "alcohol" in reports["Drift: 2026-01-05 00:00 to 2026-01-06 00:00 UTC, model version 2"]


def test_only_what_changed_is_drawn_again(run_pipeline, tmp_path, monkeypatch):
    drawn = []

    def report(rows, held_out, verdicts, seed):
        drawn.append(verdicts["window_start"].iloc[0].day)
        return report_window(rows, held_out, verdicts, seed)

    monkeypatch.setattr(evidently_reports, "report_window", report)

    def run(log):
        drawn.clear()
        with closing(lake_of(tmp_path / "lake", log)) as reader:
            return monitor(run_pipeline, tmp_path, reader, REPORTED), sorted(drawn)

    before, days = run(LOG[LOG["event_time"].dt.day < 5])
    assert days == [3, 4]
    again, days = run(LOG[LOG["event_time"].dt.day < 5])
    assert days == []
    assert again["evidently_pages"] == before["evidently_pages"]
    assert again["reports"] == before["reports"]
    # a newer window; that of the fourth, whose pages move, stays as it is
    after, days = run(LOG)
    assert days == [5]
    folder = "2026-01-04T000000_v1/"
    assert after["evidently_pages"][f"{folder}drift"] == before["evidently_pages"]["drift"]
    # late labels
    late = LOG.assign(quality=LOG[QUALITY].fillna(LOG[PREDICTION].round()))
    after, days = run(late)
    assert days == [3]
    assert (
        "Regression: 2026-01-03 00:00 to 2026-01-04 00:00 UTC, model version 1"
        in (after["reports"])
    )
    # whoever removes a report has it drawn again
    (title,) = [title for title in after["reports"] if title.startswith("Summary: 2026-01-04")]
    assert workspace_of(tmp_path).remove([title]) == 1
    after, days = run(late)
    assert days == [4]
    assert title in after["reports"]
    # fewer are to be kept: what others added stays
    own = json.dumps({**json.loads(after["reports"][title]), "name": "a look of ours"})
    workspace_of(tmp_path).add([own])
    few = REPORTED.model_copy(update={"reports_kept": 2})
    with closing(lake_of(tmp_path / "lake", late)) as reader:
        after = monitor(run_pipeline, tmp_path, reader, few)
    assert {title.partition(": ")[2][:10] for title in after["reports"]} == {
        "", "2026-01-05", "2026-01-04"
    }  # fmt: skip


def test_the_page_shows_the_newest_window_and_links_all_reports(made):
    page = made["monitoring_page_html"]
    assert '<b class="name-a">2026-01-05, version 2</b>' in page
    assert "Each line is a score over 5 windows" in page
    for name in made["evidently_pages"]:
        assert f'href="evidently/{name}.html"' in page
    assert "Evidently's regression report of 2026-01-04 00:00, version 1" in unescape(page)
    # the kinds in one order, window by window
    kinds = re.findall(r"Evidently's (\w+) report", unescape(page))
    assert kinds == ["drift", "regression", "summary"] * (len(kinds) // 3)


def test_the_history_holds_every_verdict_once(made):
    found = made["verdict_history"]
    assert len(found) == len(made["verdicts"]) + len(made["model_verdicts"])
    assert (found["revision"] == 1).all()
    decay = found.query("subject == 'model (all)' and verdict == 'decayed'")
    assert decay["window_start"].tolist() == [pd.Timestamp(2026, 1, 4, tz="UTC")]


# Run after run


def test_a_run_counts_only_what_is_new_and_late_labels_change_the_verdict(
    run_pipeline, tmp_path, caplog
):
    caplog.set_level("INFO", "wine_quality")
    lake = tmp_path / "lake"

    def run(log):
        caplog.clear()
        reader = lake_of(lake, log)
        made = monitor(run_pipeline, tmp_path, reader)
        reader.close()
        return made, [r.message for r in caplog.records if r.message.startswith("Counted")]

    unlabelled = LOG[LOG["event_time"].dt.day.isin([2, 4])].assign(quality=np.nan)
    first, told = run(unlabelled)
    # a lake knows days: each of their hours is looked through once
    assert told == ["Counted 48 of 48 hours; the others are known"]
    assert of_day(first["model_verdicts"], 4)["verdict"].unique().tolist() == ["no_labels"]
    assert "Verdicts that changed" not in first["monitoring_page_html"]

    again, told = run(unlabelled.iloc[:0])
    assert told == ["Counted 0 of 48 hours; the others are known"]
    for name in (*TABLES, "verdict_history"):
        assert_frame_equal(again[name], first[name])

    late, told = run(LOG[LOG["event_time"].dt.day == 4])
    assert told == ["Counted 24 of 48 hours; the others are known"]
    whole = of_day(late["model_verdicts"], 4).set_index("segment")
    assert whole.loc["all", "verdict"] == "decayed"
    revised = late["verdict_history"].query("revision == 2")
    assert set(revised["subject"]) == {"model (all)", "model (red)", "model (white)"}
    assert (revised["window_start"] == pd.Timestamp(2026, 1, 4, tz="UTC")).all()
    assert len(late["verdict_history"]) == len(first["verdict_history"]) + 3
    page = unescape(late["monitoring_page_html"])
    assert "Verdicts that changed" in page
    assert "was no ground truth until" in page


def test_a_window_whose_labels_change_is_judged_however_old_it_is(run_pipeline, tmp_path):
    lake = tmp_path / "lake"
    newest_only = SETTINGS.model_copy(update={"newest_windows": 1})

    def run(log):
        reader = lake_of(lake, log)
        made = monitor(run_pipeline, tmp_path, reader, newest_only)
        reader.close()
        return made

    day_four = LOG["event_time"].dt.day == 4
    run(LOG[~day_four & (LOG["event_time"].dt.day < 5)])
    unlabelled = LOG.assign(quality=LOG[QUALITY].mask(day_four))
    # a run that saw nothing of the fourth day and all of the fifth
    first = run(unlabelled[unlabelled["event_time"].dt.day >= 4])
    assert of_day(first["verdict_history"].query("subject == 'model (all)'"), 4)[
        "verdict"
    ].tolist() == ["no_labels"]

    late = run(LOG[day_four])
    assert late["verdicts"]["window_start"].dt.day.unique().tolist() == [5]
    of_four = of_day(late["verdict_history"].query("subject == 'model (all)'"), 4)
    assert of_four["verdict"].tolist() == ["no_labels", "decayed"]
    assert of_day(late["late_verdicts"], 4)["subject"].nunique() == len(SUBJECTS) + 3
    assert "was no ground truth until" in unescape(late["monitoring_page_html"])

    again = run(LOG.iloc[:0])
    assert again["late_verdicts"].empty
    assert_frame_equal(again["verdict_history"], late["verdict_history"])


def test_what_a_killed_run_did_not_record_is_judged_by_the_next_one(
    run_pipeline, tmp_path, monkeypatch
):
    lake = tmp_path / "lake"
    newest_only = SETTINGS.model_copy(update={"newest_windows": 1})
    day_four = LOG["event_time"].dt.day == 4
    reader = lake_of(lake, LOG.assign(quality=LOG[QUALITY].mask(day_four)))
    monitor(run_pipeline, tmp_path, reader)
    reader.close()
    reader = lake_of(lake, LOG[day_four])
    with monkeypatch.context() as patch:
        patch.setattr(VerdictStore, "record", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            monitor(run_pipeline, tmp_path, reader, newest_only)
    made = monitor(run_pipeline, tmp_path, reader, newest_only)
    reader.close()
    of_four = of_day(made["verdict_history"].query("subject == 'model (all)'"), 4)
    assert of_four["verdict"].tolist() == ["no_labels", "decayed"]


def test_windows_follow_a_time_zone_and_a_store_of_other_windows_opens(run_pipeline, tmp_path):
    reader = lake_of(tmp_path / "lake", LOG)
    before = monitor(run_pipeline, tmp_path, reader)
    # the first two hours of a day in UTC are the evening before in New York, the morning in India
    for zone, offset, begins in [
        ("America/New_York", "0h", "05:00"),
        ("Asia/Kolkata", "0h", "18:30"),
        ("Asia/Kolkata", "6h", "00:30"),
    ]:
        settings = SETTINGS.model_copy(update={"time_zone": zone, "window_offset": offset})
        made = monitor(run_pipeline, tmp_path, reader, settings)
        columns = made["verdicts"][made["verdicts"]["column"].isin(COLUMNS)]
        starts = columns["window_start"].drop_duplicates()
        assert set(starts.dt.strftime("%H:%M")) == {begins}
        assert (columns["window_end"] - columns["window_start"] == pd.Timedelta("1D")).all()
        assert f"midnight {zone}" in made["monitoring_page_html"]
        counted = made["verdicts"].query("column == 'traffic' and verdict == 'ok'")["n"].sum()
        assert counted == len(LOG)
    again = monitor(run_pipeline, tmp_path, reader)
    reader.close()
    for name in TABLES:
        assert_frame_equal(again[name], before[name])
    kept = again["verdict_history"].merge(
        before["verdict_history"], on=["window_start", "model_version", "subject", "revision"]
    )
    assert len(kept) == len(before["verdict_history"])


def test_a_killed_run_leaves_nothing_behind_that_the_next_one_would_miss(
    run_pipeline, tmp_path, monkeypatch
):
    reader = lake_of(tmp_path / "lake", LOG)
    whole = monitor(run_pipeline, tmp_path / "never killed", reader)
    store, kept = ProfileStore.replace, []

    def replace(*arguments, **options):
        if len(kept) == 1:
            raise KeyboardInterrupt
        kept.append(arguments)
        store(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ProfileStore, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            monitor(run_pipeline, tmp_path / "killed", reader)
    after = monitor(run_pipeline, tmp_path / "killed", reader)
    reader.close()
    for name in TABLES:
        assert_frame_equal(after[name], whole[name])
    both = [made["verdict_history"].drop(columns="decided_at") for made in (after, whole)]
    assert_frame_equal(*both)


def test_small_windows_are_merged_where_that_is_asked_for(run_pipeline, tmp_path):
    hourly = SETTINGS.model_copy(update={"window": "1h", "small_windows": "merge", "min_rows": 100})
    reader = lake_of(tmp_path / "lake", LOG[LOG["event_time"].dt.day == 2])
    made = monitor(run_pipeline, tmp_path, reader, hourly)
    reader.close()
    # a wine a minute: sixty in each of the first two hours
    start = pd.Timestamp(2026, 1, 2, tz="UTC")
    judged = made["verdicts"][made["verdicts"]["column"].isin(COLUMNS)]
    assert judged["window_start"].unique().tolist() == [start]
    assert judged["window_end"].unique().tolist() == [start + pd.Timedelta("2h")]
    whole = judged[judged["segment"] == "all"]
    assert set(whole["n"]) <= set(range(100, 121))
    assert judged["verdict"].unique().tolist() == ["ok"]
    model = made["model_verdicts"].query("segment == 'all'")
    assert model[["n", "verdict"]].to_numpy().tolist() == [[120, "ok"]]
    traffic = made["verdicts"][made["verdicts"]["column"] == TRAFFIC]
    assert traffic["n"].tolist() == [60, 60]


@pytest.mark.parametrize("small_windows", ["insufficient_data", "merge"])
def test_what_was_decided_stays_decided_while_the_log_goes_on(
    run_pipeline, tmp_path, small_windows
):
    """Windows that leave the newest ones neither change nor shift those that stay."""
    few = SETTINGS.model_copy(
        update={
            "newest_windows": 4,
            "min_rows": 50,
            "small_windows": small_windows,
        }
    )
    wines = predicted(draw_wines(320, 61), 3)
    # on the fifth day hardly any came; thirty are too few to be judged alone
    sizes = [30, 30, 30, 30, 2, 30, 30, 30, 30, 30]
    ends = np.cumsum(sizes)
    days = [
        day(n + 1, "1", wines.iloc[end - size : end])
        for n, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]
    recorded = []
    for n in range(5, len(days) + 1):
        reader = lake_of(tmp_path / "lake", days[n - 1] if n > 5 else pd.concat(days[:5]))
        recorded.append(monitor(run_pipeline, tmp_path, reader, few)["verdict_history"])
        reader.close()
    found = recorded[-1]
    fifth = found[(found["subject"] == TRAFFIC) & (found["n"] == 2)]
    assert fifth["verdict"].tolist() == ["data_quality"]
    # only the window at the end, which is still filling where small ones are merged, is revised
    closed = found[found["n"] >= (50 if small_windows == "merge" else 0)]
    assert not closed.duplicated(["window_start", "subject"]).any()


def test_windows_within_one_minute_have_reports_of_their_own(run_pipeline, tmp_path):
    short = SETTINGS.model_copy(update={"window": "20s", "reported_windows": 3})
    wines = stronger(predicted(draw_wines(240, 71), 4)).assign(quality=np.nan)
    log = day(2, "1", wines)
    log["event_time"] = log["event_time"].min() + pd.to_timedelta(np.arange(240) / 3, unit="s")
    reader = lake_of(tmp_path / "lake", log)
    made = monitor(run_pipeline, tmp_path, reader, short)
    reader.close()
    folders = ["", "2026-01-02T000040_v1/", "2026-01-02T000020_v1/"]
    pages = made["evidently_pages"]
    assert pages.keys() == {folder + kind for folder in folders for kind in KINDS}
    # a workspace knows them by their titles
    assert len(made["reports"]) == 2 * len(folders)
    page = unescape(made["monitoring_page_html"])
    assert "Evidently's drift report of 2026-01-02 00:00:40, version 1" in page
    assert page.index("drift report of 2026-01-02 00:00:40") < page.index("00:00:20, version 1<")
    assert len(made["drift_figure"].data[0].x) == 4


def test_days_without_traffic_are_an_alert(run_pipeline, tmp_path):
    reader = lake_of(tmp_path / "lake", LOG[LOG["event_time"].dt.day.isin([2, 4])])
    made = monitor(run_pipeline, tmp_path, reader)
    reader.close()
    silent = of_day(made["verdicts"], 3)
    assert silent[["column", "verdict", "n"]].to_numpy().tolist() == [[TRAFFIC, "no_traffic", 0]]
    since = [(a["subject"], a["since"][:10]) for a in made["alerts"]]
    assert (TRAFFIC, "2026-01-03") in since
    assert "no traffic" in made["monitoring_page_html"]


def test_the_figures_show_the_week(made):
    heat_map = made["drift_figure"].data[0]
    assert list(heat_map.x) == [f"2026-01-0{n} v{1 + (n in (1, 5))}" for n in range(1, 6)]
    assert set(heat_map.y) == {subject.replace("_", " ") for subject in SUBJECTS}
    names = list(VERDICT_COLOURS)
    # each verdict has one plain colour, from half a code below it to half a code above
    low, high = heat_map.zmin, heat_map.zmax
    for code, colour in enumerate(VERDICT_COLOURS.values()):
        ends = [(code + side - low) / (high - low) for side in (-0.5, 0.5)]
        assert [end for end, of in heat_map.colorscale if of == colour] == pytest.approx(ends)
    by_column = dict(zip(heat_map.y, np.array(heat_map.z), strict=True))
    assert [names[int(code)] for code in by_column["alcohol"]] == [
        "insufficient_data",
        "ok",
        "drift",
        "ok",
        "ok",
    ]
    assert names[int(by_column["pH"][4])] == "data_quality"
    where = list(heat_map.y).index("alcohol")
    assert "score" in heat_map.customdata[where][2]
    assert by_column["traffic"].tolist() == [names.index("ok")] * 5

    window, reference, decayed = made["error_figure"].data
    judged = made["model_verdicts"].query("segment == 'all'")
    assert np.array_equal(window.y, judged["mae"], equal_nan=True)
    assert np.isnan(window.y[2])
    assert list(reference.y) == judged["reference_mae"].tolist()
    alarming = (judged["verdict"] == "decayed").tolist()
    assert alarming == [False, False, False, True, False]
    assert (~np.isnan(decayed.y)).tolist() == alarming
    assert (decayed.name, decayed.y[3]) == ("decayed", window.y[3])


def test_a_weeks_figures_name_some_of_its_windows_only(made):
    for name in ("drift_figure", "error_figure"):
        axis = made[name].layout.xaxis
        assert axis.nticks < 20
        assert max(map(abs, axis.autotickangles)) < 90
    # many windows leave no room between their cells
    one = made["verdicts"].query("column == 'pH'").iloc[[0]]
    hours = pd.to_timedelta(range(168), unit="h")
    week = pd.concat([one] * len(hours)).assign(window_start=one["window_start"].iloc[0] + hours)
    assert plot_drift_heat_map(week).data[0].xgap < made["drift_figure"].data[0].xgap


# Nodes


@pytest.fixture
def store(tmp_path):
    with ProfileStore(f"sqlite:///{tmp_path}/store.db") as store:
        yield store


def test_references_outlive_a_file(made):
    stored = json.loads(json.dumps(made["reference_profiles"]))
    assert stored.keys() == {"1", "2"}
    assert Reference.from_dict(stored["1"]) == Reference.from_wines(REFERENCES["1"])


def test_only_versions_in_the_log_are_described_and_each_once(tmp_path, store):
    registered = Registered()
    one = lake_of(tmp_path / "lake", LOG[LOG["model_version"] == "2"])
    first = nodes.describe_references(one, registered, store, SETTINGS)
    assert first.keys() == {"2"}
    assert nodes.describe_references(one, registered, store, SETTINGS) == first
    one.close()
    assert registered.asked == ["2"]


def test_a_registered_reference_is_read_not_made(tmp_path, store):
    own = Reference.from_wines(REFERENCES["2"]).to_dict()
    registered = Registered(profiles={"2": own})
    one = lake_of(tmp_path / "lake", LOG[LOG["model_version"] == "2"])
    assert Reference.from_dict(
        nodes.describe_references(one, registered, store, SETTINGS)["2"]
    ) == (Reference.from_dict(own))
    one.close()
    assert registered.asked == []


def test_a_version_without_a_reference_is_a_verdict_and_the_others_are_judged(
    run_pipeline, tmp_path, reader
):
    made = monitor(run_pipeline, tmp_path, reader, references=Registered({"1": REFERENCES["1"]}))
    unknown = made["verdicts"].query("model_version == '2'")
    assert unknown["column"].tolist() == ["reference"]
    assert "not in the registry" in unknown["reason"].iloc[0]
    assert set(made["verdicts"].query("model_version == '1'")["column"]) == SUBJECTS
    assert ("2", "reference") in {(a["model_version"], a["subject"]) for a in made["alerts"]}


def test_wines_of_the_future_are_in_no_window_and_an_alert(run_pipeline, tmp_path):
    log = LOG[LOG["event_time"].dt.day == 2].reset_index(drop=True)
    mistyped = log.head(1).assign(event_time=pd.Timestamp("2199-01-02", tz="UTC"))
    reader = lake_of(tmp_path / "lake", pd.concat([log, mistyped]))
    made = monitor(run_pipeline, tmp_path, reader)
    reader.close()
    columns = made["verdicts"][made["verdicts"]["column"].isin(COLUMNS)]
    assert columns["window_start"].unique().tolist() == [pd.Timestamp(2026, 1, 2, tz="UTC")]
    alert = next(a for a in made["alerts"] if a["subject"] == "event_time")
    assert "1 wine has an event time in the future, up to 2199-01-02 00:00 UTC" in alert["reason"]


def test_an_unfinished_window_is_shown_as_such(run_pipeline, tmp_path):
    now = pd.Timestamp.now(tz="UTC")
    wines = stronger(predicted(draw_wines(120, 81), 5))
    log = day(2, "1", wines).assign(event_time=now)
    reader = lake_of(tmp_path / "lake", log)
    made = monitor(run_pipeline, tmp_path, reader)
    reader.close()
    columns = made["verdicts"][made["verdicts"]["column"].isin(COLUMNS)]
    assert columns["verdict"].unique().tolist() == ["unfinished"]
    assert columns["reason"].str.startswith("goes on; so far: ").all()
    # evidence does not wait for its end
    assert ("alcohol", "drift") in {(a["subject"], a["verdict"]) for a in made["alerts"]}


def simulated_and_real(tmp_path, real_days=(250,)):
    """Days of a simulation long ago and one to come, and one real wine in between."""
    to_come = (pd.Timestamp.now(tz="UTC") - pd.Timestamp("2026-01-01", tz="UTC")).days + 3
    wines = predicted(draw_wines(120, 12), 2)

    def on(days, rows, source):
        moved = day(1, "1", rows)
        return moved.assign(event_time=moved["event_time"] + pd.Timedelta(days, "D"), source=source)

    simulated = [on(k, wines, "simulation") for k in (0, 1, 2, to_come)]
    real = [on(k, wines.iloc[:1], "curl") for k in real_days]
    return lake_of(tmp_path, pd.concat([*simulated, *real], ignore_index=True))


def test_simulated_and_real_wines_share_no_timeline(run_pipeline, tmp_path):
    reader = simulated_and_real(tmp_path / "lake", real_days=(3,))
    made = monitor(run_pipeline, tmp_path, reader)
    reader.close()
    verdicts = made["verdicts"].set_index("model_version")
    assert set(verdicts.index) == {"1", "1 (simulation)"}
    real, simulated = verdicts.loc["1"], verdicts.loc["1 (simulation)"]
    # one wine tells little, and nobody misses the next one
    assert set(real["verdict"]) == {"insufficient_data", "ok"}
    assert len(real["window_start"].unique()) == 1
    # a simulated day may lie ahead, and is whole
    assert "unfinished" not in set(simulated["verdict"])
    assert "event_time" not in set(simulated["column"])
    traffic = simulated[simulated["column"] == TRAFFIC]
    assert traffic["verdict"].tolist() == ["ok", "ok", "ok", "no_traffic", "ok"]
    (gap,) = [alert for alert in made["alerts"] if alert["verdict"] == "no_traffic"]
    assert gap["model_version"] == "1 (simulation)"
    assert made["monitoring_page_html"]


def test_an_event_time_to_come_is_a_fault_of_real_wines_alone(run_pipeline, tmp_path):
    reader = simulated_and_real(tmp_path / "lake")
    settings = SETTINGS.model_copy(update={"sources_apart": ()})
    made = monitor(run_pipeline, tmp_path, reader, settings)
    reader.close()
    ahead = made["verdicts"][made["verdicts"]["column"] == "event_time"]
    assert ahead["n"].tolist() == [120]


def test_what_was_counted_together_is_divided_where_the_settings_change(run_pipeline, tmp_path):
    reader = simulated_and_real(tmp_path / "lake")
    together = SETTINGS.model_copy(update={"sources_apart": ()})
    monitor(run_pipeline, tmp_path, reader, together)
    divided = monitor(run_pipeline, tmp_path, reader)["verdicts"]
    left_out = SETTINGS.model_copy(update={"sources_left_out": ("curl",)})
    without = monitor(run_pipeline, tmp_path, reader, left_out)["verdicts"]
    again = monitor(run_pipeline, tmp_path, reader)["verdicts"]
    reader.close()
    assert len(divided.loc[divided["model_version"] == "1", "window_start"].unique()) == 1
    assert set(without["model_version"]) == {"1 (simulation)"}
    assert_frame_equal(again, divided)


def test_a_log_of_files_without_rows_says_what_to_do(tmp_path):
    reader = lake_of(tmp_path, LOG)
    for part in tmp_path.rglob("*.parquet"):
        pd.read_parquet(part).iloc[:0].to_parquet(part)
    with pytest.raises(WineQualityError, match="Nothing is logged yet"):
        nodes.describe_references(reader, Registered(), None, SETTINGS)
    reader.close()


def test_windows_in_which_nothing_came_do_not_count_as_the_newest(run_pipeline, tmp_path):
    log = LOG[LOG["event_time"].dt.day == 2]
    minutely = SETTINGS.model_copy(update={"window": "1h", "newest_windows": 1})
    reader = lake_of(tmp_path / "lake", log)
    made = monitor(run_pipeline, tmp_path, reader, minutely)
    reader.close()
    # a wine a minute in the first two of the day's hours
    starts = made["verdicts"]["window_start"].unique().tolist()
    assert starts == [pd.Timestamp(2026, 1, 2, 1, tz="UTC")]


def test_an_absurd_prediction_takes_nothing_down(run_pipeline, tmp_path):
    absurd = LOG[LOG["event_time"].dt.day == 2].reset_index(drop=True)
    absurd.loc[:2, PREDICTION] = 1.7e308
    reader = lake_of(tmp_path / "lake", absurd)
    made = monitor(run_pipeline, tmp_path, reader)
    reader.close()
    whole = made["model_verdicts"].set_index("segment").loc["all"]
    assert whole["verdict"] == "decayed"
    assert np.isfinite(whole["mae"])
    assert json.loads(json.dumps(made["alerts"], allow_nan=False)) == made["alerts"]


def test_a_reference_that_cannot_be_used_is_said_of_its_version(reader, store):
    wines = {version: wines.drop(columns="alcohol") for version, wines in REFERENCES.items()}
    found = nodes.describe_references(reader, Registered(wines), store, SETTINGS)
    assert all("the reference lacks alcohol" in why for why in found.values())


@pytest.mark.parametrize(("column", "nothing"), [("event_time", pd.NaT), ("model_version", None)])
def test_a_prediction_that_belongs_to_no_window_is_an_error(tmp_path, column, nothing):
    reader = lake_of(tmp_path, LOG)
    part = tmp_path / "day=2026-01-02" / "part-0.parquet"
    spoilt = pd.read_parquet(part)
    spoilt.loc[3, column] = nothing
    spoilt.to_parquet(part)
    with pytest.raises(WineQualityError, match=f"have no {column}"):
        nodes.describe_references(reader, Registered(), None, SETTINGS)
    reader.close()


def test_a_stored_reference_of_another_kind_is_an_error(store):
    with pytest.raises(WineQualityError, match="stored reference has the format None"):
        nodes.judge_windows(store, {"1": {"rows": 5}}, [], {}, SETTINGS, AlertSettings())


@pytest.fixture
def incidents(tmp_path):
    with IncidentStore(f"sqlite:///{tmp_path}/incidents.db") as store:
        yield store


def test_a_quiet_day_raises_no_alert(made, incidents):
    quiet = [of_day(made[name], 2) for name in ("verdicts", "model_verdicts")]
    assert nodes.raise_alerts([], *quiet, incidents, AlertSettings()) == []


def test_an_incident_that_was_sent_before_is_not_logged_again(made, incidents, caplog):
    given = [made[name] for name in ("findings", "verdicts", "model_verdicts")]
    first = nodes.raise_alerts(*given, incidents, AlertSettings())
    assert "more alerts (alcohol" in caplog.text
    caplog.clear()
    again = nodes.raise_alerts(*given, incidents, AlertSettings())
    assert caplog.text == ""
    assert all(alert["new"] and alert["sent"] for alert in first)
    assert again == [alert | {"new": False} for alert in first]


def test_channels_are_sent_incidents_with_their_cost(made, incidents, serve_posts):
    received = []

    def answer(_, body):
        received.append(json.loads(body))
        return 200, {}, ""

    given = [made[name] for name in ("findings", "verdicts", "model_verdicts")]
    with serve_posts(answer) as address:
        channel = ChannelSettings(name="team", url=address, lowest_severity="error")
        settings = AlertSettings(channels=(channel,))
        first = nodes.raise_alerts(*given, incidents, settings)
        nodes.raise_alerts(*given, incidents, settings)
    by_title = {post["incident"]["title"]: post["incident"] for post in received}
    assert len(by_title) == len(received)
    assert {post["event"] for post in received} <= {"opened", "resolved"}
    assert by_title["pH: data quality"]["severity"] == "error"
    decayed = next(i for i in by_title.values() if i["severity"] == "critical")
    assert decayed["error"].startswith("mean absolute error ")
    assert {alert["incident"] for alert in first} >= {i["number"] for i in by_title.values()}


def test_a_scheduler_learns_of_chosen_verdicts_by_the_exit_status(made):
    assert made["failing_alerts"] == []
    assert nodes.check_alerts(made["alerts"], AlertSettings(fail_on=("no_traffic",))) == []
    with pytest.raises(WineQualityError, match=r"open and new .* pH, since 2026-01-05"):
        nodes.check_alerts(made["alerts"], AlertSettings(fail_on=("data_quality",)))
    seen = [alert | {"new": False} for alert in made["alerts"]]
    assert nodes.check_alerts(seen, AlertSettings(fail_on=("data_quality",))) == []


# Figures


def test_windows_within_a_day_are_told_by_the_hour(made):
    hours = made["verdicts"].assign(
        window_start=made["verdicts"]["window_start"] + pd.Timedelta("6h"), model_version="1"
    )
    assert plot_drift_heat_map(hours).data[0].x[0] == "2026-01-01 06:00"


def test_days_of_one_version_are_told_by_the_date(made):
    assert plot_error_over_time(of_day(made["model_verdicts"], 2)).data[0].x[0] == "2026-01-02"


# Parameters


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"drift": {"window": "1M"}}, "window"),
        ({"drift": {"false_alarm_rate": 0}}, "false_alarm_rate"),
        ({"drift": {"threshold": 0.1}}, "threshold"),
        ({}, "drift"),
    ],
)
def test_wrong_parameters_are_named(wrong, named):
    with pytest.raises(ValidationError, match=named):
        MonitoringParameters.model_validate(wrong)
