"""The tokenizer of a Hugging Face folder, narrowed to what training and generation need."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from profit_jax.backbone.config import BackboneConfig
from profit_jax.errors import InputError

_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt", "spiece.model")


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
    """Text to token ids and back."""

    inner: Any  # a transformers tokenizer
    start: tuple[int, ...]  # what stands before every text, such as <s>
    end: int  # what closes a target, such as </s>
    size: int  # ids are below this

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, int32, without special tokens.

        Data is data: a text that spells `</s>` is tokenized as these four characters, not as the special token.
        """
        if not len(texts):
            return []
        ids = self.inner(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        return [np.asarray(row, np.int32) for row in ids]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of token ids; special tokens have no text."""
        ids = np.asarray(ids, np.int64).tolist()
        return self.inner.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def load_tokenizer(folder: Path, config: BackboneConfig) -> Tokenizer | None:
    """Reads the folder's tokenizer; None where there are no tokenizer files.

    Raises:
      InputError: files that `transformers` cannot read, more tokens than the embedding table has rows, or no token
        that ends a text.
    """
    folder = Path(folder)
    if not any((folder / name).exists() for name in _FILES):
        return None
    # Otherwise transformers says, where there is no PyTorch, that its models need it; tokenizers do not.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import AutoTokenizer  # here, because it takes seconds and planning needs no tokenizer

    try:
        inner: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        start = _start(inner)
        spelled = _spelled(inner)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # on broken files the Rust tokenizers raise bare Exceptions, or panic
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: the tokenizer is not readable ({type(error).__name__}: {reason})") from None
    ends = ([] if inner.eos_token_id is None else [inner.eos_token_id]) + list(config.end_tokens)
    if not ends:
        raise InputError(f"{folder}: neither the tokenizer nor config.json names an end-of-text token (eos_token)")
    size = max({*spelled, *start, ends[0]}) + 1
    if size > config.vocabulary:
        raise InputError(
            f"{folder}: the tokenizer has {size} tokens, but the model's embedding table has {config.vocabulary} rows"
        )
    return Tokenizer(inner, start, ends[0], size)


def _spelled(inner: Any) -> set[int]:
    """The tokens that text can become: all but the special ones, of which some folders list a larger model's."""
    special = {token for token, added in inner.added_tokens_decoder.items() if added.special}
    return {*inner.get_vocab().values()} - special


def _start(inner: Any) -> tuple[int, ...]:
    """The special tokens that the tokenizer puts before a text, found by looking."""
    plain = inner("a", add_special_tokens=False)["input_ids"]
    full = inner("a")["input_ids"]
    for at in range(len(full) - len(plain) + 1):
        if full[at : at + len(plain)] == plain:
            return tuple(full[:at])
    return ()
