"""Config files, which are Python programs, and what overrides their fields."""

import sys
from pathlib import Path

import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st

from launch import _main
from profit_jax.errors import InputError
from tests.fuzz import faults, law

CONFIG = b"""
from ml_collections import config_dict

def get_config():
    return config_dict.ConfigDict({"rounds": 3, "rate": 0.5, "name": "x", "on": True, "widths": (1, 2)})
"""
SPOILT = (
    b"def get_config():\n    return 3\n",
    b"def get_config():\n    return get_config()\n",
    b"def get_config():\n    raise ValueError('a\\nb')\n",
    b"x = " + b"(" * 5000,
    b"x = " + b"-" * faults.DEEP + b"1",
    b"import nowhere_at_all\n",
    b"get_config = None\n",
    b"def get_config(a, b):\n    return 1\n",
    b"# -*- coding: nonsense -*-\n",
)
VALUES = ("1e400", "9" * 5000, "-1", "nan", "((((", "[" * 5000, "1,2", "(1,'a')", "\x00", "é", "", "true", "None", "{}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("configs") / "here"
    folder.mkdir()
    (folder / "config.py").write_bytes(CONFIG)
    return folder


def parsed(folder: Path, *arguments: str) -> dict:
    """The config's fields as a launcher gets them; its line of error as an `InputError`."""
    values = flags.FlagValues()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flags, "FLAGS", values)
        patch.setattr(sys, "dont_write_bytecode", True)  # it would be that of an earlier case of this second
        patch.setattr(_main, "_fail", _refuse)
        patch.delitem(
            sys.modules, "config_config", raising=False
        )  # or the names of an earlier case would still be there
        flag = _main.config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values)
        _main._parse_flags(["launcher", f"--config={folder / 'config.py'}", *arguments])
        return flag.value.to_dict()


def _refuse(message: str) -> None:
    raise InputError(message)


@law.cases
@given(st.one_of(faults.damaged(CONFIG), st.sampled_from(SPOILT), st.sampled_from(faults.PLACES)))
def test_a_config_file(folder: Path, fault: bytes | str) -> None:
    def right(found: dict) -> None:
        scope: dict = {}
        exec(compile(file.read_bytes(), "config", "exec"), scope)
        assert found == scope["get_config"]().to_dict()

    file = folder / "config.py"
    with faults.spoilt(file, fault):
        law.holds(lambda: parsed(folder), folder, ["--config", file], right)


@law.cases
@given(st.sampled_from(("rounds", "rate", "name", "on", "widths", "none", "a.b", "")), st.sampled_from(VALUES))
def test_a_field(folder: Path, name: str, value: str) -> None:
    def right(found: dict) -> None:
        kinds = {"rounds": int, "rate": float, "name": str, "on": bool, "widths": tuple}
        assert {field: type(each) for field, each in found.items()} == kinds

    law.holds(lambda: parsed(folder, f"--config.{name}={value}"), folder, ["config"], right)
