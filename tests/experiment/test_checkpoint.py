"""Checkpoints: damage is found and passed over, and a checksum knows every bit wherever the arrays lie."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

import profit_jax as pj
from profit_jax.errors import InputError
from profit_jax.experiment import Workdir, read_adapter
from profit_jax.experiment.checkpoint import Checkpoints, checksum

# Orbax leaves tasks unawaited where a file cannot be read; they are collected whenever it happens.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
LARGE = np.random.default_rng(0).normal(size=5000).astype(np.float32)


@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()


def tree(value: float) -> dict:
    return {"state": {"adapter": {"prompt": jnp.asarray(LARGE + value)}, "round": jnp.int32(3)}}


def saved(folder) -> Workdir:
    workdir = Workdir(folder, {})
    with Checkpoints(workdir) as checkpoints:
        for round in (1, 2, 3):
            checkpoints.save(round, tree(round))
    return workdir


def damage(workdir: Workdir, round: int, how: str) -> None:
    """Spoils the file that holds the values."""
    files = (workdir.checkpoints / str(round)).rglob("*")
    largest = max((file for file in files if file.is_file()), key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    if how == "a bit":
        content[len(content) // 2] ^= 4
    largest.unlink() if how == "gone" else largest.write_bytes(content[: len(content) // (2 if how == "cut" else 1)])


@pytest.mark.parametrize("how", ["a bit", "cut", "gone"])
def test_a_damaged_newest_checkpoint_is_passed_over_for_the_one_before(tmp_path, how):
    workdir = saved(tmp_path / "run")
    damage(workdir, 3, how)
    with pytest.raises(InputError, match=r"run/checkpoints/3: a damaged checkpoint \("):
        read_adapter(workdir.path)
    with Checkpoints(workdir) as checkpoints:
        with pytest.warns(UserWarning, match=r"checkpoints/3: damaged, passed over"):
            round, found = checkpoints.restore(tree(0))
        assert round == 2
        np.testing.assert_array_equal(found["state"]["adapter"]["prompt"], LARGE + 2)
        checkpoints.save(3, tree(30))
    np.testing.assert_array_equal(read_adapter(workdir.path)["prompt"], LARGE + 30)


def test_a_run_without_a_readable_checkpoint_does_not_start_anew_by_itself(tmp_path):
    workdir = saved(tmp_path / "run")
    damage(workdir, 2, "a bit")
    damage(workdir, 3, "cut")
    with (
        Checkpoints(workdir) as checkpoints,
        pytest.warns(UserWarning),
        pytest.raises(InputError, match="no checkpoint"),
    ):
        checkpoints.restore(tree(0))


@settings(max_examples=30)
@given(st.integers(0, LARGE.nbytes * 8 - 1))
def test_a_checksum_knows_every_bit(bit):
    octets = bytearray(LARGE.tobytes())
    octets[bit // 8] ^= 1 << bit % 8
    other = np.frombuffer(bytes(octets), np.float32)
    assert checksum({"a": jnp.asarray(LARGE)}) != checksum({"a": jnp.asarray(other)})


def test_a_checksum_is_the_same_wherever_the_arrays_lie():
    values = {"a": LARGE[:4096].reshape(8, -1), "b": np.arange(8, dtype=np.uint8), "c": np.array([True, False])}
    on = pj.mesh("clients:8")
    places = {"a": PartitionSpec("clients"), "b": PartitionSpec("clients"), "c": PartitionSpec()}
    spread = {name: jax.device_put(value, NamedSharding(on, places[name])) for name, value in values.items()}
    words = sum(np.frombuffer(LARGE[:4096].tobytes(), "<u4").tolist()) + sum(range(8)) + 1
    assert checksum(values) == checksum(spread) == words % 2**32


def test_a_checkpoint_is_read_on_another_mesh(tmp_path):
    workdir = Workdir(tmp_path / "run", {})
    over = NamedSharding(pj.mesh("clients:8"), PartitionSpec("clients"))
    values = np.arange(16.0, dtype=np.float32)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(1, {"state": {"adapter": jax.device_put(values, over)}})
    fewer = NamedSharding(pj.mesh("clients:2"), PartitionSpec("clients"))
    with Checkpoints(workdir) as checkpoints:
        _, found = checkpoints.restore({"state": {"adapter": jax.device_put(np.zeros_like(values), fewer)}})
    assert found["state"]["adapter"].sharding == fewer
    np.testing.assert_array_equal(found["state"]["adapter"], values)
    np.testing.assert_array_equal(read_adapter(workdir.path), values)


def test_a_disk_that_takes_no_more_ends_in_one_line(tmp_path, monkeypatch):
    """As a full disk does, a limit on the size of files makes every write fail."""
    resource = pytest.importorskip("resource")
    workdir = Workdir(tmp_path / "run", {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoints = Checkpoints(workdir)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        with pytest.raises(InputError, match=r"run/checkpoints: a checkpoint could not be written"), checkpoints:
            checkpoints.save(1, tree(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
