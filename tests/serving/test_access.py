"""API keys and settings: read, refused, never shown."""

import socket
from pathlib import Path

import pytest

from wine_quality.errors import WineQualityError
from wine_quality.serving.__main__ import main
from wine_quality.serving.access import ApiKeys, new_key
from wine_quality.serving.settings import ServiceSettings


def test_a_key_is_found_by_itself_alone(tmp_path: Path) -> None:
    one, known_one = new_key("one", ["read"])
    two, known_two = new_key("two", ["read", "write"])
    file = tmp_path / "keys"
    file.write_text(f"# the cellar's\n\n{known_two.line()}\n")
    keys = ApiKeys.read(known_one.line(), file)
    assert keys.find(one) == known_one
    assert keys.find(two) == known_two
    for stranger in ("", one[:-1], one + "x", known_one.digest.hex(), "é\udce9"):
        assert keys.find(stranger) is None
    assert one not in known_one.line()


@pytest.mark.parametrize("line", ["secret", "a:read:xyz", "a:admin:" + "0" * 64, "a::" + "0" * 64])
def test_a_line_that_is_no_key_is_refused_and_not_shown(line: str) -> None:
    with pytest.raises(WineQualityError, match="Line 1") as refused:
        ApiKeys.read(line, None)
    assert line not in str(refused.value)


def test_a_key_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(WineQualityError, match="cannot be read"):
        ApiKeys.read("", tmp_path / "nowhere")


def test_settings_come_from_flags_then_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINE_QUALITY_PORT", "9000")
    monkeypatch.setenv("WINE_QUALITY_HOST", "::1")
    settings = ServiceSettings.from_environment(port=9001, host=None)
    assert (settings.port, settings.host) == (9001, "::1")
    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)
    assert ServiceSettings.from_environment() == settings
    monkeypatch.setenv("WINE_QUALITY_PORT", "many")
    with pytest.raises(WineQualityError, match="WINE_QUALITY_PORT"):
        ServiceSettings.from_environment()


def test_other_addresses_need_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--host", "0.0.0.0"]) == 1
    assert "there are no API keys" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_told_before_anything_starts(
    host: str, workers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "--host", host, "--port", str(port), "--workers", workers]) == 1
    assert capsys.readouterr().err == (
        f"Error: Port {port} is in use: stop what runs there, or give another with --port.\n"
    )


def test_an_address_of_another_machine_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WINE_QUALITY_API_KEYS", new_key("one", ["read"])[1].line())
    # of the addresses kept for documentation (RFC 5737)
    assert main(["serve", "--host", "192.0.2.1", "--port", "8000"]) == 1
    assert "Error: The service cannot bind to 192.0.2.1, port 8000 (" in capsys.readouterr().err


def test_new_key_prints_a_line_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-key", "cellar", "--scope", "write"]) == 0
    key, line = (text.split(":", 1)[1].strip() for text in capsys.readouterr().out.splitlines())
    found = ApiKeys.read(line, None).find(key)
    assert found is not None
    assert (found.name, found.scopes) == ("cellar", {"write"})
    assert main(["new-key", "a:b"]) == 1
