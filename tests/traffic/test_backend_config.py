import json

import pytest

from wine_quality.errors import WineQualityError
from wine_quality.traffic.backend_config import read_config_file


@pytest.mark.parametrize(
    "text", [json.dumps({"url": "http://x", "n": [1]}), "url: http://x\nn: [1]"]
)
def test_settings_are_read_from_json_and_yaml(tmp_path, text):
    file = tmp_path / "backend.conf"
    file.write_text(text)
    assert read_config_file(str(file)) == {"url": "http://x", "n": [1]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{url: [", "neither JSON nor YAML .line 1, column 8.: fix it"),
        ("- url", "holds no settings by name"),
        ("", "holds no settings by name"),
        ("1: 2", "holds no settings by name"),
    ],
)
def test_a_file_without_settings_is_named(tmp_path, text, message):
    file = tmp_path / "backend.yml"
    file.write_text(text)
    with pytest.raises(WineQualityError, match=message) as caught:
        read_config_file(str(file))
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path):
    with pytest.raises(WineQualityError, match=r"nowhere\.yml cannot be read \(No such file"):
        read_config_file(str(tmp_path / "nowhere.yml"))
    with pytest.raises(WineQualityError, match="cannot be read"):
        read_config_file(str(tmp_path))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WineQualityError, match="neither JSON nor YAML"):
        read_config_file(str(tmp_path / "bytes"))
