"""Numbers that experiments compare, each read from the records of one run or, at a level common to both, of two.

Of personalization (`clients.jsonl`, means over clients, along epochs or along alpha of model averaging):

    local            the best local score
    global_kept      the global score at the last point
    global_at_local  the global score, interpolated, where the local score first reaches a level common to both runs:
                     95 % of the smaller of their best local scores
    global_on_way    the mean of the global score on the way there, over local scores from the larger start on: how
                     high the curve lies that the paper draws
    epochs_to_local  the epochs until the level is reached (of averaging: alpha)
    start_local      the scores at the first point
    start_global
    local_p10        percentiles over clients of the scores at the last point
    local_p90
    global_p10
    global_p90

Of training (`metrics.jsonl`, Frobenius norms):

    validation          the best validation score
    likelihood_trained  exp(-loss), of the mean loss of the second half of the rounds
    prompt_norm         the norm of the prompt after the last round
    gradient_norm       the clients' mean gradient norm, mean over rounds
    change_norm         the norm of the prompt's change in a round, mean over rounds
    gradient_by_prompt  the gradient norm divided by the prompt's norm, mean over rounds

Of PerFIT (`perplexity.jsonl`):

    perplexity  mean over clients after the last round
    likelihood  1 / perplexity, which is high where it is good
"""

from collections.abc import Callable

import numpy as np

from profit_jax.errors import InputError
from profit_jax.plots import perplexity, tradeoff, training
from profit_jax.plots.records import Run
from profit_jax.plots.tradeoff import Curve, Statistic

LEVEL = 0.95  # of the smaller best local score
POINTS = 101  # at which a curve is read on its way


def measure(name: str, run: Run, point: str = "epoch") -> float:
    """A measure of one run.

    Raises:
      InputError: no such measure, or the run has not recorded what it takes.
    """
    if name in AT_LEVEL:
        own = curve(run, point)
        return AT_LEVEL[name](own, own.local[0], LEVEL * own.local.max())
    if name in ALONG:
        return float(ALONG[name](curve(run, point)))
    if name in PERCENTILES:
        score, percent = PERCENTILES[name]
        return float(getattr(curve(run, point, tradeoff.percentile(percent)), score)[-1])
    if name in TRAINING:
        return float(TRAINING[name](run))
    if name in PERPLEXITY:
        return PERPLEXITY[name](float(np.mean([line["perplexity"] for line in perplexity.last_round(run)])))
    raise InputError(f"unknown measure {name!r}; known: {', '.join(KNOWN)}")


def both(name: str, a: Run, b: Run, points: tuple[str, str] = ("epoch", "epoch")) -> tuple[float, float]:
    """A measure of two runs; of scores at a level, at the level common to both.

    Raises:
      InputError: as `measure`.
    """
    if name not in AT_LEVEL:
        return measure(name, a, points[0]), measure(name, b, points[1])
    curves = curve(a, points[0]), curve(b, points[1])
    start, level = max(each.local[0] for each in curves), LEVEL * min(each.local.max() for each in curves)
    one, other = (AT_LEVEL[name](each, start, level) for each in curves)
    return one, other


def curve(run: Run, point: str = "epoch", statistic: Statistic = np.mean) -> Curve:
    """The run's means over clients, or another statistic of them.

    Raises:
      InputError: it has no such points.
    """
    found = tradeoff.curve(run, point, statistic)
    if not found.steps.size:
        raise InputError(f"{run.label}: no point {point!r} is recorded of every client")
    return found


def at_level(curve: Curve, values: np.ndarray, level: float) -> float:
    """`values` where the local score first reaches the level, linear between the points around it.

    Args:
      curve: one that reaches the level.
      values: of the curve, `[points]`.
      level: a local score.
    """
    after = int(np.argmax(curve.local >= level))
    if after == 0:
        return float(values[0])
    before = after - 1
    share = (level - curve.local[before]) / (curve.local[after] - curve.local[before])
    return float(values[before] + share * (values[after] - values[before]))


def series(run: Run, field: str) -> np.ndarray:
    """A field of the rounds that recorded it, `[points]`."""
    values = training.series(run, field)[1]
    if not values.size:
        raise InputError(f"{run.label}: metrics.jsonl holds no {field}")
    return values


def second_half(values: np.ndarray) -> np.ndarray:
    """The later values, the middle one among them."""
    return values[len(values) // 2 :]


AT_LEVEL: dict[str, Callable[[Curve, float, float], float]] = {
    "global_at_local": lambda curve, _, level: at_level(curve, curve.robust, level),
    "global_on_way": lambda curve, start, level: float(
        np.mean([at_level(curve, curve.robust, each) for each in np.linspace(min(start, level), level, POINTS)])
    ),
    "epochs_to_local": lambda curve, _, level: at_level(curve, curve.steps, level),
}
ALONG: dict[str, Callable[[Curve], float]] = {
    "local": lambda curve: curve.local.max(),
    "global_kept": lambda curve: curve.robust[-1],
    "start_local": lambda curve: curve.local[0],
    "start_global": lambda curve: curve.robust[0],
}
PERCENTILES = {
    f"{score}_p{percent}": (field, percent)
    for score, field in (("local", "local"), ("global", "robust"))
    for percent in (10, 90)
}
TRAINING: dict[str, Callable[[Run], float]] = {
    "validation": lambda run: series(run, "validation_score").max(),
    "likelihood_trained": lambda run: np.exp(-second_half(series(run, "loss")).mean()),
    "prompt_norm": lambda run: series(run, "adapter_norm")[-1],
    "gradient_norm": lambda run: series(run, "client_gradient_norm").mean(),
    "change_norm": lambda run: series(run, "adapter_change_norm").mean(),
    "gradient_by_prompt": lambda run: (series(run, "client_gradient_norm") / series(run, "adapter_norm")).mean(),
}
PERPLEXITY: dict[str, Callable[[float], float]] = {
    "perplexity": lambda perplexity: perplexity,
    "likelihood": lambda perplexity: 1 / perplexity,
}
KNOWN = (*ALONG, *AT_LEVEL, *PERCENTILES, *TRAINING, *PERPLEXITY)
