"""The pretraining launcher, as a person runs it: what it writes, and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.backbone.test_embedded import FILES, assert_equals_transformers

ROOT = Path(__file__).parents[1]
SMALL = {
    "vocabulary": 400,
    "tokenizer_documents": 300,
    "held_out_documents": 20,
    "width": 32,
    "layers": 2,
    "heads": 2,
    "key_value_heads": 2,
    "head_width": 16,
    "mlp_width": 48,
    "plan.steps": 3,
    "plan.rows": 4,
    "plan.warmup": 1,
    "plan.evaluate_every": 2,
    "plan.answers": 4,
}


def launch(out: Path, **fields: object) -> subprocess.CompletedProcess:
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    environment = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    command = [sys.executable, "-m", "launch.pretrain_tiny", f"--out={out}", *flags]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_it_writes_a_model_that_transformers_reads_and_says_how_it_was_made(tmp_path):
    done = launch(tmp_path / "model", **SMALL)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert {path.name for path in (tmp_path / "model").iterdir()} == FILES
    assert_equals_transformers(tmp_path / "model", ["Anna found a red ball.\n"])
    text = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    [command] = [line for line in text.splitlines() if line.startswith("    python -m launch.pretrain_tiny")]
    assert "--config.plan.steps=3" in command
    config = json.loads(text.split("```json")[1].split("```")[0])
    assert config["plan"]["steps"] == 3 and config["width"] == 32
    assert "| 2 |" in text and "| 3 |" in text


def test_bad_fields_end_in_one_line_and_no_folder(tmp_path):
    done = launch(tmp_path / "model", **{**SMALL, "heads": 5, "key_value_heads": 2})
    assert done.returncode == 2 and "error: 5 query heads" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path):
    (tmp_path / "note").write_text("mine")
    done = launch(tmp_path, **SMALL)
    assert done.returncode == 2 and "not an empty folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
