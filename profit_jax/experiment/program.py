"""A compiled program read from its HLO text: what the devices of a mesh send one another, and how large it is.

    text = jax.jit(step).lower(*arguments).compile().as_text()
    sent = sum(each.bytes * each.count for each in collectives(text, mesh.shape) if "clients" in each.axes)

Devices are numbered by their place in the mesh, in row-major order, as XLA numbers the partitions of a program.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """An exchange between devices."""

    kind: str  # one of KINDS
    axes: tuple[str, ...]  # of the mesh: those along which devices that exchange stand apart
    bytes: int  # of the whole array at one device: before it is scattered, after it is gathered
    loops: tuple[int | None, ...] = ()  # the trip count of each loop around it, the outermost first; None: data decide

    @property
    def count(self) -> int:
        """How often it runs when every loop whose trip count the data decide makes one trip."""
        return math.prod(1 if trips is None else trips for trips in self.loops)


def collectives(text: str, mesh: Mapping[str, int]) -> list[Collective]:
    """The exchanges of a compiled program, those inside of loops and called computations too.

    Args:
      text: `compiled.as_text()`.
      mesh: axis -> size, in order: `mesh.shape`.
    """
    program = _computations(text)

    def of(computation: str, loops: tuple[int | None, ...]) -> Iterator[Collective]:
        instructions = program[computation]
        finished = {each.operand: each.shape for each in instructions if each.kind.endswith("-done")}
        for each in instructions:
            kind = each.kind.removesuffix("-start")
            if kind in KINDS:
                groups = _groups(each.attributes, mesh)
                axes, size = _axes(groups, mesh), _bytes(finished.get(each.name, each.shape))
                if axes:
                    yield Collective(kind, axes, size * (groups.shape[1] if kind == "reduce-scatter" else 1), loops)
            inside = (*loops, _trips(each.attributes, program)) if each.kind == "while" else loops
            for called in _called(each.attributes):
                yield from of(called, inside)

    return [*of(_ENTRY, ())]


def instructions(text: str) -> int:
    """How many instructions a compiled program has: what its compilation takes, in a measure that does not vary."""
    return sum(map(len, _computations(text).values()))


class _Instruction(NamedTuple):
    name: str
    shape: str
    kind: str
    operand: str  # the first one's name, of an instruction that ends an asynchronous one
    attributes: str  # operands and all that follows


_ENTRY = "ENTRY"
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][a-z0-9\-]*)\((.*)")
_SHAPE = re.compile(r"\b([a-z]+)(\d*)\w*\[([\d,]*)\]")
_CALLED = re.compile(
    r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)"
    r"|\b(?:branch_computations|called_computations)=\{([^}]*)\}"
)
_CONDITION = re.compile(r"\bcondition=%?([\w.\-]+)")
_BELOW = re.compile(r"%?[\w.\-]+, %?([\w.\-]+)\), direction=LT")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_PAIRS = re.compile(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}")
_LISTED = re.compile(r"replica_groups=\{(\{.*?\})?\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_NAMED = re.compile(r"replica_groups=mesh\[(.*?)\](?:, device_ids=\((.*?\)?)\))? \{(.*?)\}")
_NAMED_AXIS = re.compile(r"([^,=]+)=(\d+)")
_NAMED_PART = re.compile(r"([^,:]+)(?::\((\d+)\)(\d+))?")


def _computations(text: str) -> dict[str, list[_Instruction]]:
    """Computation -> its instructions."""
    found: dict[str, list[_Instruction]] = {}
    own: list[_Instruction] = []
    for line in text.splitlines():
        if header := _HEADER.match(line):
            own = found.setdefault(_ENTRY if header[1] else header[2], [])
        elif found and (at := _INSTRUCTION.match(line)):
            operand = re.search(r"%([\w.\-]+)\)", at[4]) if at[3].endswith("-done") else None
            own.append(_Instruction(at[1], at[2], at[3], operand[1] if operand else "", at[4]))
    return found


def _called(attributes: str) -> Iterator[str]:
    for one, several in _CALLED.findall(attributes):
        yield from [one] if one else re.findall(r"[\w.\-]+", several)


def _trips(attributes: str, program: Mapping[str, Sequence[_Instruction]]) -> int | None:
    """As the compiler has noted, or else, on TPUs, the constant below which the loop's condition keeps its counter.

    Loops of `lax.scan` count from 0 in steps of 1, and their condition has no more than counter, constant, comparison.
    """
    if found := _TRIPS.search(attributes):
        return int(found[1])
    named = _CONDITION.search(attributes)
    assert named, "every loop names its condition"
    condition = program[named[1]]
    values = {each.name: each.attributes.split(")")[0] for each in condition if each.kind == "constant"}
    below = [at[1] for each in condition if each.kind == "compare" and (at := _BELOW.match(each.attributes))]
    return int(values[below[0]]) if len(condition) == 4 and below and below[0] in values else None


def _bytes(shape: str) -> int:
    """Of an array or of all arrays of a tuple; a predicate takes a byte, and a token, which has no bits, nothing."""
    bits = {"pred": 8, "token": 0}
    sizes = _SHAPE.findall(shape)
    return sum(bits.get(kind, int(width or 0)) * math.prod(_numbers(axes)) // 8 for kind, width, axes in sizes)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _axes(groups: np.ndarray, mesh: Mapping[str, int]) -> tuple[str, ...]:
    """The axes along which members of a group `[groups, members]` have different places."""
    places = np.unravel_index(groups, tuple(mesh.values()))
    return tuple(axis for axis, at in zip(mesh, places) if (at != at[:, :1]).any())


def _groups(attributes: str, mesh: Mapping[str, int]) -> np.ndarray:
    """Who exchanges with whom, `[groups, members]`, from any of the forms in which XLA writes it."""
    devices = math.prod(mesh.values())
    if pairs := _PAIRS.search(attributes):
        return np.array(_numbers(pairs[1]), int).reshape(-1, 2)
    if found := _IOTA.search(attributes):
        return _iota(_numbers(found[2]), _numbers(found[3] or "")).reshape(_numbers(found[1]))
    if found := _NAMED.search(attributes):
        return _named(found[1], found[2] or "", found[3])
    if (found := _LISTED.search(attributes)) and found[1]:
        return np.array([_numbers(group) for group in found[1].split("},")])
    return np.arange(devices)[None]  # none are named: all devices are one group


def _iota(sizes: Sequence[int], order: Sequence[int]) -> np.ndarray:
    """`[8,4]T(1,0)`: 0, 1, ... in that shape, its axes in that order, then flat."""
    return np.arange(math.prod(sizes)).reshape(sizes).transpose(order or range(len(sizes))).ravel()


def _named(mesh: str, ids: str, parts: str) -> np.ndarray:
    """`mesh['a'=8,'b'=4] {'b','a':(2)4}`: groups along b and that part of a with 2 times as many groups around it."""
    axes = {name: int(size) for name, size in _NAMED_AXIS.findall(mesh)}
    devices, names, members = math.prod(axes.values()), [*axes], 1
    at = np.stack(np.unravel_index(np.arange(devices), tuple(axes.values())))
    for name, before, size in _NAMED_PART.findall(parts):
        own = int(size or axes[name])
        step = axes[name] // (int(before or 1) * own)
        at[names.index(name)] -= at[names.index(name)] // step % own * step
        members *= own
    shape, _, order = ids.partition("T")
    placed = _iota(_numbers(shape), _numbers(order)) if "[" in ids else np.array(_numbers(ids) or range(devices))
    return placed[np.lexsort(at)].reshape(-1, members)
