"""What a person who mistypes a command sees: one line, status 2, no traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """
from ml_collections import config_dict

def get_config():
    return config_dict.ConfigDict({"rounds": 3, "personalize": {"epochs": 4, "rate": 0.1}})
"""

LAUNCHER = """
import warnings
from absl import flags, logging
from launch._main import define_config, run
from profit_jax.errors import InputError

CONFIG = define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Where records go.")

def main(argv):
    config = CONFIG.value
    logging.info("rounds %d", config.rounds)
    warnings.warn("2 items are left out")
    if config.rounds < 0:
        raise InputError(f"rounds is {config.rounds}, must not be negative")
    config.rounds = 5
    print(config.rounds, config.personalize.epochs)
    if WORKDIR.value:
        config.added = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launch")
    (folder / "config.py").write_text(CONFIG)
    (folder / "raises.py").write_text("def get_config():\n    raise ValueError('no such preset')\n")
    (folder / "torn.py").write_text("def get_config(:\n")
    (folder / "launcher.py").write_text(f"{LAUNCHER}\nif __name__ == '__main__':\n    run(main)\n")
    return folder


def launch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "launcher.py", *arguments]
    root = Path(__file__).parent.parent
    environment = {"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_overrides_reach_main_and_logs_are_short(folder: Path) -> None:
    done = launch(folder, "--config=config.py", "--config.personalize.epochs=7")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "5 7\n"
    log, warning = done.stderr.splitlines()
    assert log.endswith("INFO rounds 3") and len(log) < 30
    assert warning == "warning: 2 items are left out"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--config=config.py", "--config.round=3"], "unknown config field --config.round, did you mean 'rounds'?"),
        (
            ["--config=config.py", "--config.personalize.epoch=3"],
            "unknown config field --config.personalize.epoch, did you mean 'epochs'?",
        ),
        (["--config=config.py", "--config.rounds.x=3"], "unknown config field --config.rounds.x"),
        (
            ["--config=config.py", "--config.rounds=many"],
            "flag --config.rounds=many: invalid literal for int() with base 10: 'many'",
        ),
        (["--config=missing.py"], "--config: no such file: missing.py"),
        (["--config", "missing.py", "--config.rounds=3"], "--config: no such file: missing.py"),
        (["--config=torn.py"], "--config: invalid syntax (torn.py, line 1)"),
        (
            ["--config=raises.py"],
            "flag --config=raises.py: Error whilst parsing config file: ValueError: no such preset",
        ),
        ([], "flag --config=None: Flag --config must have a value other than None."),
        (["--config=config.py", "--workdi=x"], "Unknown command line flag 'workdi'. Did you mean: workdir ?"),
        (["--config=config.py", "runs/a"], "unexpected argument 'runs/a': flags are written --name=value"),
    ],
)
def test_a_mistyped_command_is_one_line(folder: Path, arguments: list[str], line: str) -> None:
    done = launch(folder, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {line}\n")


def test_bad_input_inside_main_is_the_last_line(folder: Path) -> None:
    done = launch(folder, "--config=config.py", "--config.rounds=-1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: rounds is -1, must not be negative"
    assert "Traceback" not in done.stderr


def test_the_config_is_locked_and_bugs_keep_their_traceback(folder: Path) -> None:
    done = launch(folder, "--config=config.py", "--workdir=x")
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "locked" in done.stderr
