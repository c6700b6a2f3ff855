"""The launchers from end to end, as a person runs them, on a generated corpus and a random backbone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from launch._adapters import named
from perfit_jax import Space
from profit_jax.adapters import save_peft
from profit_jax.backbone import Backbone
from profit_jax.data import tiny
from tests.worlds import random_model

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {
    "XLA_FLAGS": "--xla_backend_optimization_level=0"
}


def launch(name: str, *arguments: str, optimized: bool = False, devices: int = 1) -> subprocess.CompletedProcess:
    """Runs a launcher; `optimized` compiles longer, which pays where there is much to compute."""
    command = [sys.executable, f"launch/{name}.py", *arguments]
    fake = f"--xla_force_host_platform_device_count={devices}"
    environment = ENVIRONMENT | {"XLA_FLAGS": fake if optimized else f"{ENVIRONMENT['XLA_FLAGS']} {fake}"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A prepared corpus, a random model, and runs of both papers at the smallest scale, drawn."""
    out = tmp_path_factory.mktemp("world")
    tasks = tiny.write(out / "corpus", instances=60)
    random_model(out / "model", tasks)
    tiny.write_instructions(out / "instructions.jsonl", rows=400)
    single = {"config.algorithm": "fed_sgd", "config.local_steps": 1, "config.rounds": 32, "config.validate_every": 16}
    common = arguments(out)
    commands = [("prepare_sni", f"--source_dir={tasks.parent}", f"--data_dir={out / 'data'}", "--chunk_size=60")]
    for name, fields in (("fed_avg", {}), ("fed_sgd", single)):
        workdir = f"--workdir={out / name}-personalized"
        commands += [
            (
                "profit_train",
                *common,
                *(f"--{key}={value}" for key, value in fields.items()),
                f"--workdir={out / name}",
            ),
            ("profit_personalize", *common, f"--config.personalize.start={out / name}", workdir),
        ]
    for method in ("fit", "perfit,r16"):
        model, data = f"--config.model={out / 'model'}", f"--config.data={out / 'instructions.jsonl'}"
        config = f"--config=configs/perfit/debug.py:{method}"
        commands.append(("perfit_train", config, model, data, f"--workdir={out / method.replace(',', '-')}"))
    for folder, runs in {
        "figures": ("fed_avg", "fed_sgd", "data/federated_sni"),
        "figures/personalized": ("fed_avg-personalized", "fed_sgd-personalized"),
        "figures/perfit": ("fit", "perfit-r16"),
    }.items():
        commands.append(("plot", f"--workdir={','.join(str(out / run) for run in runs)}", f"--out={out / folder}"))
    for command in commands:
        done = launch(*command)
        assert done.returncode == 0, done.stderr
    return out


def arguments(world: Path, config: str = "debug") -> list[str]:
    return [
        f"--config=configs/profit/{config}.py",
        f"--config.model={world / 'model'}",
        f"--config.data_dir={world / 'data'}",
    ]


def test_both_stages_run_and_are_drawn(world):
    rounds = lines(world / "fed_avg" / "metrics.jsonl")
    assert [row["round"] for row in rounds] == list(range(1, 9))
    assert rounds[-1]["loss"] < rounds[0]["loss"]
    points = lines(world / "fed_avg-personalized" / "clients.jsonl")
    assert {row["epoch"] for row in points} == set(range(9))
    assert {row["point"] for row in points} == {"epoch", "genie"}
    assert (world / "figures" / "heterogeneity.png").exists()
    assert {"tradeoff.png", "tradeoff.pdf"} <= {path.name for path in (world / "figures/personalized").glob("*")}


def test_heuristics_and_baselines_run(world, tmp_path):
    common = [*arguments(world), "--config.personalize.epochs=1"]
    heuristics = launch(
        "profit_personalize",
        *common,
        f"--config.personalize.start={world / 'fed_avg'}",
        "--config.personalize.l2=0.001",
        "--config.personalize.average=(0.0, 0.5, 1.0)",
        "--config.personalize.freeze_first=8",
        f"--workdir={tmp_path / 'heuristics'}",
    )
    assert heuristics.returncode == 0, heuristics.stderr
    points = lines(tmp_path / "heuristics" / "clients.jsonl")
    assert sorted({row["alpha"] for row in points if row["point"] == "average"}) == [0.0, 0.5, 1.0]
    for start in ("random_word", "no_prompt", "few_shot"):
        done = launch(
            "profit_personalize", *common, f"--config.personalize.start={start}", f"--workdir={tmp_path / start}"
        )
        assert done.returncode == 0, done.stderr
    assert {row["epoch"] for row in lines(tmp_path / "few_shot" / "clients.jsonl")} == {0}


