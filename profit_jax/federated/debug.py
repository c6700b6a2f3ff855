"""Debugging: the same algorithm client by client and without jit, stopping at the stage and client that fails.

    for each client of the cohort:  a round of it alone, every operation checked for nan where it is computed
    then                            the round of all, whose state goes on

Stages: the cohort's arrays, the client's own computation (named by the line of code at fault), what comes out of it.
What is no algorithm, but a step of state and cohort too, is `checked` in the same way.
"""

import dataclasses
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from profit_jax import hosts
from profit_jax.errors import InputError
from profit_jax.federated.algorithm import Algorithm, Stats
from profit_jax.typing import Cohort, Frozen, Tree

_PACKAGES = ("profit_jax", "perfit_jax")

State = TypeVar("State")
Result = TypeVar("Result")


class Debugged(Algorithm):
    """An algorithm whose rounds are checked; slow. Its results are the plain algorithm's, to rounding."""

    def round(self, state: Any, cohort: Cohort) -> tuple[Any, Stats]:
        """One round, first of each client alone.

        Raises:
          InputError: naming the round, the client and the stage.
        """
        number = int(np.max(state.round)) + 1
        return checked(self.step, self.loss.frozen, state, cohort, where=f"round {number}", fault=_lost)


def debugged(algorithm: Algorithm) -> Debugged:
    """The algorithm, checked."""
    return Debugged(**{field.name: getattr(algorithm, field.name) for field in dataclasses.fields(algorithm)})


def _lost(stats: Stats) -> str:
    lost = int(np.max(stats.lost))
    return f"the loss or the update of local step {lost} is infinite" if lost else ""


def checked(
    step: Callable[[Frozen, State, Cohort], tuple[State, Result]],
    frozen: Frozen,
    state: State,
    cohort: Cohort,
    *,
    where: str,
    fault: Callable[[Result], str],
    name: Callable[[int], int] = int,
) -> tuple[State, Result]:
    """`step(frozen, state, cohort)`, checked, after the same of each client alone.

    Args:
      step: state -> state of the same shapes, and what else comes out.
      where: what an error says first.
      fault: what is wrong with what else comes out, or nothing.
      name: `cohort.client` -> the client's number.

    Raises:
      InputError: naming the client and the stage.
    """
    cohort = hosts.gathered(cohort)
    vocabulary = jax.tree.leaves(jax.eval_shape(lambda: frozen["embedding"]))[0].shape[0]

    def run(cohort: Cohort, where: str) -> tuple[State, Result]:
        try:
            with jax.disable_jit(), jax.debug_nans(True):
                after, result = step(frozen, state, cohort)
        except FloatingPointError as error:
            raise InputError(f"{where}: not a number in {line_of(error)}") from None
        if problem := fault(result):
            raise InputError(f"{where}: {problem}")
        if problem := unlike(state, after):
            raise InputError(f"{where}: the state's {problem}")
        return after, result

    for lane, place in np.argwhere(cohort.client >= 0):
        who = f"{where}, client {name(int(cohort.client[lane, place]))}"
        one = only(cohort, int(lane), int(place))
        if problem := in_cohort(one, int(lane), int(place), vocabulary):
            raise InputError(f"{who}: the cohort's {problem}")
        run(one, who)
    return run(cohort, f"{where}, all clients")


def only(cohort: Cohort, lane: int, place: int) -> Cohort:
    """The cohort with one client in it: all else is padding of the same shape."""
    own = np.zeros(cohort.client.shape, bool)
    own[lane, place] = True

    rows = cohort.batches
    kept = (rows.client == place) & (np.arange(len(own)) == lane)[:, None, None, None]  # [M, S, Q, R]
    row = np.asarray(rows.label_at) // rows.tokens.shape[-1]  # [M, S, Q, J, N]
    labelled = np.take_along_axis(kept[..., None, :], row, -1)
    blank = dataclasses.replace(
        rows,
        tokens=np.where(kept[..., None], rows.tokens, 0),
        client=np.full_like(rows.client, place),
        label_weight=np.where(labelled, rows.label_weight, 0),
    )
    return Cohort(
        batches=blank,
        counts=np.where(own[:, None], cohort.counts, 0),
        used=cohort.used,
        weight=np.where(own, cohort.weight, 0),
        client=np.where(own, cohort.client, -1),
    )


def in_cohort(cohort: Cohort, lane: int, place: int, vocabulary: int) -> str:
    """What is wrong with the arrays of a client's cohort, or nothing."""
    if not (np.isfinite(cohort.weight).all() and (cohort.weight >= 0).all() and cohort.weight[lane, place] > 0):
        return "weights are not finite and positive"
    if not cohort.counts[lane, :, place].any():
        return "counts have no step of this client"
    rows = cohort.batches
    lead, (height, width) = rows.tokens.shape[:3], rows.tokens.shape[3:]
    for name, leaf in {"start": rows.start, "client": rows.client}.items():
        if leaf.shape != (*lead, height):
            return f"{name} have shape {leaf.shape}, not {(*lead, height)}"
    if rows.tokens.min() < 0 or max(rows.tokens.max(), rows.label_token.max()) >= vocabulary:
        return f"tokens are not all in the vocabulary of {vocabulary}"
    if rows.label_at.min() < 0 or rows.label_at.max() >= height * width:
        return f"labels stand outside of rows [{height}, {width}]"
    if not np.isfinite(rows.label_weight).all():
        return "label weights are not finite"
    return ""


def unlike(before: Tree, after: Tree) -> str:
    """What differs in shape, dtype or finiteness between a state and the one after it, or nothing."""
    for (path, old), new in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            return f"{name} becomes {new.dtype}{[*new.shape]}, from {old.dtype}{[*old.shape]}"
        if not np.isfinite(new).all():
            return f"{name} is not finite"
    return ""


def line_of(error: BaseException) -> str:
    """The innermost line of this project's code that an error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if {*_PACKAGES} & {*Path(frame.filename).parts} and frame.filename != __file__]
    last = own[-1]
    file = Path(*Path(last.filename).parts[-3:])
    return f"{last.name} ({file}:{last.lineno}): {last.line}"
