"""What `--help` prints, a screenful: what the launcher does, its commands, its own flags. `--helpfull` has the rest."""

import re
import shutil
import sys
import textwrap
from collections.abc import Sequence

from absl import flags

_WIDEST = 120


def asked(argv: Sequence[str]) -> str | None:
    """The help that the command asks for, if it does."""
    wanted = {
        argument.lstrip("-") for argument in argv[1:] if re.fullmatch(r"--?(help|helpshort|helpfull|\?)", argument)
    }
    return text(sys.modules["__main__"].__doc__ or "", full="helpfull" in wanted) if wanted else None


def text(docstring: str, *, full: bool = False) -> str:
    """A launcher's help.

    Args:
      docstring: the launcher's.
      full: all of the docstring and all flags, those of absl too; otherwise as far as its commands, and its own flags.
    """
    if full:
        return f"{_commands_as_written(docstring).strip()}\n\n{flags.FLAGS.get_help()}"
    own = sorted(flags.FLAGS.get_key_flags_for_module(sys.argv[0]), key=lambda flag: flag.name)
    table = [(f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}", _said_of(flag)) for flag in own]
    table.append(("--helpfull", "More about this launcher, and all flags."))
    return f"{_usage(docstring)}\n\n" + "\n".join(_lines(table))


def _usage(docstring: str) -> str:
    """The docstring as far as its first indented block, which has the commands; all of it where there is none."""
    paragraphs = _commands_as_written(docstring).strip().split("\n\n")
    commands = [number for number, paragraph in enumerate(paragraphs) if paragraph.startswith("    ")]
    return "\n\n".join(paragraphs[: commands[0] + 1] if commands else paragraphs)


def _commands_as_written(docstring: str) -> str:
    """Long commands on several lines again, which Python joins where a line ends in a backslash."""
    return re.sub(r" {5,}(?=--)", " \\\\\n        ", docstring)


def _said_of(flag: flags.Flag) -> str:
    """What a flag is for, what it takes, and what it is without being given."""
    said = [flag.help.partition(";\n")[0]]  # of a flag that may be repeated absl says so there
    if isinstance(flag, flags.MultiFlag):
        said.append("May be given several times.")
    if any("other than None" in validator.message for validator in flag.validators):
        said.append("(required)")
    elif flag.default not in (None, False, "", []):
        said.append(f"(default {str(flag.default_as_str).strip(chr(39))})")
    return " ".join(said)


def _lines(table: Sequence[tuple[str, str]]) -> list[str]:
    """A flag a line, as wide as the terminal is."""
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    first = max(len(name) for name, _ in table) + 4
    return [
        textwrap.fill(said, width, initial_indent=f"  {name:<{first - 2}}", subsequent_indent=" " * first)
        for name, said in table
    ]
