"""A workdir: the resolved config, the records, the checkpoints of one run. Nothing in it is written over.

config.json     the resolved config
environment.json  versions and machine of the process that began the run
metrics.jsonl   a line for each round or step
cohorts.jsonl   a line for each round: who took part, losses, bytes sent and received
clients.jsonl   a line for each client and evaluation point of Profit's stage 2
perplexity.jsonl  a line for each client and evaluated round, of PerFIT
shapes.jsonl    the compiled shape that each round took
checkpoints/    Orbax
figures/        PNG and PDF
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from profit_jax.errors import InputError
from profit_jax.experiment.environment import environment


class Workdir:
    """Opens a workdir for a run with this config: a new or empty folder, or one that the same config has begun."""

    def __init__(self, path: str | Path, config: Mapping[str, Any]):
        self.path = Path(path)
        file = self.path / "config.json"
        config = json.loads(json.dumps(config))  # as it will be read back
        if file.exists():
            begun = _read(file)
            different = [name for name, value in _fields(config) if dict(_fields(begun)).get(name, ...) != value]
            different += [name for name, _ in _fields(begun) if name not in dict(_fields(config))]
            if different:
                raise InputError(f"{self.path} holds a run with another {different[0]}; choose another --workdir")
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise InputError(f"{self.path} is not empty and holds no run; choose another --workdir")
        else:
            self.path.mkdir(parents=True, exist_ok=True)
            _write_whole(file, json.dumps(config, indent=1) + "\n")
            _write_whole(self.path / "environment.json", json.dumps(environment(), indent=1) + "\n")

    def append(self, name: str, *rows: Mapping[str, Any]) -> None:
        """Appends rows to `name`.jsonl, a JSON object a line."""
        with open(self.path / f"{name}.jsonl", "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of `name`.jsonl; a last line that was cut off when the run was killed does not count."""
        file = self.path / f"{name}.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def keep(self, name: str, wanted: Any) -> None:
        """Rewrites `name`.jsonl with the rows for which `wanted(row)` holds: a resumed run drops what it does again."""
        if (self.path / f"{name}.jsonl").exists():
            kept = [json.dumps(row) + "\n" for row in self.rows(name) if wanted(row)]
            _write_whole(self.path / f"{name}.jsonl", "".join(kept))

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path.absolute() / "checkpoints"


def _fields(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is damaged ({error}); choose another --workdir") from None


def _write_whole(file: Path, text: str) -> None:
    """Writes a file so that it is either not there or whole."""
    part = file.with_name(file.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)