def test_the_same_command_again_does_nothing_twice(world):
    before = (world / "fed_avg" / "metrics.jsonl").read_text()
    done = launch("profit_train", *arguments(world), f"--workdir={world / 'fed_avg'}")
    assert done.returncode == 0, done.stderr
    assert (world / "fed_avg" / "metrics.jsonl").read_text() == before


def test_perfit_trains_within_fits_budget_and_both_are_drawn(world):
    counts = {name: json.loads((world / name / "parameters.json").read_text()) for name in ("fit", "perfit-r16")}
    assert counts["fit"]["trainable"] == counts["perfit-r16"]["trainable"] == [counts["fit"]["grid"]] * 8
    assert (counts["fit"]["rank"], counts["perfit-r16"]["rank"]) == (8, 16)
    for name in counts:
        rows = lines(world / name / "perplexity.jsonl")
        assert [(row["round"], row["client"]) for row in rows] == [(r, c) for r in range(5) for c in range(8)]
        taken = [row for row in lines(world / name / "cohorts.jsonl") if row["round"]]
        assert all(row["bytes_up"] == row["bytes_down"] == [4 * counts["fit"]["grid"]] * 4 for row in taken)
    (sent,) = (row for row in lines(world / "perfit-r16" / "cohorts.jsonl") if not row["round"])
    assert sent["bytes_up"] == [counts["perfit-r16"]["grid"] // 8] * 8, "a bit for each coordinate of the grid"
    figures = {path.name for path in (world / "figures" / "perfit").glob("*.png")}
    assert figures >= {"perplexity.png", "perplexity_clients.png", "mask_similarity.png"}


def perfit(world: Path, names: str, *fields: str) -> subprocess.CompletedProcess:
    data = f"--config.data={world / 'instructions.jsonl'}"
    return launch(
        "perfit_train", f"--config=configs/perfit/debug.py:{names}", f"--config.model={world / 'model'}", data, *fields
    )


@pytest.mark.parametrize("start", ["workdir", "PEFT folder"])
def test_local_tuning_goes_on_from_fit(world, tmp_path, start):
    short, folder = ["--config.rounds=1", "--config.clients_per_round=8"], world / "fit"
    if start == "PEFT folder":
        model = Backbone.load(world / "model")
        folder = save_peft(tmp_path / "lora", named(str(folder), model).adapter, model, base_model="")
    done = perfit(world, "local", f"--config.start={folder}", *short, f"--workdir={tmp_path / 'local'}")
    assert done.returncode == 0, done.stderr

    def last(folder: Path, round: int) -> list[float]:
        return [row["nll"] for row in lines(folder / "perplexity.jsonl") if row["round"] == round]

    assert last(tmp_path / "local", 0) == pytest.approx(last(world / "fit", 4), rel=1e-5)
    assert last(tmp_path / "local", 1) != last(tmp_path / "local", 0)
    assert lines(tmp_path / "local" / "metrics.jsonl")[0]["bytes_up"] == 0


def test_local_tuning_starts_from_nothing_but_a_fit_run(world, tmp_path):
    done = perfit(world, "local", f"--config.start={world / 'perfit-r16'}", f"--workdir={tmp_path / 'local'}")
    assert done.returncode == 2 and "perfit-r16 holds an adapter for each client (0 to 7); choose one" in done.stderr
    done = perfit(world, "local", f"--config.start={world / 'fed_avg'}", f"--workdir={tmp_path / 'local'}")
    assert done.returncode == 2 and "holds no LoRA of rank 8 on these targets; give a FIT run" in done.stderr


def test_what_each_kind_of_run_has_left_is_read(world):
    """A prompt, a test client's own, and a PerFIT client's LoRA, which is zero where its mask is."""
    model = Backbone.load(world / "model")
    prompt = named(str(world / "fed_avg"), model)
    assert prompt.adapter["prompt"].shape == (10, 64) and prompt.words == "the prompt with the best validation score"
    client = lines(world / "fed_avg-personalized" / "clients.jsonl")[0]["client"]
    own = named(str(world / "fed_avg-personalized"), model, client)
    assert own.adapter["prompt"].shape == (10, 64) and own.words == f"client {client}'s own adapter"
    sparse = jax.tree.map(lambda leaf: leaf[None], named(str(world / "perfit-r16"), model, 3).adapter)
    space = Space.of(jax.tree.map(lambda leaf: leaf[0], sparse))
    with np.load(world / "perfit-r16" / "masks.npz") as file:
        mask = np.unpackbits(file["bitmaps"][3], count=space.size).astype(bool)
    flat = np.asarray(space.flatten(sparse))[0]
    assert not flat[~mask].any() and flat[mask].all()


BAD_PERFIT = {
    "vanilla": ("perfit,vanilla", [], "PerFIT cannot search from init vanilla"),
    "rank not whole": ("perfit", ["--config.sparsity=(0.3,)"], "the nearest sparsity that fits is 0.2727"),
    "no such category": ("fit", ["--config.category=topic"], "no column 'topic' for the category"),
    "too few classes": ("fit", ["--config.classes_per_client=9"], "the data have 8 classes"),
    "no test rows": ("fit", ["--config.size=2"], "client 0 has 2 rows: a test fraction of 0.2 leaves no test rows"),
}


@pytest.mark.parametrize("case", BAD_PERFIT)
def test_bad_input_of_perfit_is_one_line_that_names_it(world, tmp_path, case):
    names, fields, said = BAD_PERFIT[case]
    done = perfit(world, names, *fields, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and said in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists(), "a corrected command may use the same workdir"


def test_a_row_without_a_response_is_counted_in_a_warning(world, tmp_path):
    rows = (world / "instructions.jsonl").read_text().splitlines()
    rows[3] = json.dumps(json.loads(rows[3]) | {"response": " "})
    file = tmp_path / "holes.jsonl"
    file.write_text("\n".join(rows))
    done = perfit(world, "fit", "--config.rounds=1", f"--config.data={file}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert f"warning: {file}: 1 rows without an instruction or a response left out, the first is row 3" in done.stderr


BAD = {
    "unknown field": (["--config.rouns=3"], "unknown config field --config.rouns"),
    "unknown algorithm": (["--config.algorithm=fedavg"], "unknown algorithm 'fedavg'"),
    "unknown optimizer": (["--config.client_optimizer.name=adan"], "unknown optimizer 'adan'; did you mean 'adam'?"),
    "no such model": (["--config.model=nowhere"], "nowhere/config.json: no such file"),
    "no such partition": (["--config.partition=xhf"], "xhf"),
    "too many clients": (["--config.clients_per_round=999"], "a round asks for 999 clients"),
    "no such axis": (["--mesh=client:2"], "mesh 'client:2': 'client' is not one of the axes clients, model"),
    "too few devices": (["--mesh=clients:2,model:2"], "asks for 4 devices; there are 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_names_it(world, tmp_path, case):
    wrong, said = BAD[case]
    done = launch("profit_train", *arguments(world), *wrong, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and said in errors[0]
    assert "Traceback" not in done.stderr


def test_a_mesh_is_no_part_of_a_run_and_changes_none_of_its_numbers(world, tmp_path):
    """Both stages on four devices; then a run that has been done, asked for on two."""
    on, short = ["--mesh=clients:2,model:2"], ["--config.rounds=2", "--config.validate_every=2"]
    for name, fields in (
        ("profit_train", short),
        ("profit_personalize", [f"--config.personalize.start={tmp_path / 'profit_train'}"]),
    ):
        done = launch(name, *arguments(world), *fields, *on, f"--workdir={tmp_path / name}", devices=4)
        assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "profit_train" / "config.json").read_text())
    assert not {"mesh", "lanes"} & config.keys()
    losses, expected = (
        [row["loss"] for row in lines(run / "metrics.jsonl")] for run in (tmp_path / "profit_train", world / "fed_avg")
    )
    assert losses == pytest.approx(expected[:2], rel=1e-4)
    before = (world / "fed_avg" / "metrics.jsonl").read_text()
    done = launch("profit_train", *arguments(world), "--mesh=model:2", f"--workdir={world / 'fed_avg'}", devices=2)
    assert done.returncode == 0, done.stderr
    assert (world / "fed_avg" / "metrics.jsonl").read_text() == before


def test_another_config_never_writes_over_a_run(world):
    before = {file: file.read_bytes() for file in (world / "fed_avg").glob("*.json*")}
    done = launch("profit_train", *arguments(world), "--config.seed=1", f"--workdir={world / 'fed_avg'}")
    assert done.returncode == 2 and "holds a run with another seed" in done.stderr
    assert {file: file.read_bytes() for file in (world / "fed_avg").glob("*.json*")} == before


def test_bench_prints_one_line_with_its_numbers():
    small = ["--config.shape.width=32", "--config.shape.head_width=8", "--config.shape.layers=2", "--config.rounds=1"]
    done = launch("bench", "--config=configs/bench.py", *small, "--config.shape.vocabulary=64", "--config.adapter=lora")
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["positions_per_real_position"] == 1.0 and line["programs"] == 1
    # 4 (2 layers of 4 x 32 x 48 + 3 x 32 x 768) positions + 4 x 64 x 32 labels; 8 clients x 4 steps x 8 examples.
    blocks = 2 * (2 * 32 * 8 * (6 + 6) + 3 * 32 * 768)
    useful = 4 * blocks * 8 * 4 * 8 * 128 + 4 * 64 * 32 * 8 * 4 * 8 * 16
    assert line["useful_gflop"] == pytest.approx(useful / 1e9, abs=0.06)
    assert line["share_of_matrix_rate"] > 0 and line["seconds_per_client_step"] > 0


def test_bench_plans_for_devices_that_are_not_there():
    small = ["--config.shape.width=32", "--config.shape.head_width=8", "--config.shape.vocabulary=64"]
    done = launch("bench", "--config=configs/bench.py", "--config.rounds=0", "--mesh=clients:4,model:8", *small)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["lanes"] == 4


def test_bench_measures_the_aggregation_beside_a_copy():
    small = ["--config.shape.width=32", "--config.shape.head_width=8", "--config.shape.layers=2", "--config.rounds=1"]
    sizes = ["--config.clients=6", "--config.clients_per_round=2", "--config.sparsity=(0.0,0.5)"]
    done = launch("bench", "--config=configs/bench.py", "--config.measure=aggregation", *small, *sizes)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    # Q, K and V of 2 layers, 32 -> 6 x 8: rank 16 and its half.
    assert line["coordinates"] == 16 * 2 * 3 * (32 + 48) and line["owned"] == [8 * 480, 16 * 480]
    assert line["aggregation_gb_per_second"] > 0 and line["copy_gb_per_second"] > 0


@pytest.mark.slow
def test_a_hundred_clients_at_the_shapes_of_llama_2_7b_aggregate_within_12_gib():
    """100 masks of 6.3 of 12.6 million coordinates, their packed modules, and the aggregation of ten of them."""
    fields = ["--config.measure=aggregation", "--config.clients_per_round=10"]
    done = launch("bench", "--config=configs/bench.py:llama2_7b", *fields, optimized=True)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["clients"] == 100 and line["owned"] == [32 * 3 * (4096 * 8 + 8 * 4096)]
    assert line["state_gib"] == pytest.approx(100 * 6_291_456 * 8 / 2**30, abs=0.01)
    assert line["peak_memory_gib"] < 12


@pytest.mark.real_data
def test_positions_computed_per_real_position_on_real_lengths(real_data, stories, tmp_path):
    """32 clients x 16 steps x 32 examples, in every partition; on four lanes, which wait for one another, too."""
    source = real_data / "data" / "natural-instructions"
    done = launch("prepare_sni", f"--source_dir={source}", f"--data_dir={tmp_path}", "--chunk_size=150")
    assert done.returncode == 0, done.stderr
    sizes = ["--config.clients_per_round=32", "--config.local_steps=16", "--config.batch_size=32"]
    for partition in ("hhf", "mhf", "lhf"):
        for lanes, most in ((1, 1.1), (4, 1.2)):
            done = launch(
                "bench",
                "--config=configs/bench.py",
                f"--config.model={stories}",
                f"--config.data_dir={tmp_path}",
                f"--config.partition={partition}",
                f"--mesh=clients:{lanes}",
                "--config.rounds=0",
                *sizes,
            )
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["positions_per_real_position"] <= most


@pytest.mark.real_data
def test_perfit_tunes_a_trained_model_on_real_instructions_with_one_program(real_data, stories, tmp_path):
    dolly = real_data / "data" / "databricks-dolly-15k" / "databricks-dolly-15k.jsonl"
    sizes = ["--config.clients=8", "--config.clients_per_round=8", "--config.size=30", "--config.rounds=2"]
    done = launch(
        "perfit_train",
        "--config=configs/perfit/small.py:dirichlet,perfit,r12",
        f"--config.model={stories}",
        f"--config.data=dolly:{dolly}",
        *sizes,
        "--config.pruning_epochs=1",
        f"--workdir={tmp_path / 'run'}",
        optimized=True,
    )
    assert done.returncode == 0, done.stderr
    assert "2 rounds done, 1 compiled" in done.stdout
    assert "each client trains 12,800 of 19,200 LoRA parameters (rank 12)" in done.stdout
    by_round = [[], [], []]
    for row in lines(tmp_path / "run" / "perplexity.jsonl"):
        by_round[row["round"]].append(row["perplexity"])
    means = [sum(values) / len(values) for values in by_round]
    assert means[2] < means[1] < means[0]
