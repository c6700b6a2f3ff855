"""Files are data: nothing that the library reads can run code or reach the network, and JSON has one reader."""

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from profit_jax import files
from profit_jax.errors import InputError

ROOT = Path(__file__).parents[2]
MODULES = sorted(file for name in ("profit_jax", "perfit_jax", "launch") for file in (ROOT / name).rglob("*.py"))
RUN_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torch"}
BESIDE_TORCH = {"_bench_evaluation.py", "_bench_torch.py", "bring_your_own.py"}  # they compare with it, on what is ours
READERS = {  # what reads a file or its text, and the one module that may call it
    "json.load": (),
    "json.loads": ("files.py", "corpus.py", "_forks.py"),  # the others: what the same process has just written
    "np.load": ("files.py",),
    "safe_open": ("files.py",),
    "load_file": (),
}


def _is_round_trip(call: ast.Call) -> bool:
    """Whether a value is only brought into the form in which it will be read back."""
    return bool(call.args) and ast.unparse(call.args[0]).startswith("json.dumps(")


def nodes(file: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_module_can_run_what_it_reads(file: Path) -> None:
    refused = RUN_CODE - {"torch"} if file.name in BESIDE_TORCH else RUN_CODE
    for node in nodes(file):
        if isinstance(node, ast.Import):
            assert refused.isdisjoint(alias.name.split(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in refused
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg in ("allow_pickle", "trust_remote_code"):
                    assert isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            name = ast.unparse(node.func)
            assert name not in ("eval", "exec", "__import__", "yaml.load", "torch.load")
            if name in READERS and not _is_round_trip(node):
                assert file.name in READERS[name], f"{name}: use profit_jax.files"
            if name == "np.load":
                assert "allow_pickle" in [keyword.arg for keyword in node.keywords]
            if name == "AutoTokenizer.from_pretrained":
                assert {"local_files_only", "trust_remote_code"} <= {keyword.arg for keyword in node.keywords}


def test_a_pickle_in_an_archive_is_not_opened(tmp_path: Path) -> None:
    class Ran:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    np.savez(tmp_path / "a.npz", x=np.array([Ran()], object))
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Ran()))
    for name in ("a.npz", "b.npz"):
        with pytest.raises(InputError, match=rf"{name}: not an archive of NumPy arrays"):
            files.read_arrays(tmp_path / name, ("x",))
    assert not (tmp_path / "ran").exists()


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    files.write_whole(file, "before")
    with pytest.raises(UnicodeEncodeError):
        files.write_whole(file, "after \ud800")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", fail)
        files.write_whole(file, "after")
    assert file.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
