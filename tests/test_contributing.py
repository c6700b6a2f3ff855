"""CONTRIBUTING.md is true: each way of adding something is followed as it is written, in a copy of the project."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import profit_jax
from tests import worlds
from tests.plots.fakes import round_line, write_run

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PACKAGES = ("profit_jax", "perfit_jax", "launch", "configs", "tests")
RECIPES = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S))
BLOCK = re.compile(r"^```(python|diff|sh)\n(.*?)^```$", re.M | re.S)
ENVIRONMENT = {"XLA_FLAGS": "--xla_backend_optimization_level=0", "HF_HUB_OFFLINE": "1"}


def run(copy: Path, *command: str) -> str:
    """Runs a command in the copy, with its modules and the tools of this environment; returns what it printed."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    elsewhere = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and Path(part) != ROOT]
    modules = os.pathsep.join([str(copy), *elsewhere])
    environment = os.environ | ENVIRONMENT | {"PATH": path, "PYTHONPATH": modules}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def changed(text: str, change: str) -> str:
    """The text after a change: its lines with a minus or no sign stand there once, those with a plus come in."""
    signed = [(line[:1], line[1:]) for line in change.splitlines()]
    before, after = ("".join(f"{line}\n" for sign, line in signed if sign != other) for other in "+-")
    assert text.count(before) == 1, f"these lines stand there {text.count(before)} times:\n{before}"
    return text.replace(before, after)


def follow(recipe: str, copy: Path) -> None:
    """Adds the files, changes the files and runs the commands of a recipe, in their order."""
    for kind, content in BLOCK.findall(recipe):
        if kind == "sh":
            for command in content.replace("\\\n", "").splitlines():
                run(copy, *shlex.split(command))
            continue
        marker, content = content.split("\n", 1)
        file = copy / marker.removeprefix("# ")
        assert file.exists() == (kind == "diff"), (
            f"{file}: Python blocks are new files, a diff changes one that is there"
        )
        if kind == "diff":
            changes, content = content.split("@@\n"), file.read_text()
            for change in changes:
                content = changed(content, change)
        file.write_text(content)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project."""
    copy = tmp_path / "copy"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def test_adding_an_algorithm(copy: Path) -> None:
    worlds.prepared(copy / "runs" / "demo")
    follow(RECIPES["An algorithm"], copy)
    rounds = (copy / "runs" / "fed_nova" / "metrics.jsonl").read_text().splitlines()
    assert len(rounds) == 2
    run(copy, "lint-imports", "--no-logo")


def test_adding_a_model_family(copy: Path) -> None:
    follow(RECIPES["A model family"], copy)


def test_adding_a_dataset(copy: Path) -> None:
    follow(RECIPES["A dataset"], copy)


def test_adding_a_figure(copy: Path) -> None:
    rounds = [round_line(number, bytes_up=1000) for number in (1, 2)]
    write_run(copy / "runs/demo/profit_train/hhf-fed_avg_adam/seed0", rounds=rounds)
    follow(RECIPES["A figure"], copy)
    assert {path.name for path in (copy / "figures").iterdir()} == {"communication.png", "communication.pdf"}
    run(copy, "lint-imports", "--no-logo")


def test_each_recipe_is_written_in_the_projects_style(copy: Path) -> None:
    """All four together: nothing but what ruff and the type checker pass."""
    for recipe in RECIPES.values():
        follow(BLOCK.sub(lambda block: "" if block[1] == "sh" else block[0], recipe), copy)
    run(copy, "ruff", "check", ".")
    run(copy, "ruff", "format", "--check", ".")
    run(copy, "pyrefly", "check", "--python-interpreter-path", sys.executable)


def test_commits_and_the_public_workflow_run_what_make_runs() -> None:
    lint = re.search(r"^lint: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert lint
    wanted = [line.strip().removeprefix("$(BIN)/") for line in lint[1].splitlines()]
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook["entry"].replace(".venv/bin/", "") for hook in repository["hooks"]]
    assert hooks == [command.replace("$(BIN)/", "") for command in wanted]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    commands = {step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]}
    assert {"make test", "make docs"} <= commands


def test_type_checkers_see_the_public_names() -> None:
    """They do not run `__getattr__`, so the names stand a second time under TYPE_CHECKING."""
    tree = ast.parse((ROOT / "profit_jax" / "__init__.py").read_text())
    (seen,) = (node for node in tree.body if isinstance(node, ast.If))
    names = [alias.name for node in seen.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(names) == profit_jax.__all__
