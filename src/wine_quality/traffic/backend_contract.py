"""What every backend keeps to, as tests: for ours, and for those that a team brings.

Subclass in a test module, where pytest finds three fixtures:

* ``backend``: the backend, ready for use.
* ``model``: what the hosted model answers to a frame of the twelve inputs, shape (n,).
* ``logged``: reads the log that its predictions are in, with the columns of ``LOG_DTYPES``.

Needs pytest, which the extra ``dev`` has. An example is in ``docs/how-to/backend.md``.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from pandas.testing import assert_frame_equal

from wine_quality.errors import WineQualityError
from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.predictor import ModelDescription
from wine_quality.traffic.backends import Backend, BackendUnavailableError, Health
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import (
    INPUTS,
    MEASUREMENT_NAMES,
    MEASUREMENTS,
    QUALITY,
    QUALITY_BOUNDS,
    TYPE,
)

_FIRST, *_, _LAST = MEASUREMENTS
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ANSWER_COLUMNS = ["prediction_id", "prediction", "model_version"]
THREADS = 4

Model = Callable[[pd.DataFrame], NDArray[np.float64]]
ReadLog = Callable[[], pd.DataFrame]


def contract_wines(n: int, seed: int = 0) -> pd.DataFrame:
    """Draw n wines of both types, some values of which are missing, indexed by odd numbers."""
    wines = draw_wines(n, seed, missing=True)[list(INPUTS)]
    return wines.set_axis(pd.Index(range(1, 2 * n, 2)))


class BackendContract:
    """Tests that a backend passes.

    The log may hold other rows, and may be shared by all tests. What a backend does not do is said
    here, and then tested: it has to refuse it.

    Attributes:
        takes_ground_truth: Whether it takes labels.
        tolerance: Quality points by which its answers may differ from the model's.
    """

    takes_ground_truth: ClassVar[bool] = True
    tolerance: ClassVar[float] = 1e-6

    # Predictions

    def test_it_answers_as_the_model_does(self, backend: Backend, model: Model) -> None:
        """One row a wine, in order, with the wines' index."""
        wines = contract_wines(200)
        answer = _send(backend, wines)
        assert list(answer) == ANSWER_COLUMNS
        assert_frame_equal(answer[[]], wines[[]])
        assert answer["prediction"].dtype == "float64"
        np.testing.assert_allclose(answer["prediction"], model(wines), rtol=0, atol=self.tolerance)

    def test_any_measurement_may_be_missing(self, backend: Backend, model: Model) -> None:
        """One after the other, and all at once."""
        wine = draw_wines(1, 3)[list(INPUTS)]
        wines = pd.concat([wine] * (len(MEASUREMENT_NAMES) + 1), ignore_index=True)
        for row, name in enumerate(MEASUREMENT_NAMES):
            wines.loc[row, name] = np.nan
        wines.loc[len(MEASUREMENT_NAMES), list(MEASUREMENT_NAMES)] = np.nan
        for part in (wines, wines.tail(1)):
            answer = _send(backend, part)
            np.testing.assert_allclose(
                answer["prediction"], model(part), rtol=0, atol=self.tolerance
            )

    def test_other_columns_do_not_matter(self, backend: Backend, model: Model) -> None:
        """Neither do the order of columns and a quality that is there already."""
        wines = contract_wines(5)
        answer = _send(backend, wines.iloc[:, ::-1].assign(quality=3, remark="good"))
        np.testing.assert_allclose(answer["prediction"], model(wines), rtol=0, atol=self.tolerance)

    def test_no_wines_are_no_predictions(self, backend: Backend, logged: ReadLog) -> None:
        """Nothing is written for an empty batch."""
        before = len(logged())
        answer = _send(backend, contract_wines(3).head(0))
        assert list(answer) == ANSWER_COLUMNS
        assert answer.empty
        assert len(logged()) == before

    def test_what_was_answered_is_in_the_log(self, backend: Backend, logged: ReadLog) -> None:
        """Each wine once, with its inputs, its moment and who asked."""
        wines = contract_wines(40)
        moments = [NOON + timedelta(hours=i, microseconds=i) for i in range(40)]
        answer = _send(backend, wines, event_time=pd.Series(moments, index=wines.index))
        rows = _rows(logged(), answer)
        assert rows["event_time"].tolist() == [pd.Timestamp(moment) for moment in moments]
        assert set(rows["source"]) == {"contract"}
        assert rows["model_version"].tolist() == answer["model_version"].tolist()
        assert rows["prediction"].tolist() == answer["prediction"].tolist()
        assert rows["received_at"].notna().all()
        assert rows[[QUALITY, "labelled_at"]].isna().all(axis=None)
        expected = wines.reset_index(drop=True)
        assert_frame_equal(rows[list(INPUTS)], expected, check_exact=True, check_dtype=False)

    # Repeating a request

    def test_a_repeated_request_is_answered_as_before(
        self, backend: Backend, logged: ReadLog
    ) -> None:
        """And writes nothing."""
        wines, request_id = contract_wines(20), _new_id()
        first = _send(backend, wines, request_id)
        before = len(logged())
        assert_frame_equal(_send(backend, wines, request_id), first)
        assert len(logged()) == before

    def test_a_request_id_is_good_for_one_request(self, backend: Backend, logged: ReadLog) -> None:
        """Other wines under it are refused, be it one value that differs."""
        wines, request_id = contract_wines(20), _new_id()
        _send(backend, wines, request_id)
        before = len(logged())
        for others in (
            wines.assign(**{_LAST.name: wines[_LAST.name].fillna(9) + 0.5}),
            wines.head(19),
        ):
            with pytest.raises(WineQualityError, match="before for other wines") as caught:
                _send(backend, others, request_id)
            _check_final(caught.value)
        assert len(logged()) == before

    def test_any_printable_text_is_a_request_id(self, backend: Backend, logged: ReadLog) -> None:
        """Two that differ in a sign are two."""
        wines, salt = contract_wines(2), _new_id()
        names = [f"{salt}{rest}" for rest in ("/a b", "/a_b", "../a", ".", "", "-" * 200)]
        answers = [_send(backend, wines, name) for name in names]
        ids = pd.concat(answers)["prediction_id"]
        assert ids.is_unique
        assert len(_rows(logged(), pd.concat(answers))) == 2 * len(names)
        assert_frame_equal(_send(backend, wines, names[0]), answers[0])

    def test_equal_wines_of_different_requests_are_different(self, backend: Backend) -> None:
        """The same wine may be measured twice."""
        wines = contract_wines(3)
        wines = pd.concat([wines, wines], ignore_index=True)
        ids = pd.concat([_send(backend, wines), _send(backend, wines)])["prediction_id"]
        assert ids.is_unique

    # Refusals

    @pytest.mark.parametrize(
        ("column", "value"),
        [(_LAST.name, _LAST.possible[1] + 1), (TYPE, "no type"), (_FIRST.name, np.inf)],
    )
    def test_what_cannot_be_a_wine_is_refused(
        self, backend: Backend, logged: ReadLog, column: str, value: object
    ) -> None:
        """By row and column; the good wines of the batch are not written either."""
        wines = contract_wines(3)
        before = len(logged())
        wines[column] = [wines[column].iloc[0], value, wines[column].iloc[2]]
        with pytest.raises(WineQualityError, match=f"row 3, {column}") as caught:
            _send(backend, wines)
        _check_final(caught.value)
        assert len(logged()) == before

    def test_a_column_that_is_not_there_is_named(self, backend: Backend) -> None:
        """Missing values may be, missing columns may not."""
        with pytest.raises(WineQualityError, match=_FIRST.name) as caught:
            _send(backend, contract_wines(3).drop(columns=_FIRST.name))
        _check_final(caught.value)

    def test_moments_have_a_timezone(self, backend: Backend, logged: ReadLog) -> None:
        """And there is one for all wines, or one each."""
        wines = contract_wines(3)
        before = len(logged())
        for moments in (NOON.replace(tzinfo=None), [NOON, NOON]):
            with pytest.raises(WineQualityError, match="event_time") as caught:
                _send(backend, wines, event_time=moments)
            _check_final(caught.value)
        assert len(logged()) == before

    # Ground truth

    def test_ground_truth_is_taken_once(self, backend: Backend, logged: ReadLog) -> None:
        """Submitting labels again changes nothing."""
        answer = _send(backend, contract_wines(20))
        labels = _labels(answer.iloc[::-1].iloc[:15])
        if not self.takes_ground_truth:
            with pytest.raises(WineQualityError, match="ground truth") as caught:
                backend.submit_ground_truth(labels)
            _check_final(caught.value)
            return
        assert backend.submit_ground_truth(labels) == 15
        assert backend.submit_ground_truth(labels) == 0
        assert backend.submit_ground_truth(_labels(answer)) == 5
        rows = _rows(logged(), answer)
        assert set(rows[QUALITY]) == {6.0}
        assert set(rows["labelled_at"]) == {pd.Timestamp(NOON)}

    def test_the_newest_label_counts(self, backend: Backend, logged: ReadLog) -> None:
        """Of several labels in one batch, and of an older one that comes later."""
        if not self.takes_ground_truth:
            return
        answer = _send(backend, contract_wines(2))
        first, second = _labels(answer), _labels(answer, 3, NOON + timedelta(days=1))
        backend.submit_ground_truth(pd.concat([second, first]))
        assert set(_rows(logged(), answer)[QUALITY]) == {3.0}
        backend.submit_ground_truth(_labels(answer, 9, NOON - timedelta(days=1)))
        assert set(_rows(logged(), answer)[QUALITY]) == {3.0}
        assert backend.submit_ground_truth(_labels(answer, 8, NOON + timedelta(days=2))) == 2
        assert set(_rows(logged(), answer)[QUALITY]) == {8.0}

    def test_unknown_predictions_are_refused_by_name(
        self, backend: Backend, logged: ReadLog
    ) -> None:
        """And no label of the batch is written."""
        if not self.takes_ground_truth:
            return
        answer = _send(backend, contract_wines(3))
        stranger = str(uuid7_batch(1)[0])
        for name in (stranger, "no-id"):
            labels = _labels(pd.concat([answer, pd.DataFrame({"prediction_id": [name]})]))
            with pytest.raises(WineQualityError, match=name) as caught:
                backend.submit_ground_truth(labels)
            _check_final(caught.value)
        assert _rows(logged(), answer)[QUALITY].isna().all()

    def test_what_is_no_quality_is_refused(self, backend: Backend, logged: ReadLog) -> None:
        """And no label of the batch is written."""
        if not self.takes_ground_truth:
            return
        answer = _send(backend, contract_wines(3))
        labels = _labels(answer)
        labels[QUALITY] = [5, QUALITY_BOUNDS[1] + 1, 5]
        with pytest.raises(WineQualityError, match=str(QUALITY_BOUNDS[1] + 1)) as caught:
            backend.submit_ground_truth(labels)
        _check_final(caught.value)
        assert _rows(logged(), answer)[QUALITY].isna().all()

    def test_no_labels_are_no_labels(self, backend: Backend) -> None:
        """An empty batch of labels is taken, and changes nothing."""
        if self.takes_ground_truth:
            assert backend.submit_ground_truth(_labels(_send(backend, contract_wines(2)))[:0]) == 0

    # What it says of itself

    def test_it_names_the_version_that_answers(self, backend: Backend) -> None:
        """The log and the description agree."""
        model = backend.describe_model()
        assert isinstance(model, ModelDescription)
        assert set(_send(backend, contract_wines(3))["model_version"]) == {model.version}

    def test_it_is_ready(self, backend: Backend) -> None:
        """It says so without a reason."""
        assert backend.check_health() == Health(ready=True)

    # Several threads

    def test_several_threads_may_use_it_at_once(
        self, backend: Backend, model: Model, logged: ReadLog
    ) -> None:
        """Every thread gets the answers to its own wines, and all of them are in the log."""
        batches = [contract_wines(10, seed) for seed in range(5 * THREADS)]

        def ask(wines: pd.DataFrame) -> pd.DataFrame:
            answer = _send(backend, wines)
            if self.takes_ground_truth:
                assert backend.submit_ground_truth(_labels(answer)) == len(answer)
            return answer

        with ThreadPoolExecutor(THREADS) as threads:
            answers = list(threads.map(ask, batches))
        for wines, answer in zip(batches, answers, strict=True):
            np.testing.assert_allclose(
                answer["prediction"], model(wines), rtol=0, atol=self.tolerance
            )
        rows = _rows(logged(), pd.concat(answers))
        assert rows["prediction_id"].is_unique
        assert rows[QUALITY].notna().all() == self.takes_ground_truth

    def test_one_request_from_several_threads_is_one(
        self, backend: Backend, logged: ReadLog
    ) -> None:
        """All get the same answer, and the wines are in the log once."""
        wines, request_id = contract_wines(10), _new_id()
        before = len(logged())
        with ThreadPoolExecutor(THREADS) as threads:
            tries = [threads.submit(_send, backend, wines, request_id) for _ in range(THREADS)]
            answers = [attempt.result() for attempt in tries]
        for answer in answers:
            assert_frame_equal(answer, answers[0])
        assert len(logged()) == before + len(wines)


def _new_id() -> str:
    return f"contract-{uuid4().hex}"


def _send(
    backend: Backend,
    wines: pd.DataFrame,
    request_id: str | None = None,
    event_time: datetime | Sequence[datetime] | pd.Series = NOON,
) -> pd.DataFrame:
    return backend.predict(
        wines, event_time=event_time, source="contract", request_id=request_id or _new_id()
    )


def _labels(answer: pd.DataFrame, quality: int = 6, moment: datetime = NOON) -> pd.DataFrame:
    return answer[["prediction_id"]].assign(labelled_at=moment, **{QUALITY: quality})


def _rows(log: pd.DataFrame, answer: pd.DataFrame) -> pd.DataFrame:
    """The log's rows of an answer, in its order; each is there, once."""
    found = log[log["prediction_id"].isin(answer["prediction_id"])]
    assert sorted(found["prediction_id"]) == sorted(answer["prediction_id"])
    return found.set_index("prediction_id").loc[answer["prediction_id"]].reset_index()


def _check_final(error: WineQualityError) -> None:
    """Mistakes are told in a line, and do not look as if they passed by themselves."""
    assert "\n" not in str(error)
    assert not isinstance(error, BackendUnavailableError)
