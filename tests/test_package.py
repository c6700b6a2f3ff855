"""The package as it is installed: what the wheel holds, what it asks for, and that it runs from any folder."""

import itertools
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGES = ("configs", "launch", "perfit_jax", "profit_jax")
SMALLEST = {"rounds": 1, "clients_per_round": 2, "evaluate_every": 1, "pruning_epochs": 1}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built of a copy: what a build leaves in the sources would get into the next one."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(built)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (file,) = built.iterdir()
    return file


@pytest.fixture(scope="module")
def metadata(wheel) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_every_file_of_the_packages(wheel):
    """The embedded model, the page of a report and the configs too; recipes for clusters and notebooks are not."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    files = [file for name in PACKAGES for file in (ROOT / name).rglob("*") if file.is_file()]
    kept = [file for file in files if {"__pycache__", "cluster", "colab"}.isdisjoint(file.parts)]
    assert sorted(held) == sorted(file.relative_to(ROOT).as_posix() for file in kept)
    assert all(held[file.relative_to(ROOT).as_posix()] == file.read_bytes() for file in kept)


def test_every_requirement_is_pinned_once_for_every_python(metadata):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    asked = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    pythons = [each.split(" :: ")[-1] for each in metadata.get_all("Classifier") if "Python :: 3." in each]
    assert pythons[0] == metadata["Requires-Python"].removeprefix(">=")
    for python, wanted in itertools.product(pythons, asked):
        here = {"python_version": python, "extra": "dev"}
        if wanted.marker and not wanted.marker.evaluate(here):
            continue
        named = [pin for pin in pins if canonicalize_name(pin.name) == canonicalize_name(wanted.name)]
        (pin,) = (pin for pin in named if not pin.marker or pin.marker.evaluate(here))
        assert str(pin.specifier).removeprefix("==") in wanted.specifier, f"{wanted} on Python {python}"


@pytest.mark.slow
def test_an_installed_wheel_runs_an_experiment_of_the_demo_in_an_empty_folder(wheel, tmp_path):
    """In an environment of its own, which sees this one's packages, but not the sources."""
    venv.create(tmp_path / "venv", with_pip=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    python, empty = tmp_path / "venv" / "bin" / "python", tmp_path / "empty"
    empty.mkdir()
    ours = ("PYTHONPATH", "XLA_FLAGS")  # the way to the sources, and eight devices where a demo has one
    environment = {name: value for name, value in os.environ.items() if name not in ours}

    def run(*arguments: str | Path) -> str:
        done = subprocess.run([python, *arguments], cwd=empty, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("-m", "pip", "install", "--no-index", "--no-deps", wheel)
    assert run("-c", "import launch; print(launch.__path__[0])").strip() == str(site / "launch")
    settings = [f"--set={name}={value}" for name, value in SMALLEST.items()]
    run("-m", "launch.reproduce", "--experiment=perfit/table2_r16", "--seeds=1", "--workdir=effects", *settings)
    assert "perfit/table2_r16" in (empty / "effects" / "effects.md").read_text()
    assert [*(empty / "effects" / "figures").rglob("*.png")]
