"""What is trained: soft prompts and LoRA. An adapter is a nested dict of arrays."""

from profit_jax.adapters.lora import lora, merge
from profit_jax.adapters.peft import check_fits, load_peft, save_peft
from profit_jax.adapters.prompt import soft_prompt

__all__ = ["check_fits", "load_peft", "lora", "merge", "save_peft", "soft_prompt"]
