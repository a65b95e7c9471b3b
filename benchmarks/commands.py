"""CPU seconds of the daily commands, beside a bare Kedro project with the same plugins.

Nothing is new in the log: what is measured is what each command costs before it does anything.
"""

import argparse
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from kedro import __version__ as kedro_version

PROJECT = Path(__file__).parents[1]
COMMANDS = (
    "run --pipeline monitoring",
    "alerts list",
    "monitoring accepted",
    "champion show",
)
BARE = {
    "pyproject.toml": "[tool.kedro]\npackage_name = 'bare'\nproject_name = 'bare'\n"
    f"kedro_init_version = '{kedro_version}'\nsource_dir = 'src'\n",
    "src/bare/__init__.py": "",
    "src/bare/settings.py": "",
    "src/bare/pipeline_registry.py": "from kedro.pipeline import Pipeline, node\n"
    "def one(): return 1\n"
    "def register_pipelines(): return {'__default__': Pipeline([node(one, None, 'result')])}\n",
    "conf/local/.keep": "",
    "conf/base/catalog.yml": "{}",
    "conf/base/mlflow.yml": "server:\n  mlflow_tracking_uri: sqlite:///mlflow.db\n"
    "tracking:\n  disable_tracking:\n    pipelines: [__default__]\n",
}


def measure(command: str, folder: Path, env: Mapping[str, str], runs: int) -> tuple[float, float]:
    """Give the least CPU seconds and the least seconds of some runs, after one that is not counted.

    Raises:
        RuntimeError: The command fails.
    """
    found = []
    for _ in range(runs + 1):
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(
            ["kedro", *command.split()],
            check=False,
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise RuntimeError(f"kedro {command}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found.append((cpu, time.monotonic() - begun))
    least_cpu, least = map(min, zip(*found[1:], strict=True))
    return least_cpu, least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="where `kedro run --env test` wrote")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = shutil.copytree(given.root, Path(folder) / "root")
        env = {**os.environ, "DO_NOT_TRACK": "true", "WINE_QUALITY_TEST_ROOT": str(root)}
        bare = Path(folder) / "bare"
        for name, text in BARE.items():
            path = bare / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        rows = [("a bare project's `run`", "run", bare)]
        rows += [(f"`{command}`", f"{command} --env test", PROJECT) for command in COMMANDS]
        print(f"{'kedro':30} CPU s  seconds")
        for title, command, where in rows:
            cpu, seconds = measure(command, where, env, given.runs)
            print(f"{title:30} {cpu:5.1f}  {seconds:7.1f}", flush=True)


if __name__ == "__main__":
    main()
