"""Adapters out of a run: into PEFT folders, merged models and answers."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import optax
import pytest

import perfit_jax as pf
import profit_jax as pj
from launch._adapters import named
from profit_jax.adapters import load_peft, merge, soft_prompt
from profit_jax.backbone import Backbone
from profit_jax.backbone.pretrain import bpe
from profit_jax.backbone.save import save
from profit_jax.errors import InputError
from profit_jax.experiment import Checkpoints
from profit_jax.federated import Algorithm
from profit_jax.federated.local import Personal
from profit_jax.typing import Adapter
from tests.worlds import CONFIG

ROOT = Path(__file__).parents[1]
LORA = {"rank": 2, "targets": ("q", "v"), "init": "gaussian"}
NUMBERS = [4, 7, 9]  # of the clients that have been personalized


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The folder of a random model."""
    folder, tokenizer = tmp_path_factory.mktemp("model"), bpe(["red and blue and green"] * 9, 280)
    config = dataclasses.replace(CONFIG, vocabulary=tokenizer.size, end_tokens=(tokenizer.end,))
    return save(folder, config, jax.device_get(Backbone.random(config).frozen), tokenizer)


def left(workdir: Path, config: dict, algorithm: Algorithm, adapter: Adapter) -> Path:
    """A workdir as a run leaves it, at the state that the algorithm starts from."""
    run = pj.Workdir(workdir, config)
    state = algorithm.start(adapter)
    with Checkpoints(run) as saved:
        saved.save(1, {"state": state, "best": state.adapter, "best_score": np.zeros((), np.float32)})
    return workdir


@pytest.fixture(scope="module")
def runs(model, tmp_path_factory) -> Path:
    """A run of each kind."""
    out, backbone, adam = tmp_path_factory.mktemp("runs"), Backbone.load(model), optax.adam(0.1)
    common = {"model": str(model), "dtype": "float32"}
    prompt, lora = soft_prompt(backbone, length=3), pj.lora(backbone, **LORA)
    averaged = pj.fed_avg(backbone.loss, client_optimizer=adam, server_optimizer=adam)
    left(out / "train", {"stage": "train", "validate_every": 2, **common}, averaged, prompt)

    personal = pj.local(backbone.loss, optimizer=adam, clients=len(NUMBERS))
    different = dataclasses.replace(personal, init=lambda adapter: _each_its_own(personal.init(adapter)))
    left(out / "personalize", {"stage": "personalize", **common}, different, prompt)
    rows = [{"client": number, "epoch": 0} for number in NUMBERS]
    pj.Workdir(out / "personalize", {"stage": "personalize", **common}).append("clients", *rows)

    perfit = {"stage": "perfit", "clients": 3, "rank": 1, "targets": LORA["targets"], "sparsity": (0.0, 0.5), **common}
    left(out / "fit", {**perfit, "method": "fit"}, averaged, lora)
    masks = pf.Masks.of_ranks(lora, [2, 1, 1])
    left(out / "perfit", {**perfit, "method": "perfit"}, pf.perfit(backbone.loss, masks, client_optimizer=adam), lora)
    masks.save(out / "perfit" / "masks.npz")
    return out


def _each_its_own(state: Personal) -> Personal:
    own = jax.tree.map(lambda leaf: leaf * np.arange(1.0, len(leaf) + 1)[:, None, None], state.adapter)
    return state._replace(adapter=own)


def launch(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    command = [sys.executable, f"launch/{name}.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)


def test_a_clients_adapter_is_its_own(model, runs):
    backbone = Backbone.load(model)
    for place, number in enumerate(NUMBERS, 1):
        found = named(str(runs / "personalize"), backbone, number).adapter["prompt"]
        np.testing.assert_allclose(found, place * soft_prompt(backbone, length=3)["prompt"], rtol=1e-6)
    lora = pj.lora(backbone, **LORA)
    chex.assert_trees_all_equal(named(str(runs / "perfit"), backbone, 0).adapter, lora)
    for target, factors in named(str(runs / "perfit"), backbone, 2).adapter["lora"].items():
        np.testing.assert_array_equal(factors["a"], lora["lora"][target]["a"] * np.array([1.0, 0.0])[None, None])
        np.testing.assert_array_equal(factors["b"], lora["lora"][target]["b"] * np.array([1.0, 0.0])[None, :, None])


UNCLEAR = {
    "no client": ("personalize", None, r"holds an adapter for each client \(4, 7, 9\); choose one with --client"),
    "another client": ("perfit", 3, r"holds an adapter for each client \(0 to 2\)"),
    "a client too many": ("train", 4, "holds one adapter for all clients; leave --client out"),
    "no run": ("nowhere", None, "is neither the workdir of a training run nor a PEFT folder"),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_it_must_be_clear_whose_adapter_is_meant(model, runs, case):
    run, client, message = UNCLEAR[case]
    with pytest.raises(InputError, match=message):
        named(str(runs / run), Backbone.load(model), client)


def test_masks_of_another_run_are_noticed(model, runs, tmp_path):
    backbone, run = Backbone.load(model), tmp_path / "run"
    shutil.copytree(runs / "perfit", run)
    pf.Masks.of_ranks(pj.lora(backbone, **LORA), [1, 2, 1]).save(run / "masks.npz")
    with pytest.raises(InputError, match=r"masks\.npz is not of the run"):
        named(str(run), backbone, 0)


def test_an_exported_adapter_is_the_runs_and_answers_as_it_does(model, runs, tmp_path):
    run, folder = str(runs / "perfit"), tmp_path / "lora"
    done = launch("export_adapter", f"--workdir={run}", "--client=1", f"--out={folder}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"client 1's own adapter of {run} (")
    assert f"\nwritten: {folder}: adapter_config.json, adapter_model.safetensors" in done.stdout
    backbone = Backbone.load(model)
    adapter = named(run, backbone, 1).adapter
    chex.assert_trees_all_equal(load_peft(folder, backbone), adapter)
    asked = [
        f"--model={model}",
        "--prompt=red",
        "--prompt=blue and",
        "--max_new_tokens=6",
        "--temperature=2",
        "--seed=5",
    ]
    done = launch("generate", *asked, f"--adapter={folder}")
    assert done.returncode == 0, done.stderr
    answers = backbone.generate(["red\n", "blue and\n"], adapter, 6, temperature=2.0, seed=5)
    assert done.stdout.splitlines() == f"> red\n{answers[0]}\n> blue and\n{answers[1]}\n".splitlines()


def test_a_merged_lora_is_in_the_weights_of_a_model(model, runs, tmp_path):
    done = launch("export_adapter", f"--workdir={runs / 'fit'}", "--merge", f"--out={tmp_path / 'merged'}")
    assert done.returncode == 0, done.stderr
    backbone = Backbone.load(model)
    expected = merge(backbone.frozen, pj.lora(backbone, **LORA))
    chex.assert_trees_all_equal(Backbone.load(tmp_path / "merged").frozen, expected)


def test_a_prompt_that_is_to_be_merged_ends_in_one_line(runs, tmp_path):
    done = launch("export_adapter", f"--workdir={runs / 'train'}", "--merge", f"--out={tmp_path / 'new'}")
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("error: a soft prompt is not a change")
    assert "Traceback" not in done.stderr and not (tmp_path / "new").exists()
