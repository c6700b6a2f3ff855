"""The names in a config's argument, `--config=FILE:name,name`: what each of them sets."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from profit_jax.errors import InputError, nearest

# Names -> fields, dotted where they are nested. What stands at several names, "mhf,fed_sgd", holds where all of them
# are given.
Settings = Mapping[str, Mapping[str, Any]]


def apply(config: ConfigDict, names: str, *settings: Settings, one_of: Sequence[Sequence[str]] = ()) -> ConfigDict:
    """Sets what the names say, in the order of `settings`: what comes later wins.

    Args:
      config: changed in place.
      names: separated by commas, in any order.
      settings: what they set.
      one_of: groups of names that exclude each other; where none of a group is given, its first one holds.

    Raises:
      InputError: a name that no setting knows, or two of a group.
    """
    given = set(filter(None, names.split(",")))
    known = dict.fromkeys(name for each in settings for key in each for name in key.split(","))
    for name in sorted(given - set(known)):
        meant = f"did you mean {near!r}? " if (near := nearest(name, known)) else ""
        raise InputError(f"unknown setting {name!r}; {meant}known: {', '.join(known)}")
    for group in one_of:
        chosen = [name for name in group if name in given]
        if len(chosen) > 1:
            raise InputError(f"{chosen[0]!r} and {chosen[1]!r} exclude each other")
        given |= set(chosen or group[:1])
    for each in settings:
        for key, fields in each.items():
            if given.issuperset(key.split(",")):
                config.update_from_flattened_dict(fields)
    return config
