"""Times what a config describes and prints one JSON line; or prints a table of how much faster than torch rounds are.

    python -m launch.bench --config=configs/bench.py
    python -m launch.bench --config=configs/bench.py --config.adapter=lora
    python -m launch.bench --config=configs/bench.py --config.model=MODEL --config.data_dir=DATA \
        --config.partition=hhf --config.clients_per_round=32 --config.local_steps=16 --config.batch_size=32 \
        --config.rounds=0 --config.planned=4 --mesh=clients:4    # layout only, of devices that need not be there
    python -m launch.bench --config=configs/bench.py:llama2_7b --config.measure=aggregation
    python -m launch.bench --config=configs/bench.py --against=torch     # the same round by torch and PEFT
    python -m launch.bench --config=configs/bench.py --suite --config.tokenizer=MODEL --config.data_dir=DATA \
        --config.data=dolly:FILE --rows='round/24m/*'                    # without --rows all; on a GPU other rows

The line's numbers are told where they are measured: of a round (launch/_bench_round.py), of one beside torch's
(launch/_bench_torch.py), of an evaluation, a search and an aggregation (launch/_bench_*.py). The table's rows are
those of configs/bench.py; its columns are `times_faster` and `bound` of a row's line. Every line closes with
peak_memory_gib: the device's peak, or where it tells none the process's.
"""

import json
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from configs.bench import suite
from launch import _bench_aggregation, _bench_evaluation, _bench_round, _bench_search
from launch._main import define_config, define_mesh, run
from launch._timing import gib, peak_memory, seconds
from profit_jax.errors import InputError

CONFIG = define_config()
MESH = define_mesh()
AGAINST = flags.DEFINE_enum("against", "", ["", "torch"], "What the same work is timed beside.")
SUITE = flags.DEFINE_bool("suite", False, "Print the table of all rows of configs/bench.py instead of one line.")
ROWS = flags.DEFINE_string("rows", "*", "With --suite: only the rows whose names match, as in 'round/24m/*'.")


def main(argv: Sequence[str]) -> None:
    """Measures one config, or one after another."""
    del argv
    jax.config.update("jax_enable_compilation_cache", False)  # how long compiling takes is measured
    if SUITE.value:
        table(CONFIG.value, ROWS.value)
    else:
        print(json.dumps(measured(CONFIG.value, AGAINST.value)))


def measured(config: ConfigDict, against: str) -> dict[str, Any]:
    """The line of a config: what is measured is a module with one `measure(config)`."""
    measures: dict[tuple[str, str], Callable[[ConfigDict], dict[str, Any]]] = {
        ("round", ""): lambda config: _bench_round.measure(config, MESH.value),
        ("round", "torch"): beside_torch,
        ("evaluation", ""): lambda config: _bench_evaluation.measure(config, seconds),
        ("search", ""): lambda config: _bench_search.measure(config, seconds),
        ("aggregation", ""): lambda config: _bench_aggregation.measure(config, seconds),
    }
    if (config.measure, against) not in measures:
        known = ", ".join(sorted({measure for measure, beside in measures if beside == against}))
        raise InputError(f"unknown measure {config.measure!r}{f' against {against}' * bool(against)}; known: {known}")
    line = measures[config.measure, against](config)
    return {"device": jax.devices()[0].device_kind, **line, "peak_memory_gib": gib(peak_memory())}


def beside_torch(config: ConfigDict) -> dict[str, Any]:
    """A round beside torch's, where torch is installed: the library does without."""
    try:
        from launch import _bench_torch
    except ImportError as error:
        raise InputError(f"--against=torch needs the extra dev: pip install 'profit-jax[dev]' ({error})") from None
    return _bench_torch.measure(config)


def table(config: ConfigDict, pattern: str) -> None:
    """Measures the rows whose names match, each printed when it is done; nothing stays in memory between them.

    Raises:
      InputError: no row matches, or what rows read is not given.
    """
    known = suite(config.tokenizer, jax.default_backend())
    rows = {name: row for name, row in known.items() if fnmatchcase(name, pattern)}
    if not rows:
        raise InputError(f"--rows={pattern}: no row matches; known: {', '.join(known)}")
    for field in ("tokenizer", "data_dir", "data"):
        if not config[field]:
            raise InputError(f"--suite reads real texts: give --config.{field}")
    width = max(map(len, rows))
    print(f"{'':{width}}  times faster")
    for name, (against, fields) in rows.items():
        line = measured(ConfigDict({**config.to_dict(), **fields}), against)
        faster = ", ".join(f"{side} {times:.2f}" for side, times in line["times_faster"].items())
        print(f"{name:{width}}  {faster}; {line['bound']}", flush=True)
        jax.clear_caches()


if __name__ == "__main__":
    run(main)
