"""Answers prompts with a model and, if one is given, an adapter.

    python -m launch.generate --model=tiny --adapter=runs/fedavg_adam --prompt="a query" --prompt="another"
    python -m launch.generate --model=MODEL --adapter=runs/perfit-r16 --client=3 --form=instruction \
        --prompt="Name a prime."

An adapter works for what stands in front of it in training: a query and a line break (profit_train,
profit_personalize), or an instruction in Alpaca's template (perfit_train). --form=text takes the prompt as it stands.
"""

from collections.abc import Sequence

from absl import flags

import profit_jax as pj
from launch import _adapters
from launch._main import run
from profit_jax.data import instructions
from profit_jax.errors import InputError

FORMS = {
    "query": lambda prompt: f"{prompt}\n",
    "instruction": lambda prompt: f"{instructions.render(prompt)}\n",
    "text": lambda prompt: prompt,
}

MODEL = flags.DEFINE_string("model", None, "A Hugging Face folder, or tiny.", required=True)
ADAPTER = flags.DEFINE_string("adapter", None, "The workdir of a training run, or a Hugging Face PEFT folder.")
CLIENT = flags.DEFINE_integer("client", None, "Whose adapter, where each client has its own.")
PROMPT = flags.DEFINE_multi_string("prompt", None, "What to answer.", required=True)
FORM = flags.DEFINE_enum("form", "query", FORMS, "What a prompt is.")
MAX_NEW_TOKENS = flags.DEFINE_integer("max_new_tokens", 64, "At most so many tokens of an answer.", lower_bound=1)
TEMPERATURE = flags.DEFINE_float("temperature", 0.0, "Of the draw of a token; 0 takes the likeliest.", lower_bound=0)
TOP_P = flags.DEFINE_float("top_p", 1.0, "Draw of the likeliest tokens that have this probability together.")
SEED = flags.DEFINE_integer("seed", 0, "Of the draws.", lower_bound=0)
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the model's weights.")


def main(argv: Sequence[str]) -> None:
    """Prints each prompt and its answer."""
    del argv
    if CLIENT.value is not None and not ADAPTER.value:
        raise InputError("--client is for an --adapter, and there is none")
    model = pj.Backbone.load(MODEL.value, dtype=DTYPE.value)
    adapter = _adapters.named(ADAPTER.value, model, CLIENT.value).adapter if ADAPTER.value else None
    answers = model.generate(
        [FORMS[FORM.value](prompt) for prompt in PROMPT.value],
        adapter,
        MAX_NEW_TOKENS.value,
        temperature=TEMPERATURE.value,
        top_p=TOP_P.value,
        seed=SEED.value,
    )
    for prompt, answer in zip(PROMPT.value, answers):
        print(f"> {prompt}\n{answer}")


if __name__ == "__main__":
    run(main)
