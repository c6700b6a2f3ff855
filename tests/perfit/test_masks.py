"""Masks as they are kept: bitmaps, packed coordinates, files, and the distances between clients."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import perfit_jax as pf
from perfit_jax.masks import to_bitmaps
from profit_jax.errors import InputError
from tests.perfit import plain

LORA = plain.adapter(rank=3)
SIZE = 3 * plain.UNIT  # 102: the last byte of a bitmap is not full


def of(dense: np.ndarray) -> pf.Masks:
    return pf.Masks(LORA, np.packbits(dense, axis=1))


dense_masks = st.integers(1, 4).flatmap(lambda n: hnp.arrays(bool, (n, SIZE)))


@settings(max_examples=50)
@given(dense_masks)
def test_bitmaps_hold_the_masks(dense):
    masks = of(dense)
    assert len(masks) == len(dense) and masks.space.size == SIZE
    np.testing.assert_array_equal(np.stack([masks.dense(client) for client in range(len(dense))]), dense)
    np.testing.assert_array_equal(masks.owned, dense.sum(1))


@settings(max_examples=50)
@given(dense_masks)
def test_indices_ascend_and_are_filled_up_from_size_on(dense):
    masks, flat = of(dense), plain.flat(LORA)
    indices, values = masks.indices(), masks.values()
    assert indices.shape == values.shape == (len(dense), dense.sum(1).max())
    assert indices.dtype == np.int32 and values.dtype == np.float32
    for client, mask in enumerate(dense):
        owned = [j for j in range(SIZE) if mask[j]]
        filled = indices.shape[1] - len(owned)
        assert indices[client].tolist() == [*owned, *range(SIZE, SIZE + filled)]
        assert values[client].tolist() == flat[owned].tolist() + [0] * filled


def test_the_compiled_search_packs_bits_as_they_are_read():
    dense = np.random.default_rng(0).random((2, 3, SIZE)) < 0.5
    np.testing.assert_array_equal(to_bitmaps(dense), np.packbits(dense, axis=-1))


@settings(max_examples=30)
@given(dense_masks)
def test_similarity_is_the_share_of_coordinates_that_two_masks_do_not_agree_on(dense):
    """By a loop over coordinates; the first module is A and B of layer 0 of k: 5 x 3 and 3 x 3 elements."""
    got = of(dense).similarity()
    first = [*range(5 * 3), *range(2 * 5 * 3, 2 * 5 * 3 + 3 * 3)]  # behind A of both layers stands B of layer 0
    for i, j in np.ndindex(len(dense), len(dense)):
        assert got.all[i, j] == pytest.approx(sum(a != b for a, b in zip(dense[i], dense[j])) / SIZE)
        assert got.first[i, j] == pytest.approx(sum(dense[i, c] != dense[j, c] for c in first) / len(first))


def test_masks_of_ranks_own_the_parameters_of_their_rank():
    masks = pf.Masks.of_ranks(LORA, [1, 3, 2, 3])
    assert masks.owned.tolist() == [SIZE // 3 * rank for rank in (1, 3, 2, 3)]
    assert masks.dense(1).all()
    assert not (masks.dense(0) & ~masks.dense(2)).any(), "a smaller LoRA lies inside a larger one"


def test_masks_are_read_as_they_were_written(tmp_path):
    masks = plain.random_masks(LORA)
    masks.save(tmp_path / "masks.npz")
    read = pf.Masks.load(tmp_path / "masks.npz", LORA)
    np.testing.assert_array_equal(read.bitmaps, masks.bitmaps)
    np.testing.assert_array_equal(read.indices(), masks.indices())
    assert [file.name for file in tmp_path.iterdir()] == ["masks.npz"], "no half-written file stays behind"


def test_masks_of_another_lora_are_refused(tmp_path):
    plain.random_masks(LORA).save(tmp_path / "masks.npz")
    with pytest.raises(InputError, match=f"masks of {SIZE} coordinates do not fit a LoRA of {SIZE // 3 * 4}"):
        pf.Masks.load(tmp_path / "masks.npz", plain.adapter(rank=4))


def _cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def _flipped(path):
    """A bit of the compressed bitmaps, which their checksum finds."""
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 1
    path.write_bytes(content)


def _one_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


DAMAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut off": _cut,
    "a flipped bit": _flipped,
    "text": lambda path: path.write_text("masks"),
    "one array": _one_array,
    "other arrays": lambda path: np.savez(path, other=np.zeros(3)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_an_input_error_that_names_it(tmp_path, damage):
    path = tmp_path / "masks.npz"
    plain.random_masks(LORA).save(path)
    DAMAGES[damage](path)
    with pytest.raises(InputError, match=r"masks\.npz: (not an archive of NumPy arrays|no array|no such file)"):
        pf.Masks.load(path, LORA)
