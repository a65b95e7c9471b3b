"""`--quick` leaves out what starts, trains or registers something, by what a test uses."""

from pathlib import Path

import pytest

from tests.quick import HEAVY_FIXTURES

PROJECT = Path(__file__).parents[1]
pytest_plugins = ["pytester"]

FILES = {
    "test_plain.py": """
        import pytest

        @pytest.fixture
        def trained():
            return 1

        @pytest.fixture
        def through(trained):
            return trained

        def test_plain():
            pass

        def test_trains(trained):
            pass

        def test_trains_by_another_fixture(through):
            pass

        def test_starts_something():
            import subprocess

        class TestGroup:
            def test_plain_in_a_group(self):
                pass
    """,
    "test_heavy.py": """
        import mlflow.entities

        def test_registers():
            pass
    """,
}


@pytest.fixture
def chosen(pytester, monkeypatch):
    """Collects the files; gives the names of the tests that are chosen."""
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    pytester.makepyfile(**{name.removesuffix(".py"): text for name, text in FILES.items()})

    def choose(*options):
        found = pytester.runpytest_subprocess(
            "-p", "tests.quick", "--collect-only", "--quiet", *options
        )
        return {line.rpartition("::")[2] for line in found.outlines if "::" in line}

    return choose


def test_without_the_option_nothing_is_left_out(chosen):
    assert len(chosen()) == 6


def test_what_is_heavy_is_left_out(chosen):
    assert chosen("--quick") == {"test_plain", "test_plain_in_a_group"}


def test_the_fixtures_that_are_called_heavy_are_there():
    text = "\n".join(path.read_text() for path in Path(__file__).parent.rglob("*.py"))
    named = {name for name in HEAVY_FIXTURES if f"def {name}(" in text or f'name="{name}"' in text}
    assert named == HEAVY_FIXTURES
