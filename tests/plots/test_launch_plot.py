import csv
import json
import subprocess
import sys
from pathlib import Path

from profit_jax.plots import records
from tests.plots.fakes import round_line, two_epochs, two_masks, write_perfit, write_run

ROOT = Path(__file__).parent.parent.parent


def plot(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch.plot", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_everything_that_the_records_allow_is_drawn(tmp_path: Path) -> None:
    train = write_run(tmp_path / "train", rounds=[round_line(0), round_line(1)])
    with (train / "metrics.jsonl").open("a") as file:
        file.write('{"round": 2, ')
    personalized = write_run(tmp_path / "personalized", clients=two_epochs())
    data = tmp_path / "data"
    data.mkdir()
    counts = {name: {"mean": 3.0, "std": 0.5} for name in ("instances", "tasks", "task_types")}
    statistics = {"hhf": {"clients": 7, **counts, "kl_divergence": {"Task": 2.0}}}
    (data / "statistics.json").write_text(json.dumps(statistics))
    done = plot(f"--workdir={train},{personalized},{data}", "--labels=FedAvg,learning rate 0.1,data")
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"warning: {train}/metrics.jsonl, line 3: the last line is damaged and left out\n"
    *written, file, head, row = done.stdout.splitlines()
    names = ["heterogeneity", "training_loss", "training_norms", "tradeoff", "percentiles", "clients_learning_rate_0.1"]
    assert written == [str(train / "figures" / f"{name}.{kind}") for name in names for kind in ("png", "pdf")]
    assert all(Path(path).stat().st_size > 1000 for path in written)
    assert file == str(train / "figures" / "statistics.csv")
    assert head.split() == ["partition", *records.STATISTICS]
    assert row.split() == ["HHF-SNI", "7", *["3.000", "0.500"] * 3]


def test_panels_and_labels_may_name_fields_and_kinds_are_chosen(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name, clients=two_epochs()) for name in ("a", "b")]
    out = f"--out={tmp_path / 'out'}"
    workdirs = f"--workdir={folders[0]},{folders[1]}"
    done = plot(
        workdirs, '--panels="{partition}, {algorithm}",right', "--labels={seed},{seed}", "--kinds=tradeoff", out
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / "out" / f"tradeoff.{kind}") for kind in ("png", "pdf")]
    cases = {
        "--kinds=perplexity": "no workdir has what it takes to draw perplexity",
        "--panels={rate},x": "'{rate}' names in braces what is no field of the run's config.json",
        "--panels=x": "--panels: 1 panels for 2 workdirs",
        "--kinds=x": "give some of heterogeneity, statistics, ",
    }
    for argument, message in cases.items():
        done = plot(workdirs, argument, out)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_bad_workdirs_are_named(tmp_path: Path) -> None:
    empty = write_run(tmp_path / "empty", rounds=[])
    cases = {
        f"--workdir={empty}": f"{empty}: neither metrics.jsonl nor clients.jsonl nor perplexity.jsonl holds a record",
        f"--workdir={tmp_path}": f"{tmp_path}/config.json: no such file or directory",
    }
    for argument, message in cases.items():
        done = plot(argument)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")
    done = plot(f"--workdir={empty}", "--labels=a,b")
    assert (done.returncode, done.stderr) == (2, "error: --labels: 2 labels for 1 workdirs\n")
    twice = write_run(tmp_path / "twice", rounds=[round_line(0)])
    done = plot(f"--workdir={twice},{twice}")
    assert (done.returncode, done.stderr) == (2, "error: two runs are called 'twice': name them with --labels\n")


def test_perfit_is_drawn_and_summed_up(tmp_path: Path) -> None:
    rounds = [round_line(1), round_line(2)]
    fit = {"method": "fit", "rounds": rounds}
    perfit = {"masks": two_masks(), "rank_before": 16, "rounds": rounds}
    workdirs = [
        write_perfit(tmp_path / "a", [[8, 12], [4, 6]], seed=0, **fit),
        write_perfit(tmp_path / "b", [[8, 12], [5, 7]], seed=1, **fit),
        write_perfit(tmp_path / "c", [[8, 12], [3, 5], [2]], seed=0, **perfit),
        write_perfit(tmp_path / "d", [[8, 12], [3, 5]], seed=1, **perfit),
        write_perfit(tmp_path / "e", [[9, 9]], method="local", seed=7),
    ]
    done = plot(f"--workdir={','.join(map(str, workdirs))}", f"--out={tmp_path / 'figures'}")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "warning: PerFIT R = 16, seed 0: 1 rounds lack clients, left out",
        "warning: local: no run with the clients of FIT, seed 0: not in perplexity_clients",
    ]
    names = [
        "training_loss",
        "training_norms",
        "mask_similarity",
        "perplexity",
        "perplexity_clients",
    ]
    paths = [str(tmp_path / "figures" / f"{name}.{kind}") for name in names for kind in ("png", "pdf")]
    table = tmp_path / "figures" / "perplexity.csv"
    # Differences of PerFIT are -1 and -2: mean -1.5, standard error 0.5, t of one degree at 97.5 % 12.706.
    assert done.stdout.splitlines() == [
        *paths,
        str(table),
        "panel                 label  seeds  round   last    std   best  difference     low   high  pairs",
        "pathological            FIT      2      1  5.500  0.707  5.500           -       -      -      -",
        "pathological  PerFIT R = 16      2      1  4.000  0.000  4.000      -1.500  -7.853  4.853      2",
        "pathological          local      1      0  9.000      -  9.000           -       -      -      0",
    ]
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [row["label"] for row in rows] == ["FIT", "PerFIT R = 16", "local"]
    assert float(rows[1]["difference"]) == -1.5 and rows[2]["difference"] == ""


def test_one_seed_twice_is_refused(tmp_path: Path) -> None:
    workdirs = [write_perfit(tmp_path / name, [[8, 12]]) for name in ("a", "b")]
    done = plot(f"--workdir={workdirs[0]},{workdirs[1]}")
    assert (done.returncode, done.stderr) == (2, "error: two runs are called 'PerFIT R = 16' and have seed 0\n")
    profit = write_run(tmp_path / "adam", rounds=[round_line(0)])
    done = plot(f"--workdir={workdirs[0]},{profit}", "--labels=x,x")
    assert (done.returncode, done.stderr) == (2, "error: two runs are called 'x': name them with --labels\n")
