"""The errors a person is meant to read.

Everything this library raises on bad input is an `InputError`: one line that names the file, field or client
and says what to do. Launchers print that line and exit with status 2; library users catch it as a `ValueError`.
"""

from collections.abc import Iterable
from difflib import get_close_matches

_MOST = 2000  # characters of a message


class InputError(ValueError):
    """Bad input, explained in one line.

    What a message quotes of the input can be anything: what has no print, such as line breaks and what a terminal acts
    on, becomes blanks, and of a very long message the middle is left out.

    >>> print(InputError("a\\nb.json: no such file"))
    a b.json: no such file
    """

    def __init__(self, message: str):
        line = "".join(each if each.isprintable() else " " for each in message)
        super().__init__(line if len(line) <= _MOST else f"{line[: _MOST // 2]} … {line[-_MOST // 2 :]}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that somebody may have meant who wrote an unknown one.

    >>> nearest("adan", ["sgd", "adam"]), nearest("newton", ["sgd", "adam"])
    ('adam', None)
    """
    return next(iter(get_close_matches(name, list(known), 1)), None)
