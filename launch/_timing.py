"""How long work takes here, and what this machine can do: shared by what launch/bench.py measures."""

import resource
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def matrix_rate(dtype: str) -> float:
    """Floating-point operations a second of a plain square matrix product of random numbers."""
    size = matrix_size()
    x = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    return product_rate(lambda: product(x, x).block_until_ready(), size)


def matrix_size() -> int:
    """Rows of a matrix whose product with another fills the device."""
    return 2048 if jax.default_backend() == "cpu" else 8192


def product_rate(product: Callable[[], object], size: int) -> float:
    """Floating-point operations a second of a product of square matrices, the median of ten after the first."""
    product()
    return 2 * size**3 / statistics.median(seconds(product) for _ in range(10))


def gib(count: int) -> float:
    """Bytes in GiB, to two places."""
    return round(count / 2**30, 2)


def peak_memory() -> int:
    """Bytes in use at the peak: the device's own count, or the process's where there is none (CPU)."""
    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
