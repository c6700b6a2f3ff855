"""masks.npz of a PerFIT run."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import perfit_jax as pf
from profit_jax.typing import Adapter
from tests.fuzz import faults, law
from tests.perfit import plain

LORA: Adapter = plain.adapter(rank=3)  # whose coordinates do not fill their last byte
SIZE = pf.Space.of(LORA).size
BITMAPS = plain.random_masks(LORA).bitmaps
OTHERS = (
    {"size": SIZE},
    {"bitmaps": BITMAPS},
    {"bitmaps": BITMAPS.astype(np.int64), "size": SIZE},
    {"bitmaps": BITMAPS[0], "size": SIZE},
    {"bitmaps": BITMAPS[:, :-1], "size": SIZE},
    {"bitmaps": np.full_like(BITMAPS, 255), "size": SIZE},
    {"bitmaps": BITMAPS, "size": float(SIZE)},
    {"bitmaps": BITMAPS, "size": [SIZE, SIZE]},
    {"bitmaps": BITMAPS, "size": -SIZE},
    {"bitmaps": np.array([[None]]), "size": SIZE},
    {"bitmaps": np.array([["\x80"]]), "size": SIZE},
)


def archive(arrays: dict[str, Any]) -> bytes:
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return packed.getvalue()


def header(shape: str) -> bytes:
    """An archive whose array says that it has another shape."""
    whole = archive({"bitmaps": BITMAPS, "size": SIZE})
    written = str(BITMAPS.shape).encode()
    return whole.replace(written, shape.encode().ljust(len(written))[: len(written)])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("masks") / "here" / "masks.npz"
    file.parent.mkdir()
    plain.random_masks(LORA).save(file)
    return file


@law.cases
@given(st.data())
def test_masks(file: Path, data: st.DataObject) -> None:
    contents = st.one_of(
        faults.damaged(file.read_bytes()),
        faults.damaged(file.read_bytes()),
        st.sampled_from(OTHERS).map(archive),
        st.sampled_from(("(-1,)", "(9**9,)", "()", "((((", "1e9", "(10**15,)")).map(header),
    )
    fault = data.draw(faults.or_no_file(contents))

    def right(masks: pf.Masks) -> None:
        np.testing.assert_array_equal(masks.bitmaps, BITMAPS)  # their checksum guards them
        assert SIZE % 8 and masks.owned.max() <= SIZE

    with faults.spoilt(file, fault):
        law.holds(lambda: pf.Masks.load(file, LORA), file.parent, [file], right)
