"""JSON that gives a name twice is refused by that name; everything else is read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wine_quality.serving.bodies import parse_json
from wine_quality.serving.problems import ProblemError

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=6)
    | st.sampled_from([":", '":', "\\", '"a":1', "2026-01-31T12:00:00+01:00"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=20,
)  # fmt: skip


@given(value=ANY_JSON, ascii_only=st.booleans(), indent=st.sampled_from([None, 2]))
def test_what_gives_its_names_once_is_read(
    value: Any, ascii_only: bool, indent: int | None
) -> None:
    try:
        body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    except UnicodeEncodeError:
        return
    assert parse_json(body) == json.loads(body)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ('{"pH": 3, "pH": 3}', ["pH"]),
        ('{"pH":3,"pH" :4}', ["pH"]),
        ('{"pH": 3, "p\\u0048": 4}', ["pH"]),
        ('{"wines": [{"pH": 3}, {"pH": 3, "a": 1, "pH": 4}]}', ["pH"]),
        ('[[{"x": {"a": 1, "b": 2, "a": 3, "b": 4}}]]', ["a", "b"]),
        # as many colons as there would be without the name that is lost
        ('{"a": ":", "a": "::"}', ["a"]),
        ('{"a": "\\u003a", "a": 1}', ["a"]),
        ('{"": 1, "": 2}', [""]),
        ('{"a": NaN, "a": 1}', ["a"]),
        ('{"params": {"source": "x", "source": "y"}, "inputs": []}', ["source"]),
        ('{"a": ' + "9" * 400 + ', "a": 1}', ["a"]),
    ],
)
def test_a_name_given_twice_is_refused(body: str, names: list[str]) -> None:
    with pytest.raises(ProblemError) as refused:
        parse_json(body.encode())
    assert refused.value.status == 422
    assert [e.field for e in refused.value.errors] == names


@given(
    pairs=st.lists(st.tuples(st.sampled_from("abc:"), st.sampled_from(["1", '":"', '"x"', "{}"]))),
    space=st.sampled_from(["", " ", "\n"]),
)
def test_no_name_is_lost(pairs: list[tuple[str, str]], space: str) -> None:
    body = "{" + ",".join(f'"{name}"{space}:{space}{value}' for name, value in pairs) + "}"
    names = [name for name, _ in pairs]
    if len(set(names)) == len(names):
        assert parse_json(body.encode()) == json.loads(body)
    else:
        with pytest.raises(ProblemError):
            parse_json(body.encode())


@pytest.mark.parametrize("body", ["", "{", "[1,]", '{"a": 1', "{'a': 1}", "\ufeff1", "[" * 100_000])
def test_what_is_no_json_is_refused(body: str) -> None:
    with pytest.raises(ProblemError, match="The body is not JSON"):
        parse_json(body.encode())
