"""A round beside torch's: both come to the same adapter, so that their times can be compared."""

from collections.abc import Sequence

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import profit_jax as pj
from configs.bench import get_config
from launch import _bench_round, _bench_torch, bench
from profit_jax.adapters import lora, soft_prompt
from profit_jax.data.cohort import Batches, Planner
from profit_jax.data.encode import Encoded
from profit_jax.errors import InputError
from profit_jax.typing import Adapter
from tests.backbone.families import tiny

SGD = {"name": "sgd", "learning_rate": 0.01}
# With a large eps, because Adam makes a whole step of the rounding of a gradient near zero.
ADAM = {"name": "adam", "learning_rate": 0.1, "adam": {"b1": 0.9, "b2": 0.99, "eps": 1.0}}
SMALL = {
    "shape": {
        "width": 32,
        "layers": 2,
        "heads": 4,
        "key_value_heads": 2,
        "head_width": 8,
        "mlp_width": 64,
        "vocabulary": 1024,
        "tied_embeddings": True,
    },
    "client_optimizer": SGD,
    "server_optimizer": {"name": "sgd", "learning_rate": 1.0},
    "clients_per_round": 2,
    "local_steps": 2,
    "batch_size": 2,
    "rounds": 1,
}


def clients() -> list[Batches]:
    """Three clients with two steps of three examples, of all lengths."""
    draw = np.random.default_rng(0)

    def tokens(most: int) -> np.ndarray:
        return draw.integers(3, 61, draw.integers(1, most), dtype=np.int32)

    return [[[Encoded(tokens(20), tokens(6)) for _ in range(3)] for _ in range(2)] for _ in range(3)]


def adapter(name: str) -> Adapter:
    return soft_prompt(tiny(), length=3) if name == "prompt" else lora(tiny(), rank=2, init="gaussian")


def ours(start: Adapter, batches: Sequence[Batches], config: ConfigDict) -> Adapter:
    """Two rounds."""
    planner = Planner(pj.Layout(row_width=8))
    plan = planner(range(len(batches)), batches.__getitem__)
    rounds = _bench_round.Rounds(_bench_round.algorithm(config, tiny()), start, plan.cohort)
    rounds()
    rounds()
    return jax.device_get(rounds.adapter())


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("name", ["prompt", "lora"])
def test_two_rounds_by_torch_end_at_our_adapter(name, optimizer):
    """By hand and by Trainers, from the same start over the same batches."""
    config = ConfigDict({"client_optimizer": optimizer, "server_optimizer": optimizer})
    start, batches = adapter(name), clients()
    make = _bench_torch.optimizer(config.client_optimizer)
    expected = ours(start, batches, config)
    for local_training in (_bench_torch.loop, _bench_torch.trainer):
        model = _bench_torch.peft_model(tiny(), start)
        rounds = _bench_torch.TorchRounds(model, local_training, batches, make, make)
        rounds()
        rounds()
        # Float32 rounding of a sum of some thousand products, a thousandth of what a label more or less would make.
        assert _bench_torch.difference(expected, rounds.adapter(tiny()), start) < 1e-4


def test_another_batch_is_another_adapter():
    """What the comparison would show if the sides did not have the same labels."""
    config = ConfigDict({"client_optimizer": SGD, "server_optimizer": SGD})
    start, batches = adapter("prompt"), clients()
    changed = [[*client] for client in batches]
    query, target = changed[0][0][0]
    changed[0][0] = [Encoded(query, np.append(target[:-1], 60)), *changed[0][0][1:]]
    expected, other = (ours(start, each, config) for each in (batches, changed))
    assert _bench_torch.difference(expected, other, start) > 1e-2


def test_a_batch_is_padded_to_its_longest_and_asked_for_its_targets():
    batch = [Encoded(np.array([1, 5, 6]), np.array([7, 2])), Encoded(np.array([1]), np.array([8]))]
    padded = _bench_torch.padded(batch)
    assert padded["input_ids"].tolist() == [[1, 5, 6, 7, 2], [1, 8, 0, 0, 0]]
    assert padded["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
    assert padded["labels"].tolist() == [[-100, -100, -100, 7, 2], [-100, 8, -100, -100, -100]]
    assert _bench_torch.padded_positions([[batch]], prompt_rows=3) == 2 * (3 + 5)


def test_only_the_adapter_takes_gradients():
    for name, parameters in (("prompt", 3 * 32), ("lora", 3 * sum(2 * (32 + 8 * heads) for heads in (4, 2, 2)))):
        model = _bench_torch.peft_model(tiny(), adapter(name))
        assert sum(each.numel() for each in model.parameters() if each.requires_grad) == parameters


def test_the_table_has_a_line_for_each_row_that_matches(monkeypatch, capsys):
    rows = {name: ("torch", SMALL | {"adapter": name, "data_dir": "", "clients": 4}) for name in ("prompt", "lora")}
    monkeypatch.setattr(bench, "suite", lambda trained, platform: rows)
    monkeypatch.setattr(_bench_torch, "matrix_rate", lambda dtype: 1e12)
    monkeypatch.setattr(_bench_torch, "torch_matrix_rate", lambda dtype: 3e11)
    given = get_config()
    with pytest.raises(InputError, match=r"--suite reads real texts: give --config.tokenizer"):
        bench.table(given, "*")
    given.update({"tokenizer": "tiny", "data_dir": "data", "data": "tiny"})
    with pytest.raises(InputError, match=r"--rows=x: no row matches; known: prompt, lora"):
        bench.table(given, "x")
    bench.table(given, "l*")
    _, line = capsys.readouterr().out.splitlines()
    assert line.startswith("lora  loop ") and ", trainer " in line and line.endswith("products are 0.30 times as fast")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quantize": "int8"}, "compares weights as they are"),
        ({"dtype": "bfloat16"}, "on a CPU in float32, not bfloat16"),
        ({"rounds": 0}, "rounds is 0, give at least 1"),
        ({"client_optimizer": {"name": "yogi"}}, "compares the optimizers sgd and adam, not 'yogi'"),
    ],
)
def test_what_torch_has_no_counterpart_of_is_refused(fields, message):
    given = get_config()
    given.update(SMALL)
    given.update(fields)
    with pytest.raises(InputError, match=message):
        bench.measured(given, "torch")
