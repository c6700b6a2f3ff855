import json
import subprocess
import sys
from pathlib import Path

from tests.plots.fakes import round_line, two_epochs, write_run

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
        f"--workdir={empty}": f"{empty}: neither metrics.jsonl nor clients.jsonl holds a record",
        f"--workdir={tmp_path}": f"{tmp_path}/config.json: No such file or directory",
    }
    for argument, message in cases.items():
        done = plot(argument)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")
    done = plot(f"--workdir={empty}", "--labels=a,b")
    assert (done.returncode, done.stderr) == (2, "error: --labels: 2 labels for 1 workdirs\n")
    done = plot(f"--workdir={empty},{empty}")
    assert (done.returncode, done.stderr) == (2, "error: two runs are called 'empty': name them with --labels\n")
