"""What every launcher shares: the flags `--config`, `--mesh` and `--log`, and how help, errors, logs and ends look.

Whatever a person can get wrong (a flag, a config field, a file, the data) ends in one line `error: …` on stderr and
exit status 2; a traceback means a bug. A run that is pre-empted (SIGTERM) saves and ends with exit status 75.
"""

import logging as python_logging
import os
import re
import shlex
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from launch import _help, _mistakes
from launch._done import Done
from profit_jax.errors import InputError
from profit_jax.experiment import TensorBoard, WandB, Writer
from profit_jax.experiment.preemption import Preempted

flags.disclaim_key_flags()  # `--help` lists --config among the launcher's own flags

PACKAGES = {"profit_jax", "perfit_jax", "launch"}
ROOT = Path(__file__).parents[1]  # has launch/ and configs/: the repository, or where a wheel is installed

WRITERS: dict[str, Callable[[], Writer]] = {"tensorboard": TensorBoard, "wandb": WandB}

Main = Callable[[Sequence[str]], Done | None]


def define_config(default: str | None = None) -> flags.FlagHolder:
    """Defines `--config=FILE`, whose fields `--config.field=value` set; the config is locked: no field can be added.

    Args:
      default: the file to read when the flag is not given, under `ROOT`; without one the flag is required.

    Returns:
      The flag; `.value` is the `ConfigDict`, once flags are parsed.
    """
    help_string = "A Python file with get_config() -> ConfigDict; override a field with --config.field=value."
    file = default and located(default)
    try:
        flag = config_flags.DEFINE_config_file("config", file, help_string, lock_config=True)
    except Exception as error:  # a default is read at once, and changed by what the command says of its fields
        _fail(_mistakes.explained(sys.argv, error, file))
    if default is None:
        flags.mark_flag_as_required("config")
    return flag


def located(config: str) -> str:
    """A config, `FILE` or `FILE:ARGUMENT`, whose file is looked for here and then under `ROOT`.

    So `configs/…`, as it stands in the repository, is a name of the same file wherever a launcher runs.

    Raises:
      InputError: no such file.
    """
    file, colon, argument = config.partition(":")
    for path in (Path(file), ROOT / file):
        if path.is_file():
            return f"{path}{colon}{argument}"
    raise InputError(f"--config: no such file: {file}")


def define_mesh(default: str | None = "clients:-1") -> flags.FlagHolder[Any]:
    """Defines `--mesh`, which changes no result and so is no field of a config; see `profit_jax.mesh`.

    Args:
      default: of a launcher that starts others, None, which leaves it to them.
    """
    return flags.DEFINE_string("mesh", default, "Devices along each axis, as in clients:8,model:4; -1: those left.")


def define_log() -> flags.FlagHolder[list[str]]:
    """Defines `--log`, where records are shown beside the workdir's JSONL files; it changes no result either."""
    flag = flags.DEFINE_list("log", [], f"Where the numbers are shown too, while it runs: {', '.join(WRITERS)}.")
    flags.register_validator(flag, lambda names: {*names} <= {*WRITERS}, f"give some of {', '.join(WRITERS)}")
    return flag


def writers(names: Sequence[str]) -> list[Writer]:
    """The writers that `--log` names.

    Raises:
      InputError: one is not installed.
    """
    return [WRITERS[name]() for name in dict.fromkeys(names)]


def watching(names: Sequence[str], workdir: str) -> list[str]:
    """The command that shows what writers have left in the workdir, of those that leave anything to show."""
    return [shlex.join(["tensorboard", f"--logdir={workdir}"])] if "tensorboard" in names else []


