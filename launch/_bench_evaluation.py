"""One evaluation of personal soft prompts, part by part, beside `transformers.generate` on the same queries.

`clients_per_round` clients, each with a random prompt of its own, answer `questions` queries each of the prepared
partition's test clients. `transformers` answers client by client, 32 queries at a time, padded on the left, greedily
and with its cache, the prompt before the queries as `inputs_embeds`. Each part is the median over `rounds`, each round
with new prompts, so that no answer is known from the round before.

    seconds                   an evaluation: answers, texts and scores
    prefill_seconds           answers of one token: reading the queries
    decode_seconds            what answers of `new_tokens` take beyond that
    text_seconds              token ids to texts
    rouge_seconds             scores of texts, none of which was scored before; in an evaluation the device works beside
    share_of_rouge            rouge_seconds / seconds
    answers                   queries answered
    positions                 of their prompts and tokens
    transformers_seconds      the same answers by `transformers`
    times_faster              transformers_seconds / (prefill_seconds + decode_seconds)
    bound                     the parts' shares of an evaluation
    same_answers              the share of answers that are the same, token by token
"""

import functools
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import profit_jax as pj
from launch import _parts
from profit_jax import rng
from profit_jax.backbone.generate import generate_tokens
from profit_jax.backbone.model import folder_of
from profit_jax.benchmark.evaluate import Evaluator, sample_questions
from profit_jax.errors import InputError
from profit_jax.metrics import rouge_l
from profit_jax.typing import Adapter

BATCH = 32  # queries that `transformers` answers at once

Parts = dict[str, float]


def measure(config: ConfigDict, seconds: Callable[[Callable[[], object]], float]) -> dict[str, Any]:
    """Times `rounds` evaluations."""
    model = _parts.backbone(config)
    encoder, clients = _parts.encoder(config, model), config.clients_per_round
    evaluator = Evaluator(model, encoder, new_tokens=config.new_tokens)
    draw = rng.generator(config.seed, "questions")
    own = [
        sample_questions(evaluator, _parts.data(config).test, count=config.questions, generator=draw)
        for _ in range(clients)
    ]
    queries = [query for asked in own for query in asked.queries]
    references = [accepted for asked in own for accepted in asked.references]
    whose = [client for client in range(clients) for _ in range(config.questions)]
    answer = functools.partial(generate_tokens, model.graph, model.frozen, end_tokens=model.end_tokens)
    reference = transformers_model(config.model)
    prompts = prompts_of(config, model)

    def one_round(number: int) -> tuple[Parts, float]:
        first, second = prompts(2 * number), prompts(2 * number + 1)
        results: dict[str, list] = {}

        def keep(name: str, work: Callable[[], list]) -> Callable[[], None]:
            return lambda: results.update({name: work()})

        parts = {
            "prefill": seconds(lambda: answer(first, queries, whose, new_tokens=1)),
            "answers": seconds(keep("ids", lambda: answer(first, queries, whose, new_tokens=config.new_tokens))),
            "text": seconds(keep("texts", lambda: [model.required_tokenizer.decode(ids) for ids in results["ids"]])),
            "rouge": seconds(lambda: [*map(rouge_l, results["texts"], references)]),
            "evaluation": seconds(lambda: evaluator.scores(second, own)),
            "transformers": seconds(
                keep("theirs", lambda: by_transformers(reference, first, queries, whose, config.new_tokens, model))
            ),
        }
        same = [ids.tolist() == theirs for ids, theirs in zip(results["ids"], results["theirs"])]
        return parts, float(np.mean(same))

    one_round(0)  # compiles
    rounds, same = zip(*(one_round(number) for number in range(1, config.rounds + 1)))

    def median(value: Callable[[Parts], float]) -> float:
        return round(statistics.median(value(parts) for parts in rounds), 4)

    return {
        "clients": clients,
        "answers": len(queries),
        "positions": sum(config.prompt_length + len(query) for query in queries),
        "seconds": median(lambda parts: parts["evaluation"]),
        "prefill_seconds": median(lambda parts: parts["prefill"]),
        "decode_seconds": median(lambda parts: parts["answers"] - parts["prefill"]),
        "text_seconds": median(lambda parts: parts["text"]),
        "rouge_seconds": median(lambda parts: parts["rouge"]),
        "share_of_rouge": median(lambda parts: parts["rouge"] / parts["evaluation"]),
        "transformers_seconds": median(lambda parts: parts["transformers"]),
        "times_faster": {"generate": median(lambda parts: parts["transformers"] / parts["answers"])},
        "bound": ", ".join(
            f"{median(share):.0%} in {name}"
            for name, share in {
                "prefill": lambda parts: parts["prefill"] / parts["evaluation"],
                "decoding": lambda parts: (parts["answers"] - parts["prefill"]) / parts["evaluation"],
                "ROUGE": lambda parts: parts["rouge"] / parts["evaluation"],
            }.items()
        ),
        "same_answers": round(min(same), 4),
    }


def prompts_of(config: ConfigDict, model: pj.Backbone) -> Callable[[int], Adapter]:
    """Number of a draw -> a random prompt for each client, `[C, K, D]`."""

    def prompts(number: int) -> Adapter:
        seeds = range(number * config.clients_per_round, (number + 1) * config.clients_per_round)
        each = [pj.soft_prompt(model, length=config.prompt_length, seed=seed) for seed in seeds]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)

    return prompts


def transformers_model(folder: str) -> Any:
    """The same model as `transformers` has it."""
    try:
        from transformers import AutoModelForCausalLM  # here, because torch is no requirement of the library
    except ImportError:
        raise InputError(
            "measure = evaluation compares with transformers, which needs torch: pip install torch"
        ) from None
    return AutoModelForCausalLM.from_pretrained(folder_of(folder)).eval()


def by_transformers(
    reference: Any,
    prompts: Adapter,
    queries: list[np.ndarray],
    clients: list[int],
    new_tokens: int,
    model: pj.Backbone,
) -> list[list[int]]:
    """Answers of `transformers.generate`, client by client and in the order of the queries."""
    import torch

    answers: list[list[int]] = [[]] * len(queries)
    embed = reference.get_input_embeddings()
    for client in range(max(clients) + 1):
        prompt = torch.tensor(np.asarray(prompts["prompt"][client]))
        own = [place for place, whose in enumerate(clients) if whose == client]
        for start in range(0, len(own), BATCH):
            places = own[start : start + BATCH]
            longest = max(len(queries[place]) for place in places)
            with torch.inference_mode():
                read = [torch.cat([prompt, embed(torch.tensor(queries[place]))]) for place in places]
                length = len(prompt) + longest
                x = torch.stack([torch.nn.functional.pad(rows, (0, 0, length - len(rows), 0)) for rows in read])
                inside = torch.tensor([[0] * (length - len(rows)) + [1] * len(rows) for rows in read])
                written = reference.generate(
                    inputs_embeds=x,
                    attention_mask=inside,
                    max_new_tokens=new_tokens,
                    do_sample=False,
                    eos_token_id=list(model.end_tokens),
                    pad_token_id=model.end_tokens[0],
                )
            for place, ids in zip(places, written.tolist()):
                ends = [at for at, token in enumerate(ids) if token in model.end_tokens]
                answers[place] = ids[: ends[0]] if ends else ids
    return answers
