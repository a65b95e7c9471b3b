import re
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[1]
WORKFLOW = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text())
RECIPE = re.compile(r"(?:\.ci/with-postgres )?\./just .*")


def steps_here() -> list[str]:
    return RECIPE.findall((PROJECT / ".ci/run").read_text())


def steps_on_github() -> list[str]:
    steps = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
    return [step["run"] for step in steps if RECIPE.fullmatch(step.get("run", ""))]


def test_the_workflow_has_every_step_of_ci():
    assert len(steps_here()) == 4
    assert set(steps_here()) <= set(steps_on_github())


def test_its_jobs_wait_for_none_of_the_others():
    assert len(WORKFLOW["jobs"]) > 2
    assert not [name for name, job in WORKFLOW["jobs"].items() if "needs" in job]