def run(main: Main) -> NoReturn:
    """Parses the flags and calls `main` with the program's name; exits with status 0, or 2 on bad input.

    What `main` returns, it prints at the end.
    """

    def guarded(argv: Sequence[str]) -> None:
        started = time.perf_counter()
        keep_programs()
        try:
            if argv[1:]:
                raise InputError(f"unexpected argument {argv[1]!r}: flags are written --name=value")
            if done := main(argv):
                print("\n".join(done.lines(time.perf_counter() - started)))
        except InputError as error:
            _fail(str(error))
        except OSError as error:  # a disk that is full, a folder that is not ours
            _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except (AssertionError, RuntimeError) as error:
            if Path(traceback.extract_tb(error.__traceback__)[-1].filename).name != "xla_bridge.py":
                raise
            asked = os.environ.get("JAX_PLATFORMS", "")
            _fail(f"JAX finds no devices with JAX_PLATFORMS={asked}; unset it to take what there is. {error}".strip())
        except Preempted as stop:
            print(f"stopped by SIGTERM {stop}, and saved; the same command goes on from there", file=sys.stderr)
            sys.exit(os.EX_TEMPFAIL)

    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    app.call_after_init(_format_logs)
    app.run(guarded, flags_parser=_parse_flags)
    raise AssertionError("absl's run always exits")


def keep_programs() -> None:
    """Compiled programs are kept from one process to the next, where JAX_COMPILATION_CACHE_DIR does not say where."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(caches) / "profit_jax" / "programs"))


def arguments_of(name: str, **settings: object) -> list[str]:
    """The arguments to Python with which a person would run a launcher."""
    return ["-m", f"launch.{name}", *(f"--{key}={value}" for key, value in settings.items())]


def command(name: str, **settings: object) -> str:
    """The command with which a person would run a launcher."""
    return shlex.join(["python", *arguments_of(name, **settings)])


def config_settings() -> dict[str, Any]:
    """The config and the shared flags of this launcher as settings of another, as far as the command gives them."""
    flag = flags.FLAGS["config"]
    fields = config_flags.get_override_values(flag)
    named = config_flags.get_config_filename(flag)
    return {"config": named, **{f"config.{name}": fields[name] for name in fields}, **shared_flags()}


def shared_flags() -> dict[str, str]:
    """`--mesh` and `--log`, which change no result, as far as the command gives them."""
    values = flags.FLAGS.flag_values_dict()
    given = {"mesh": values["mesh"], "log": ",".join(values["log"])}
    return {name: value for name, value in given.items() if flags.FLAGS[name].present}


def launch(name: str, **settings: object) -> None:
    """Runs a launcher, showing the command."""
    arguments = arguments_of(name, **settings)
    print(f"\n$ {command(name, **settings)}", flush=True)
    if status := subprocess.run([sys.executable, *arguments]).returncode:
        raise InputError(f"launch.{name} ended with status {status}")


def _parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses `argv`; returns what is not a flag."""
    if text := _help.asked(argv):
        print(text)
        sys.exit(0)
    try:
        argv = _with_located_configs(argv)
        left = flags.FLAGS(argv)
        if "config" in flags.FLAGS:
            _check(flags.FLAGS["config"].value)
        return left
    except Exception as error:  # a config file is a program: it can raise anything
        _fail(_mistakes.explained(argv, error))


def _check(config: Any) -> None:
    """Raises where a config file has not returned a config."""
    if not isinstance(config, ConfigDict | None):
        unread = getattr(config, "_error", None)  # an OSError in the file, which ml_collections keeps for later
        raise unread or InputError("--config: the file's get_config() must return a ConfigDict")


def _with_located_configs(argv: Sequence[str]) -> list[str]:
    """The arguments, with `--config=FILE` and `--config FILE` naming files that are there."""
    given = [*argv]
    for at, argument in enumerate(given):
        if match := re.match(r"--?config=", argument):
            given[at] = match[0] + located(argument[match.end() :])
        elif re.fullmatch(r"--?config", argument) and at + 1 < len(given):
            given[at + 1] = located(given[at + 1])
    return given


def _format_logs() -> None:
    """Short lines on stderr; of other libraries only what they warn of."""
    handler = logging.get_absl_handler()
    handler.setFormatter(python_logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    handler.addFilter(lambda record: record.levelno >= python_logging.WARNING or _is_ours(Path(record.pathname)))


def _is_ours(module: Path) -> bool:
    return "site-packages" not in module.parts or not PACKAGES.isdisjoint(module.parts)


def _fail(message: str) -> NoReturn:
    print(f"error: {InputError(message)}", file=sys.stderr)
    sys.exit(2)
