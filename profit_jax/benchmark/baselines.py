"""Stage 2's baselines that do not train: no prompt, and few-shot text prompts (Profit Section 4, Figure 3 center).

The random baselines (Gaussian, random word) and the centralized one are other starts of `personalize`.
"""

from collections.abc import Callable, Mapping

from profit_jax.backbone import Backbone
from profit_jax.benchmark.evaluate import Evaluator
from profit_jax.benchmark.personalize import Curve, Scorer, TestClients
from profit_jax.data.encode import Encoder
from profit_jax.data.examples import Example
from profit_jax.data.tasks import Task


def no_prompt(backbone: Backbone, clients: TestClients, *, encoder: Encoder, new_tokens: int = 10) -> Curve:
    """Scores of the backbone alone: one point."""
    return _frozen_scores(backbone, clients, encoder, new_tokens, lambda example: example.query)


def few_shot(
    backbone: Backbone,
    clients: TestClients,
    tasks: Mapping[str, Task],
    *,
    encoder: Encoder,
    examples: int = 2,
    new_tokens: int = 10,
) -> Curve:
    """Scores with each task's definition and its first positive examples in front of the query: one point.

    The form is that of Wang et al. 2022 (Super-NaturalInstructions), definition + 2 positive examples.
    """
    return _frozen_scores(
        backbone, clients, encoder, new_tokens, lambda example: few_shot_text(example, tasks[example.task], examples)
    )


def few_shot_text(example: Example, task: Task, shots: int) -> str:
    """Definition, positive examples, query. A task with fewer positive examples shows those it has."""
    parts = [f"Definition: {' '.join(task.definition).strip()}"]
    for number, shot in enumerate(task.positive_examples[:shots], 1):
        parts.append(f"Positive Example {number} -\nInput: {shot.input}\nOutput: {shot.output}")
    parts.append(f"Now complete the following example -\nInput: {example.query}\nOutput:")
    return "\n\n".join(parts)


def _frozen_scores(
    backbone: Backbone, clients: TestClients, encoder: Encoder, new_tokens: int, text: Callable[[Example], str]
) -> Curve:
    scorer = Scorer(Evaluator(backbone, encoder, new_tokens=new_tokens), clients, text)
    return Curve(scorer.rows(scorer.shared({})), {})
