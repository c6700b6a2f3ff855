"""What to say, in one line, of a command whose flags or config cannot be read."""

import itertools
import os
import re
import runpy
import traceback
from collections.abc import Iterator, Sequence

from absl import flags
from ml_collections import ConfigDict

from launch import _fields
from profit_jax.errors import InputError, nearest


def explained(argv: Sequence[str], error: Exception, default: str | None = None) -> str:
    """What went wrong.

    Args:
      argv: the command.
      error: what absl, ml_collections or the config file raised of it.
      default: the config file that is read where the command names none.
    """
    configs = [*named_configs(argv), *([default] if default else [])]
    if isinstance(error, flags.UnrecognizedFlagError):
        return f"unknown flag --{error.flagname}{_meant('--', nearest(error.flagname, [*flags.FLAGS]))}"
    if configs and (raised := _raised_in(configs[0], error)):
        return raised
    if configs and isinstance(error, AttributeError | KeyError) and (field := _unknown_field(configs[0], argv)):
        return field
    if required := re.search(r"Flag --(\S+) must have a value other than None", str(error)):
        return f"--{required[1]} is missing; --help says what it takes"
    if isinstance(error, flags.Error | InputError):
        return " ".join(str(error).split())
    return f"--config: {type(error).__name__}: {error}"


def named_configs(argv: Sequence[str]) -> list[str]:
    """What `--config=FILE` and `--config FILE` name, with the `:argument` that may follow; the last one counts."""
    joined = [argument.split("=", 1)[1] for argument in argv if re.match(r"--?config=", argument)]
    apart = [value for name, value in itertools.pairwise(argv) if re.fullmatch(r"--?config", name)]
    return [*reversed(joined), *reversed(apart)]


def file_of(config: str) -> str:
    """The file that a value of `--config` names."""
    return config.split(":", 1)[0]


def _raised_in(config: str, error: Exception) -> str | None:
    """The line of the config file that raised, and what; nothing if none did."""
    if isinstance(error, SyntaxError):
        return f"{error.filename or file_of(config)}:{error.lineno or 1}: {error.msg}"
    for each in _chain(error):
        lines = [frame.lineno for frame in traceback.extract_tb(each.__traceback__) if _same(frame.filename, config)]
        if lines and isinstance(each, InputError):  # what stands behind the file's name is at fault, not the file
            return f"--config={config}: {each}"
        if lines:
            return f"{file_of(config)}:{lines[-1]}: {traceback.format_exception_only(each)[-1].strip()}"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from, or on the occasion of: ml_collections and absl wrap errors in their own."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _same(filename: str, config: str) -> bool:
    return os.path.realpath(filename) == os.path.realpath(file_of(config))


def _unknown_field(config: str, argv: Sequence[str]) -> str | None:
    """The first `--config.field` that the config does not have, and the one that may be meant."""
    create = runpy.run_path(file_of(config)).get("get_config")
    if not callable(create):
        return f"--config: {file_of(config)} has no function get_config"
    read = create(*config.split(":", 1)[1:])
    overrides = [re.match(r"--?(?:no)?config\.([^=]+)", argument) for argument in argv]
    for field in (override[1] for override in overrides if override):
        if isinstance(read, ConfigDict) and not _fields.has(read, field):
            return f"unknown config field --config.{field}{_meant('--config.', _fields.near(read, field))}"
    return None


def _meant(prefix: str, near: str | None) -> str:
    return f"; did you mean {prefix}{near}?" if near else ""
