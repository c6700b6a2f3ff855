"""What a person sees who asks for help, mistypes a command (one line, status 2, no traceback), or reads the end."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launch._main import located

CONFIG = """
from ml_collections import config_dict

def get_config():
    return config_dict.ConfigDict({"rounds": 3, "personalize": {"epochs": 4, "rate": 0.1}})
"""

NAMES = """
from ml_collections import ConfigDict
from configs.names import apply

def get_config(names=""):
    settings = {"short": {"rounds": 1}, "long": {"rounds": 9}}
    return apply(ConfigDict({"rounds": 3}), names, settings, one_of=[("short", "long")])
"""

FORKING = """
import json, os, runpy, sys
import launch._main
for line in sys.stdin:
    arguments = json.loads(line)
    if not (child := os.fork()):
        for name, stream in (("stdout", 1), ("stderr", 2)):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        sys.argv[:] = arguments
        runpy.run_path(arguments[0], run_name="__main__")
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

WRAPS = """
def get_config():
    try:
        return {}["rank"]
    except KeyError as error:
        raise RuntimeError("no rank") from error
"""

LAUNCHER = '''
"""Tries a launcher.

    python launcher.py --config=config.py --config.rounds=4 \\
        --workdir=runs/a

More about it.
"""
import warnings
from pathlib import Path
from absl import flags, logging
from launch._done import Done
from launch._main import command, config_settings, define_config, define_log, define_mesh, run
from profit_jax.errors import InputError

CONFIG = define_config()
LOG = define_log()
MESH = define_mesh()
WORKDIR = flags.DEFINE_string("workdir", None, "Where records go.")

def main(argv):
    config = CONFIG.value
    logging.info("rounds %d", config.rounds)
    warnings.warn("2 items are left out")
    if config.rounds < 0:
        raise InputError(f"rounds is {config.rounds}, must not be negative")
    config.rounds = 5
    print(config.rounds, config.personalize.epochs)
    if WORKDIR.value == "x":
        config.added = 1
    if WORKDIR.value:
        folder = Path(WORKDIR.value)
        folder.mkdir()
        for name in ("lock", "metrics.jsonl", "config.json"):
            (folder / name).touch()
        (folder / "checkpoints").mkdir()
        return Done("5 rounds done", folder, [command("other", **config_settings(), workdir="runs/b c")])
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launch")
    (folder / "config.py").write_text(CONFIG)
    (folder / "raises.py").write_text("def get_config():\n    raise ValueError('no such preset')\n")
    (folder / "torn.py").write_text("def get_config(:\n")
    (folder / "names.py").write_text(NAMES)
    (folder / "wraps.py").write_text(WRAPS)
    (folder / "reads.py").write_text("def get_config():\n    return open('absent.txt')\n")
    (folder / "gives.py").write_text("def get_config():\n    return [1]\n")
    (folder / "launcher.py").write_text(f"{LAUNCHER}\nif __name__ == '__main__':\n    run(main)\n")
    return folder


@pytest.fixture(scope="module")
def launch(folder: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Runs a launcher in a fork of a process that has imported what takes long."""
    environment = {"PYTHONPATH": str(Path(__file__).parent.parent), "PATH": "/usr/bin:/bin"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", FORKING], cwd=folder, env=environment, **pipes) as parent:

        def launch(*arguments: str, name: str = "launcher.py") -> subprocess.CompletedProcess[str]:
            print(json.dumps([name, *arguments]), file=parent.stdin, flush=True)
            status = int(parent.stdout.readline())
            return subprocess.CompletedProcess(
                arguments, status, (folder / "stdout").read_text(), (folder / "stderr").read_text()
            )

        yield launch


def test_overrides_reach_main_and_logs_are_short(launch) -> None:
    done = launch("--config=config.py", "--config.personalize.epochs=7")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "5 7\n"
    log, warning = done.stderr.splitlines()
    assert log.endswith("INFO rounds 3") and len(log) < 30
    assert warning == "warning: 2 items are left out"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--config=config.py", "--config.round=3"],
            "unknown config field --config.round; did you mean --config.rounds?",
        ),
        (
            ["--config=config.py", "--config.personalize.epoch=3"],
            "unknown config field --config.personalize.epoch; did you mean --config.personalize.epochs?",
        ),
        (
            ["--config=config.py", "--config.epochs=3"],
            "unknown config field --config.epochs; did you mean --config.personalize.epochs?",
        ),
        (["--config=config.py", "--config.batch=3"], "unknown config field --config.batch"),
        (
            ["--config=config.py", "--config.rounds.x=3"],
            "unknown config field --config.rounds.x; did you mean --config.rounds?",
        ),
        (
            ["--config=config.py", "--config.rounds=many"],
            "flag --config.rounds=many: invalid literal for int() with base 10: 'many'",
        ),
        (["--config=missing.py"], "--config: no such file: missing.py"),
        (["--config", "missing.py", "--config.rounds=3"], "--config: no such file: missing.py"),
        (["--config=torn.py"], "torn.py:1: invalid syntax"),
        (["--config=raises.py"], "raises.py:2: ValueError: no such preset"),
        (["--config=raises.py", "--config.rounds=3"], "raises.py:2: ValueError: no such preset"),
        (["--config=wraps.py"], "wraps.py:6: RuntimeError: no rank"),
        (["--config=reads.py"], "reads.py:2: FileNotFoundError: [Errno 2] No such file or directory: 'absent.txt'"),
        (["--config=gives.py"], "--config: the file's get_config() must return a ConfigDict"),
        (
            ["--config=names.py:shrt"],
            "--config=names.py:shrt: unknown setting 'shrt'; did you mean 'short'? known: short, long",
        ),
        (["--config=names.py:short,long"], "--config=names.py:short,long: 'short' and 'long' exclude each other"),
        ([], "--config is missing; --help says what it takes"),
        (["--config=config.py", "--workdri=x"], "unknown flag --workdri; did you mean --workdir?"),
        (["--config=config.py", "--log=tensorbord"], "flag --log=['tensorbord']: give some of tensorboard, wandb"),
        (["--config=config.py", "runs/a"], "unexpected argument 'runs/a': flags are written --name=value"),
    ],
)
def test_a_mistyped_command_is_one_line(launch, arguments: list[str], line: str) -> None:
    done = launch(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {line}\n")


def test_a_config_of_the_project_is_found_from_any_folder(
    launch, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = launch("--config", "configs/profit/debug.py", "--config.personalize.epochs=7")
    assert (done.returncode, done.stdout) == (0, "5 7\n"), done.stderr
    monkeypatch.chdir(folder)
    (folder / "configs" / "profit").mkdir(parents=True)
    (folder / "configs" / "profit" / "debug.py").touch()
    assert located("configs/profit/debug.py:hhf") == "configs/profit/debug.py:hhf"  # one's own goes first


def test_bad_input_inside_main_is_the_last_line(launch) -> None:
    done = launch("--config=config.py", "--config.rounds=-1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: rounds is -1, must not be negative"
    assert "Traceback" not in done.stderr


def test_the_config_is_locked_and_bugs_keep_their_traceback(launch) -> None:
    done = launch("--config=config.py", "--workdir=x")
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "locked" in done.stderr


def test_help_is_the_commands_and_the_launchers_own_flags_sorted(launch) -> None:
    done = launch("--help", "--config=missing.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout
        == """Tries a launcher.

    python launcher.py --config=config.py --config.rounds=4 \\
        --workdir=runs/a

  --config    A Python file with get_config() -> ConfigDict; override a field
              with --config.field=value. (required)
  --log       Where the numbers are shown too, while it runs: tensorboard,
              wandb.
  --mesh      Devices along each axis, as in clients:8,model:4; -1: those left.
              (default clients:-1)
  --workdir   Where records go.
  --helpfull  More about this launcher, and all flags.
"""
    )


def test_helpfull_has_the_whole_docstring_and_the_flags_of_absl_too(launch) -> None:
    done = launch("--helpfull")
    assert (done.returncode, done.stderr) == (0, "")
    assert "More about it." in done.stdout and "--workdir" in done.stdout and "--verbosity" in done.stdout


def test_the_last_lines_say_what_is_written_and_the_next_command_as_this_one_was_given(launch) -> None:
    fields = ["--config.personalize.rate=0.5", "--config.rounds=4"]
    done = launch("--config", "config.py", *fields, "--mesh=clients:1", "--log=tensorboard", "--workdir=run")
    assert done.returncode == 0, done.stderr
    _, says, written, following = done.stdout.splitlines()
    assert says.startswith("5 rounds done (") and says.endswith(" s)")
    assert written == "written: run: checkpoints/, config.json, metrics.jsonl"
    assert following.startswith("next: ") and shlex.split(following.removeprefix("next: ")) == [
        "python",
        "-m",
        "launch.other",
        "--config=config.py",
        *fields,
        "--mesh=clients:1",
        "--log=tensorboard",
        "--workdir=runs/b c",
    ]


def test_a_default_config_is_overridden_under_the_same_law(launch, folder) -> None:
    launcher = f"{LAUNCHER}\nif __name__ == '__main__':\n    run(main)\n"
    (folder / "default.py").write_text(launcher.replace("define_config()", "define_config('config.py')", 1))
    done = launch("--config.round=4", name="default.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown config field --config.round; did you mean --config.rounds?\n"
    assert launch("--config.rounds=4", name="default.py").stdout == "5 4\n"
