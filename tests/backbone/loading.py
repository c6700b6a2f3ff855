"""What the host holds while a backbone loads: large folders of random weights, and a process that measures itself."""

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save_file

from profit_jax.backbone import Backbone, BackboneConfig
from profit_jax.backbone.families import fields_of
from profit_jax.backbone.weights import source
from tests.backbone.families import TINY

MIB = 2**20


def sized(width: int, layers: int, vocabulary: int) -> BackboneConfig:
    """A Llama with as many heads and as wide an MLP as is usual at its width."""
    wide = {"width": width, "heads": width // 64, "key_value_heads": width // 64, "head_width": 64}
    return dataclasses.replace(TINY, **wide, layers=layers, mlp_width=width * 8 // 3, vocabulary=vocabulary)


def write(folder: Path, config: BackboneConfig, dtype: str, files: int) -> int:
    """Random weights in so many files with an index; returns the bytes of the largest tensor."""
    shapes = {}
    for path, leaf in jax.tree.leaves_with_path(Backbone.abstract(config).frozen):
        at = source(jax.tree_util.keystr(path, simple=True, separator="/"), config)
        shapes |= dict.fromkeys(at.names, at.shape(leaf))
    names, draw = list(shapes), np.random.default_rng(0)
    shards = {f"model-{i:05}-of-{files:05}.safetensors": names[i::files] for i in range(files)}
    for file, own in shards.items():
        tensors = {name: (0.02 * draw.standard_normal(shapes[name], np.float32)).astype(dtype) for name in own}
        save_file(tensors, folder / file)
    index = {"weight_map": {name: file for file, own in shards.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(fields_of(config)))
    return max(4 * int(np.prod(shape)) for shape in shapes.values())


def held(folder: Path, **settings: str) -> dict[str, int]:
    """Loads the folder in a process of its own: bytes of the weights, and of the host's peak beyond these."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.backbone.loading", folder, json.dumps(settings)],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(child.stdout)


def _resident(field: str) -> int:
    """Bytes of this process in memory: now (`VmRSS`) or at the most since it began (`VmHWM`)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


def _measure(folder: str, settings: str) -> None:
    with tempfile.TemporaryDirectory() as other:  # what is loaded once for all, libraries and the compiler, is there
        write(Path(other), TINY, "float32", files=1)
        Backbone.load(other, **json.loads(settings))
    before = _resident("VmRSS")
    frozen = Backbone.load(folder, **json.loads(settings)).frozen
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(frozen))
    print(json.dumps({"weights": weights, "beyond": _resident("VmHWM") - before - weights}))


if __name__ == "__main__":
    _measure(*sys.argv[1:])
