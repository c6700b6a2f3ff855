"""The last lines of a launcher: what it has done, what it has written where, and what to run next."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Done(NamedTuple):
    """What a launcher's `main` returns, to be said at the end."""

    says: str
    written: Path | None = None  # a folder or a file
    following: Sequence[str] = ()  # commands that go on from here

    def lines(self, seconds: float) -> list[str]:
        """The lines, of a launcher that took so long."""
        written = [f"written: {contents(self.written)}"] if self.written else []
        return [f"{self.says} ({seconds:.0f} s)", *written, *(f"next: {command}" for command in self.following)]


def contents(path: Path) -> str:
    """A file, or a folder with what it holds."""
    if not path.is_dir():
        return str(path)
    names = [f"{each.name}/" if each.is_dir() else each.name for each in sorted(path.iterdir()) if each.name != "lock"]
    return f"{path}: {', '.join(names)}"
