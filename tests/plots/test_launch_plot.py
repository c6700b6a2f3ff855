import csv
import json
import subprocess
import sys
from pathlib import Path

from tests.plots.fakes import round_line, two_epochs, two_masks, write_perfit, write_run

ROOT = Path(__file__).parent.parent.parent


def plot(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "launch/plot.py", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_everything_that_the_records_allow_is_drawn(tmp_path: Path) -> None:
    train = write_run(tmp_path / "train", rounds=[round_line(0), round_line(1)])
    with (train / "metrics.jsonl").open("a") as file:
        file.write('{"round": 2, ')
    personalized = write_run(tmp_path / "personalized", clients=two_epochs())
    data = tmp_path / "data"
    data.mkdir()
    (data / "statistics.json").write_text(json.dumps({"hhf": {"kl_divergence": {"Task": 2.0}}}))
    done = plot(f"--workdir={train},{personalized},{data}", "--labels=FedAvg,learning rate 0.1,data")
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"warning: {train}/metrics.jsonl, line 3: the last line is damaged and left out\n"
    written = [Path(line) for line in done.stdout.splitlines()]
    names = ["heterogeneity", "training_loss", "training_norms", "tradeoff", "percentiles", "clients_learning_rate_0.1"]
    assert written == [train / "figures" / f"{name}.{kind}" for name in names for kind in ("png", "pdf")]
    assert all(path.stat().st_size > 1000 for path in written)


def test_bad_workdirs_are_named(tmp_path: Path) -> None:
    empty = write_run(tmp_path / "empty", rounds=[])
    cases = {
        f"--workdir={empty}": f"{empty}: neither metrics.jsonl nor clients.jsonl nor perplexity.jsonl holds a record",
        f"--workdir={tmp_path}": f"{tmp_path}/config.json: No such file or directory",
    }
    for argument, message in cases.items():
        done = plot(argument)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")
    done = plot(f"--workdir={empty}", "--labels=a,b")
    assert (done.returncode, done.stderr) == (2, "error: --labels: 2 labels for 1 workdirs\n")
    done = plot(f"--workdir={empty},{empty}")
    assert (done.returncode, done.stderr) == (2, "error: two runs are called 'empty': name them with --labels\n")


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
        "mask_similarity_PerFIT_R_=_16_seed_0",
        "mask_similarity_PerFIT_R_=_16_seed_1",
        "perplexity",
        "perplexity_clients",
    ]
    paths = [str(tmp_path / "figures" / f"{name}.{kind}") for name in names for kind in ("png", "pdf")]
    table = tmp_path / "figures" / "perplexity.csv"
    # Differences of PerFIT are -1 and -2: mean -1.5, standard error 0.5, t of one degree at 97.5 % 12.706.
    assert done.stdout.splitlines() == [
        *paths,
        str(table),
        "setting        seeds  round  perplexity    std   best  difference     95 % interval  pairs",
        "FIT                2      1       5.500  0.707  5.500           -                 -      -",
        "PerFIT R = 16      2      1       4.000  0.000  4.000      -1.500  -7.853 to +4.853      2",
        "local              1      0       9.000      -  9.000           -                 -      0",
        "differences are to FIT, paired by seed",
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
