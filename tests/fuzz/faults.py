"""What can be wrong with a file: strategies for damaged bytes and damaged JSON, and the file spoilt on disk."""

import copy
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

DEEP = 100_000
_LITERALS = {  # what `json.dumps` does not write: a placeholder, and the text that takes its place
    "@large": "1e400",
    "@small": "-1e400",
    "@digits": "9" * 5000,
    "@lists": "[" * DEEP + "]" * DEEP,
    "@objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "@levels": "[" * 70 + "]" * 70,
    "@half": '"\\ud800"',
    "@bare": "none",
}
_AGAIN = "@again "  # before a name that stands in its object already
NAMES = ("../../etc/x", "/etc/passwd", "..", ".", "", "a/b", "a\x00b", "a\nb", "x" * 5000, "é" * 200, "model.bin")
VALUES = (
    *(None, True, False, 0, -1, 1, 3, 7.5, 2**31, -(2**63), 10**30, 1e308, -0.0),
    *(float("nan"), float("inf"), "", "1", "x" * 100_000, "\x00", "a\x00b\r\n\u2028c", "\x1b[31m", "é\U0001f600"),
    *([], [[]], {}, [None], ["a"], {"a": 1}, [1e308], [10**30], list(range(300))),
    *NAMES,
    *_LITERALS,
)
WHOLE = (  # contents that have nothing to do with the file
    b"",
    b"\n",
    b"\x00" * 4096,
    b"null",
    b"3",
    b"[]",
    b"{}",
    b'"',
    b"\xff\xfe\x00",
    b"\x80\x04\x95",  # how a pickle begins
    b"PK\x03\x04",
    b"[" * DEEP,
    b'{"a":' * DEEP,
    b"a" * 1_000_000,
    b"\xff" * 70_000,
)
PLACES = ("missing", "folder", "loop", "pipe", "unreadable")  # no regular file is there


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """The bytes cut off, with some changed, with more among them, in another encoding, or none of them."""
    place = st.integers(0, max(len(content) - 1, 0))
    junk = st.sampled_from((b"\x00", b"\xff", b"\n", b"\r", b'"', b"{", b"]", b",", b"\xef\xbb\xbf", b"9" * 400, b"-"))
    return st.one_of(
        place.map(lambda end: content[:end]),
        st.lists(st.tuples(place, st.integers(1, 255)), min_size=1, max_size=4).map(lambda all: _flipped(content, all)),
        st.tuples(place, junk).map(lambda at: content[: at[0]] + at[1] + content[at[0] :]),
        st.tuples(place, place).map(lambda at: content[: min(at)] + content[max(at) :]),
        st.sampled_from(("utf-16", "utf-32", "utf-8-sig", "utf-7")).map(
            lambda name: content.decode("latin-1").encode(name)
        ),
        st.just(content + content),
        st.sampled_from(WHOLE),
    )


def _flipped(content: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(content)
    for place, mask in changes if content else ():
        changed[place] ^= mask
    return bytes(changed)


@st.composite
def damaged_tree(draw: st.DrawFn, tree: Any) -> Any:
    """A JSON value with one or two of its parts exchanged, missing, renamed or given twice."""
    tree = json.loads(json.dumps(tree))
    for _ in range(draw(st.integers(1, 2))):
        parts = [*_parts(tree)]
        if not parts:
            return draw(st.sampled_from(VALUES))
        parent, key = draw(st.sampled_from(parts))
        value = copy.deepcopy(draw(st.sampled_from(VALUES)))  # a second change may be to it
        match draw(st.sampled_from(("exchange", "exchange", "delete", "rename", "twice"))):
            case "exchange":
                parent[key] = value
            case "delete":
                del parent[key]
            case "rename" if isinstance(parent, dict):
                parent[draw(st.sampled_from((*NAMES, *map(str, parent))))] = parent.pop(key)
            case "twice" if isinstance(parent, dict):
                parent[_AGAIN + key] = value
            case _:
                parent.append(value) if isinstance(parent, list) else parent.update(new=value)
    return tree


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each part of a JSON value, by the container that it is in and its key or index there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield value, key
        yield from _parts(part)


def text(tree: Any, **options: Any) -> bytes:
    """A damaged tree as it stands in a file."""
    written = json.dumps(tree, **options)
    for placeholder, literal in _LITERALS.items():
        written = written.replace(f'"{placeholder}"', literal)
    return written.replace(f'"{_AGAIN}', '"').encode()


def damaged_json(tree: Any) -> st.SearchStrategy[bytes]:
    """A file of one JSON value, with its parts or its bytes damaged."""
    return st.one_of(damaged_tree(tree).map(text), damaged_tree(tree).map(text), damaged(json.dumps(tree).encode()))


def damaged_lines(rows: list[Any]) -> st.SearchStrategy[bytes]:
    """A file of a JSON value a line, with one line or its bytes damaged."""
    whole = [json.dumps(row).encode() for row in rows]

    def exchanged(drawn: tuple[int, Any]) -> bytes:
        lines = [*whole]
        lines[drawn[0]] = text(drawn[1])
        return b"\n".join(lines) + b"\n"

    line = st.integers(0, len(rows) - 1).flatmap(lambda at: st.tuples(st.just(at), damaged_tree(rows[at])))
    return st.one_of(line.map(exchanged), line.map(exchanged), damaged(b"\n".join(whole) + b"\n"))


def or_no_file(contents: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes | str]:
    """The contents, or now and then one of `PLACES`."""
    return st.one_of(contents, contents, contents, contents, st.sampled_from(PLACES))


@contextmanager
def spoilt(file: Path, fault: bytes | str) -> Iterator[None]:
    """The file with this content, or none but one of `PLACES`; afterwards it is as it was."""
    whole = file.read_bytes()
    try:
        if isinstance(fault, bytes):
            file.write_bytes(fault)
        else:
            _replace(file, fault)
        yield
    finally:
        shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
        file.write_bytes(whole)


def _replace(file: Path, place: str) -> None:
    if place == "unreadable" and os.geteuid() != 0:  # root reads everything
        file.chmod(0)
        return
    file.unlink()
    if place == "folder":
        file.mkdir()
    elif place == "loop":
        file.symlink_to(file.name)
    elif place == "pipe":
        os.mkfifo(file)
