"""What the benches of an evaluation and a search time is what they say it is."""

import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from configs.bench import get_config
from launch import _bench_evaluation, _bench_search, _parts
from profit_jax.data.examples import Example, MemoryClients
from tests.backbone.families import saved
from tests.backbone.test_tokenizer import written

SMALL = {"width": 32, "layers": 2, "heads": 4, "key_value_heads": 4, "head_width": 8, "mlp_width": 48, "vocabulary": 61}
WORDS = [f"w{i}" for i in range(58)]


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def test_transformers_answers_the_queries_of_the_bench_as_we_do(tmp_path, monkeypatch):
    """Random prompts of two clients on a random model: the same tokens, one by one, in batches padded on the left."""
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, draw.integers(1, 30))) for _ in range(40)]
    data = MemoryClients([[Example(str(i), text, (text[:5],), "task", "type") for i, text in enumerate(texts)]])
    monkeypatch.setattr(_parts, "data", lambda config: SimpleNamespace(test=data))
    config = get_config()
    with config.unlocked():
        config.update(
            model=str(written(saved(tmp_path), WORDS)), questions=36, new_tokens=5, clients_per_round=2, rounds=1
        )
    line = _bench_evaluation.measure(config, seconds)
    assert line["answers"] == 72 and line["same_answers"] == 1
    assert all(line[name] > 0 for name in ("seconds", "prefill_seconds", "rouge_seconds", "transformers_seconds"))


def test_the_choice_that_the_bench_times_is_that_of_a_client_of_the_shape():
    config = get_config()
    config.update(shape=SMALL, rounds=1)
    line = _bench_search.measure(config, seconds)
    assert line["coordinates"] == 16 * 2 * 3 * (32 + 32) and line["kept"] == line["coordinates"] // 2
    assert line["seconds"] > 0 and line["sort_seconds"] > 0
