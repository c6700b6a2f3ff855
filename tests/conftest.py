"""The environment of every test: eight fake CPU devices, no network, one torch thread, no silent rank promotion."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before jax, torch or transformers are imported by anything.
os.environ["JAX_PLATFORMS"] = "cpu"
# Tests compile hundreds of tiny programs and run each a few times: LLVM's optimizations cost more than they give.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
    ]
)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # torch's threads
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import hypothesis
import jax
import pytest

# A case that takes long says that other processes run here, not that the law does not hold.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

# Launchers in processes of their own find each other's programs; this process has read its settings already.
_programs = tempfile.TemporaryDirectory(prefix="programs")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests marked `real_data` where there is none."""
    if "PROFIT_REAL_DATA" not in os.environ:
        for item in items:
            if item.get_closest_marker("real_data"):
                item.add_marker(pytest.mark.skip(reason="PROFIT_REAL_DATA is not set"))


@pytest.fixture(autouse=True)
def strict_rank_promotion() -> Iterator[None]:
    """Adding `[B, T]` to `[T]` is an error: every broadcast in the library is written out."""
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real data (`data/`) and really trained models (`models/`)."""
    if "PROFIT_REAL_DATA" not in os.environ:
        pytest.skip("PROFIT_REAL_DATA is not set")
    return Path(os.environ["PROFIT_REAL_DATA"])


@pytest.fixture(scope="session")
def stories(real_data: Path) -> Path:
    """The Hugging Face folder of a trained Llama with 260,032 parameters."""
    return real_data / "models" / "stories260K"
