"""What a function computes: the products in its trace that sum over an axis, counted as often as they run.

XLA's own cost analysis counts the body of a loop once, and a backbone is a loop over layers.
"""

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxprs_in_params


class Work(NamedTuple):
    """Arithmetic, and the memory traffic that it cannot do without."""

    flops: float  # a multiplication and an addition are two
    bytes: float  # every product reads its operands and writes its result; elementwise work is fused into products

    def times(self, factor: float) -> "Work":
        """So much of it."""
        return Work(self.flops * factor, self.bytes * factor)

    def plus(self, other: "Work") -> "Work":
        """This and that."""
        return Work(self.flops + other.flops, self.bytes + other.bytes)


def work(function: Callable, *arguments: Any, turns: Mapping[str, float] = MappingProxyType({})) -> Work:
    """The matrix products of `function(*arguments)`; arguments may be abstract.

    Args:
      function: of arrays.
      arguments: its arguments.
      turns: how often a loop runs whose length the data decide, by the name of its scope (`jax.named_scope`); others
        are counted once.

    >>> import jax.numpy as jnp
    >>> x = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    >>> work(lambda x: jax.lax.scan(lambda c, _: (c @ jnp.ones((3, 3)), None), x, length=5)[0], x)
    Work(flops=180, bytes=420)
    """
    return _of(jax.make_jaxpr(function)(*arguments).jaxpr, turns)


def _of(jaxpr: Jaxpr | ClosedJaxpr, turns: Mapping[str, float]) -> Work:
    total = Work(0, 0)
    for equation in jaxpr.eqns:
        total = total.plus(_product(equation) if equation.primitive.name == "dot_general" else _inside(equation, turns))
    return total


def _product(equation: JaxprEqn) -> Work:
    (contracted, _), _ = equation.params["dimension_numbers"]
    if not contracted:  # elementwise: an einsum that only lays out or scales
        return Work(0, 0)
    sides: list[list[Any]] = [[each.aval for each in side] for side in (equation.invars, equation.outvars)]
    (left, right), (result,) = sides
    flops = 2 * result.size * math.prod(left.shape[axis] for axis in contracted)
    return Work(flops, sum(each.size * each.dtype.itemsize for each in (left, right, result)))


def _inside(equation: JaxprEqn, turns: Mapping[str, float]) -> Work:
    """Of the functions that an operation calls."""
    called = [_of(jaxpr, turns) for jaxpr in jaxprs_in_params(equation.params)]
    total = Work(sum(each.flops for each in called), sum(each.bytes for each in called))
    scope = re.findall(r"\w+", str(equation.source_info.name_stack))[-1:]  # the innermost: "f/jvp(scope)"
    times = {"scan": equation.params.get("length", 1), "while": turns.get("".join(scope), 1)}
    return total.times(times.get(equation.primitive.name, 1))
