"""What every launcher shares: the flags `--config` and `--mesh`, and how errors, warnings and logs look.

Whatever a person can get wrong (a flag, a config field, a file, the data) ends in one line `error: …` on stderr and
exit status 2; a traceback means a bug. A run that is pre-empted (SIGTERM) saves and ends with exit status 75.
"""

import itertools
import logging as python_logging
import os
import re
import shlex
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from profit_jax.errors import InputError
from profit_jax.experiment.preemption import Preempted

flags.disclaim_key_flags()  # `--help` lists --config among the launcher's own flags

PACKAGES = {"profit_jax", "perfit_jax", "launch"}

Main = Callable[[Sequence[str]], None]


def define_config(default: str | None = None) -> flags.FlagHolder:
    """Defines `--config=FILE`, whose fields `--config.field=value` set; the config is locked: no field can be added.

    Args:
      default: the file to read when the flag is not given; without one the flag is required.

    Returns:
      The flag; `.value` is the `ConfigDict`, once flags are parsed.
    """
    help_string = "A Python file with get_config() -> ConfigDict; override a field with --config.field=value."
    flag = config_flags.DEFINE_config_file("config", default, help_string, lock_config=True)
    if default is None:
        flags.mark_flag_as_required("config")
    return flag


def define_mesh(default: str | None = "clients:-1") -> flags.FlagHolder[str | None]:
    """Defines `--mesh`, which changes no result and so is no field of a config; see `profit_jax.mesh`.

    Args:
      default: of a launcher that starts others, None, which leaves it to them.
    """
    return flags.DEFINE_string("mesh", default, "Devices along each axis, as in clients:8,model:4; -1: those left.")


def run(main: Main) -> NoReturn:
    """Parses the flags and calls `main` with the program's name; exits with status 0, or 2 on bad input."""

    def guarded(argv: Sequence[str]) -> None:
        try:
            if argv[1:]:
                raise InputError(f"unexpected argument {argv[1]!r}: flags are written --name=value")
            main(argv)
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


def arguments_of(name: str, **settings: object) -> list[str]:
    """The arguments to Python with which a person would run a launcher."""
    return [f"launch/{name}.py", *(f"--{key}={value}" for key, value in settings.items())]


def launch(name: str, **settings: object) -> None:
    """Runs a launcher, showing the command."""
    arguments = arguments_of(name, **settings)
    print(f"\n$ python {shlex.join(arguments)}", flush=True)
    if status := subprocess.run([sys.executable, *arguments]).returncode:
        raise InputError(f"launch/{name}.py ended with status {status}")


def _parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses `argv`; returns what is not a flag."""
    try:
        for path in _config_files(argv):
            if not Path(path).is_file():
                raise InputError(f"--config: no such file: {path}")
        left = flags.FLAGS(argv)
        if "config" in flags.FLAGS and not isinstance(flags.FLAGS["config"].value, ConfigDict | None):
            raise InputError("--config: the file's get_config() must return a ConfigDict")
        return left
    except (AttributeError, KeyError) as error:
        _fail(_explain_field(argv, error))
    except SyntaxError as error:
        _fail(f"--config: {error}")
    except (flags.Error, InputError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # A config file that raises is reported with its traceback, of which the last line says what is wrong.
        _fail(f"{lines[0]} {lines[-1]}" if "Traceback" in str(error) else " ".join(lines))
    except Exception as error:  # a config file is a program: it can raise anything
        _fail(f"--config: {type(error).__name__}: {error}")


def _config_files(argv: Sequence[str]) -> list[str]:
    """The files that `--config=FILE` and `--config FILE` name, without the `:argument` that may follow."""
    named = [argument.split("=", 1)[1] for argument in argv if re.match(r"--?config=", argument)]
    named += [value for name, value in itertools.pairwise(argv) if re.fullmatch(r"--?config", name)]
    return [path.split(":", 1)[0] for path in named]


def _explain_field(argv: Sequence[str], error: Exception) -> str:
    """Names the `--config.…` argument that an error of ml_collections is about, and the field it suggests."""
    while error.args and isinstance(error.args[0], Exception):  # an AttributeError holds the KeyError it came from
        error = error.args[0]
    message = str(error.args[0] if error.args else error)
    overrides = [re.match(r"--?(?:no)?config\.([^=]+)", argument) for argument in argv]
    paths = [override[1] for override in overrides if override]
    quoted = re.match(r"'([^']+)'", message)
    if quoted:
        paths = [path for path in paths if quoted[1] in path.split(".")]
    else:
        paths = [path for path in paths if message.endswith(f"lookup: {path}")]
    if not paths:
        return f"--config: {' '.join(message.split())}"
    meant = re.search(r'Did you mean "([^"]+)"', message)
    return f"unknown config field --config.{paths[0]}" + (f", did you mean {meant[1]!r}?" if meant else "")


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
