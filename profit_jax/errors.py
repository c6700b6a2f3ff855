"""The errors a person is meant to read.

Everything this library raises on bad input is an `InputError`: one line that names the file, field or client
and says what to do. Launchers print that line and exit with status 2; library users catch it as a `ValueError`.
"""


class InputError(ValueError):
    """Bad input, explained in one line."""
