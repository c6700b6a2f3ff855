"""What numbers depend on besides config and data: versions, and the machine."""

import importlib.metadata
import os
import platform

import jax

PACKAGES = ("profit-jax", "jax", "jaxlib", "flax", "optax", "numpy")


def environment() -> dict[str, str | int]:
    """Versions and machine of this process, by name."""
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "device": devices[0].device_kind,
        "devices": len(devices),
        "CPU cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "not installed"
