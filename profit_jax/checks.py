"""Whether a JSON value is what a file must say: checks, and checks of objects and lists made of them.

>>> is_row = has(round=is_count, losses=all_are(is_number, list))
>>> is_row({"round": 1, "losses": [0.5]}), is_row({"round": -1, "losses": []}), is_row([])
(True, False, False)
"""

from collections.abc import Callable
from typing import Any

Check = Callable[[Any], bool]


def is_count(value: Any) -> bool:
    """Whether a JSON value is a whole number from 0 on that an array can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number; one that is not finite is."""
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)


def is_text(value: Any) -> bool:
    """Whether a JSON value is text."""
    return isinstance(value, str)


def has(**fields: Check) -> Check:
    """A check of a JSON object: whether it has these fields, and each field's own check holds."""
    return lambda value: (
        isinstance(value, dict) and all(name in value and right(value[name]) for name, right in fields.items())
    )


def all_are(right: Check, kind: type[list] | type[dict] = dict) -> Check:
    """A check of a JSON object with any names, or of a list: whether each value's check holds."""
    return lambda value: (
        isinstance(value, kind) and all(map(right, value if isinstance(value, list) else value.values()))
    )
