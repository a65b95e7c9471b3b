"""The commands beside `serve`, as a person types them."""

import pytest

from wine_quality.serving.__main__ import main
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.log_schema import LOG


def test_a_log_is_migrated(tmp_path, capsys):
    address = f"sqlite:///{tmp_path}/log.db"
    assert main(["migrate", "--log-url", address]) == 0
    assert capsys.readouterr().out.endswith(f"schema none -> {LOG.version}.\n")
    assert main(["migrate", "--log-url", address]) == 0
    assert capsys.readouterr().out.endswith(f"has schema {LOG.version} already.\n")
    with InferenceLog(address) as log:
        assert log.exists()


@pytest.mark.parametrize("flag", ["--shadow-share", "--canary-share"])
def test_a_share_out_of_range_is_one_line(capsys, flag):
    assert main(["serve", flag, "1.5"]) == 1
    said = capsys.readouterr().err
    name = flag[2:].upper().replace("-", "_")
    assert said.startswith(f"Error: The service's settings cannot be used: WINE_QUALITY_{name}: ")
    assert said.count("\n") == 1


def test_a_log_is_backed_up(tmp_path, capsys, make_batch):
    address = f"sqlite:///{tmp_path}/log.db"
    copy = tmp_path / "backups" / "log.db"
    assert main(["backup", str(copy), "--log-url", address]) == 1
    assert "nothing to back up" in capsys.readouterr().err
    with InferenceLog(address) as log:
        log.append_predictions(make_batch(3))
        assert main(["backup", str(copy), "--log-url", address]) == 0
    with InferenceLog(f"sqlite:///{copy}") as log:
        assert log.counts().predictions == 3
    assert main(["backup", str(copy), "--log-url", address]) == 1
    assert "it is there already" in capsys.readouterr().err
