"""Chips, and slices of them that programs are compiled for without having one.

    devices = Topology.parse("v5e:4x8").devices()  # 32 devices that compile and cannot run

TPUs need the package libtpu (extra `plan`), which compiles on any CPU machine. `cpu:8` stands for eight fake devices of
the CPU, on which a program's memory and collectives can be looked at, but no time be told.
"""

import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from profit_jax.errors import InputError

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Peak rates of one chip, which JAX sees as one device."""

    memory: int  # bytes of HBM that programs have
    flops: float  # floating-point operations a second, bfloat16
    bandwidth: float  # bytes a second, of HBM
    link: float  # bytes a second to one neighbour, one way


# Rates: J. Austin et al., How to Scale Your Model (2025), "TPU specs", jax-ml.github.io/scaling-book/tpus, which agree
# with Cloud TPU's documentation. Memory: where libtpu 0.0.52 stops compiling, which is below the 32, 16, 95 and 32 GB
# published, since the runtime keeps some.
CHIPS = {
    "v4": Chip(memory=int(30.75 * GIB), flops=2.75e14, bandwidth=1.2e12, link=4.5e10),
    "v5e": Chip(memory=int(15.75 * GIB), flops=1.97e14, bandwidth=8.2e11, link=4.5e10),
    "v5p": Chip(memory=int(95.73 * GIB), flops=4.59e14, bandwidth=2.8e12, link=9.0e10),
    "v6e": Chip(memory=int(31.24 * GIB), flops=9.20e14, bandwidth=1.6e12, link=9.0e10),
}

# Without these libtpu asks the network which TPU it runs on, and lets one process of a machine load it. The compiler
# reads none of them.
_NO_TPU_HERE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice: a kind of chip, and how many along each dimension of its torus."""

    kind: str  # a key of CHIPS, or cpu
    shape: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> "Topology":
        """Reads `v5e:4x8` or `cpu:8`.

        >>> Topology.parse("v5p:4x4x4").size
        64

        Raises:
          InputError: another form, or an unknown chip.
        """
        form = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", text)
        if not form or "0" in form[2].split("x"):
            raise InputError(f"topology {text!r}: give CHIP:SHAPE, such as v5e:4x8, v5p:4x4x4 or cpu:8")
        if form[1] not in (*CHIPS, "cpu"):
            raise InputError(f"topology {text!r}: unknown chip {form[1]!r}; known: {', '.join(CHIPS)}, cpu")
        return cls(form[1], tuple(map(int, form[2].split("x"))))

    def __str__(self) -> str:
        return f"{self.kind}:{'x'.join(map(str, self.shape))}"

    @property
    def size(self) -> int:
        """How many devices it has."""
        return math.prod(self.shape)

    @property
    def chip(self) -> Chip | None:
        """Its chip's rates; None of fake devices."""
        return CHIPS.get(self.kind)

    def devices(self) -> Sequence[jax.Device]:
        """Devices to make a mesh of, in the order of their places.

        Raises:
          InputError: no such slice, libtpu is not installed, or this process has fewer CPU devices.
        """
        if self.chip is None:
            found = jax.devices("cpu")
            if len(found) < self.size:
                raise InputError(f"topology {self}: this process has {len(found)} CPU devices; ask JAX for more first")
            return found[: self.size]
        if importlib.util.find_spec("libtpu") is None:
            raise InputError(f"topology {self} needs libtpu, which compiles for TPUs: pip install 'profit-jax[plan]'")
        for name, value in _NO_TPU_HERE.items():
            os.environ.setdefault(name, value)
        # Both cores of a v4 chip are one device, as on a TPU machine.
        cores = {"chip_config_name": "megacore"} if self.kind == "v4" else {}
        try:
            return topologies.get_topology_desc(str(self), "tpu", **cores).devices
        except jax.errors.JaxRuntimeError as error:
            raise InputError(f"topology {self}: {str(error).splitlines()[0]}") from None
