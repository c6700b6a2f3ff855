"""What is trained: soft prompts and LoRA. An adapter is a nested dict of arrays."""

from profit_jax.adapters.lora import lora
from profit_jax.adapters.prompt import soft_prompt

__all__ = ["lora", "soft_prompt"]
