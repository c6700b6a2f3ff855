"""Files as people leave them: read whole and checked, or one line that names the file; written whole or not at all.

Text is UTF-8, with or without a byte order mark. JSON is what Python reads, NaN and Infinity included (the release of
Super-NaturalInstructions has NaN), without what could be read in two ways or not be written again: an object has a
name once, a number with a fraction is in the range of float64, text is Unicode, and values are at most `DEPTH` deep.
Nothing that is read can run code: there are no pickles.
"""

import codecs
import contextlib
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import safe_open

from profit_jax.errors import InputError

FLOATING = ("F64", "F32", "F16", "BF16")  # the dtypes of safetensors files that weights and adapters have
DEPTH = 64  # levels of a JSON value; what prints, compares or writes one recurses
_HALF_A_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")  # JSON can escape a surrogate alone


class Lines(NamedTuple):
    """The JSON objects of a file, one a line."""

    objects: dict[int, dict[str, Any]]  # by the number of the line, from 1 on; blank lines have none
    torn: int  # the number of a last line that is half written and left out; 0 where there is none


@contextlib.contextmanager
def opened(file: str | os.PathLike[str], advice: str = "") -> Iterator[Any]:
    """Opens a regular file to read its bytes; what the system objects to meanwhile is an `InputError`.

    Args:
      file: its path. A pipe or a device, which may never end, is refused.
      advice: what to do about a file that cannot be read, to end the line with.
    """
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise InputError(_line(file, "a folder or a device, not a file", advice))
        with open(file, "rb") as stream:
            yield stream
    except OSError as error:
        raise InputError(_line(file, (error.strerror or str(error)).lower(), advice)) from None


def read_text(file: str | os.PathLike[str], advice: str = "") -> str:
    """The text of a UTF-8 file.

    Raises:
      InputError: no such file, one that cannot be read, or other bytes than UTF-8.
    """
    return _decoded(_content(file, advice), str(file), advice)


def read_json(file: str | os.PathLike[str], advice: str = "") -> Any:
    """The JSON value that a file holds.

    Raises:
      InputError: as `read_text`, or no JSON as the module describes it.
    """
    return parse_json(read_text(file, advice), str(file), advice)


def read_object(file: str | os.PathLike[str], advice: str = "") -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
      InputError: as `read_json`, or another value than an object.
    """
    return _checked_object(read_json(file, advice), str(file), advice)


def read_lines(file: str | os.PathLike[str], advice: str = "", *, appended: bool = False) -> Lines:
    """The JSON objects of a file, one a line.

    Args:
      file: its path.
      advice: as in `opened`.
      appended: whether the file was written line by line: a process that is killed meanwhile can leave its last line
        half written, so a last line that is not JSON is left out.

    Raises:
      InputError: as `read_text`, a line that is not JSON, or one that is not an object.
    """
    objects: dict[int, dict[str, Any]] = {}
    lines = _content(file, advice).rstrip().split(b"\n")
    for number, line in enumerate(lines, start=1):
        where = f"{file}, line {number}"
        try:
            text = _decoded(line, where, advice)
            value = parse_json(text, where, advice) if text.strip() else None
        except InputError:
            if not appended or number < len(lines):
                raise
            return Lines(objects, number)
        if text.strip():
            objects[number] = _checked_object(value, where, advice)
    return Lines(objects, 0)


def parse_json(text: str, where: str, advice: str = "") -> Any:
    """The value of a JSON text; errors name `where`."""
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_float=_number)
        _check_depth(value)
        if _HALF_A_CHARACTER.search(text) and not is_unicode(json.dumps(value, ensure_ascii=False)):
            raise ValueError("text that is not Unicode, for half a surrogate pair")
    except RecursionError:
        raise InputError(_line(where, f"not JSON: more than {DEPTH} levels deep", advice)) from None
    except ValueError as error:
        raise InputError(_line(where, f"not JSON: {error}", advice)) from None
    return value


def is_unicode(text: str) -> bool:
    """Whether a text can be written: a lone surrogate stands for half a character, or a byte of a file's name."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_arrays(file: str | os.PathLike[str], names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of these names in a NumPy archive (.npz).

    Raises:
      InputError: no such file, no archive of arrays of numbers, or one without these.
    """
    with opened(file) as stream:
        try:
            with np.load(stream, allow_pickle=False) as archive:
                missing = sorted({*names} - {*archive.files})
                arrays = {} if missing else {name: np.asarray(archive[name]) for name in names}
        except Exception as error:  # of NumPy, zipfile, zlib, tokenize, for memory: they have no type in common
            raise InputError(f"{file}: not an archive of NumPy arrays: {error}") from None
    if missing:
        raise InputError(f"{file}: no array {missing[0]!r}")
    return arrays


@contextlib.contextmanager
def open_tensors(file: str | os.PathLike[str]) -> Iterator[Any]:
    """Opens a safetensors file as `safetensors.safe_open` does; tensors are read as NumPy arrays when asked for.

    Raises:
      InputError: no such file, or no safetensors file.
    """
    with opened(file):  # a file at all
        pass
    with contextlib.ExitStack() as stack:
        try:
            # A mapped file's pages count as the process's memory until it is closed, so tensors are read.
            tensors = stack.enter_context(safe_open(file, framework="numpy", backend="pread"))
        except Exception as error:  # SafetensorError, or of its header's text
            raise InputError(f"{file}: not a readable safetensors file: {error}") from None
        yield tensors


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, if they are not there.

    Raises:
      InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(_line(folder, (error.strerror or str(error)).lower(), "")) from None


def write_whole(file: Path, text: str) -> None:
    """Writes a UTF-8 file so that it is either as it was or whole."""
    with _part(file) as part:
        part.write_text(text, encoding="utf-8")


def write_arrays(file: Path, **arrays: np.ndarray | np.generic) -> None:
    """Writes a compressed NumPy archive, as `write_whole` does a text."""
    with _part(file) as part, part.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # pyrefly: ignore[bad-argument-type]  none is called allow_pickle


@contextlib.contextmanager
def _part(file: Path) -> Iterator[Path]:
    """A file beside `file` that takes its place once it is written."""
    part = file.with_name(f"{file.name}.{os.getpid()}.part")  # two processes may write the same file
    try:
        yield part
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _content(file: str | os.PathLike[str], advice: str) -> bytes:
    with opened(file, advice) as stream:
        return stream.read().removeprefix(codecs.BOM_UTF8)


def _decoded(content: bytes, where: str, advice: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InputError(_line(where, f"not UTF-8 text: {error}", advice)) from None


def _checked_object(value: Any, where: str, advice: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(_line(where, "not a JSON object", advice))
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice in an object")
    return fields


def _number(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEPTH + 1):
        inner = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list)]
        level = [part for parts in inner for part in parts]
        if not level:
            return
    raise RecursionError


def _line(where: str | os.PathLike[str], reason: str, advice: str) -> str:
    return f"{where}: {reason}" + (f"; {advice}" if advice else "")
