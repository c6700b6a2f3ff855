"""Collectives in HLO text: which axis each spans, its bytes, and how often it runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from profit_jax.experiment.program import Collective, collectives, instructions

MESH = {"clients": 8, "model": 4}


def program(*lines: str) -> str:
    """A program whose entry computation has these lines."""
    body = "\n".join(f"  {line}" for line in lines)
    return f"HloModule jit_step, num_partitions=32\n\nENTRY %main (x: f32[6,2]) -> f32[6,2] {{\n{body}\n}}\n"


def reduced(groups: str) -> str:
    return program(f"ROOT %sum.1 = f32[6,2]{{1,0}} all-reduce(%x), channel_id=1, {groups}, to_apply=%add").replace(
        "ENTRY", "%add (a: f32[], b: f32[]) -> f32[] {\n  ROOT %c = f32[] add(%a, %b)\n}\n\nENTRY"
    )


ROWS = ",".join("{" + ",".join(str(4 * row + i) for i in range(4)) + "}" for row in range(8))
COLUMNS = ",".join("{" + ",".join(str(4 * i + column) for i in range(8)) + "}" for column in range(4))
GROUPS = {
    f"replica_groups={{{ROWS}}}": ("model",),
    f"replica_groups={{{COLUMNS}}}": ("clients",),
    "replica_groups={}": ("clients", "model"),
    "replica_groups=[8,4]<=[32]": ("model",),
    "replica_groups=[4,8]<=[8,4]T(1,0)": ("clients",),
    "replica_groups=[1,32]<=[32]": ("clients", "model"),
    "replica_groups=[16,2]<=[32]": ("model",),  # neighbours, half of the axis
    "replica_groups=[2,16]<=[8,2,2]T(1,0,2)": ("clients", "model"),
    "replica_groups=[16,2]<=[2,16]T(1,0)": ("clients",),
    "replica_groups=mesh['axis_0'=8,'axis_1'=4] {'axis_1'}": ("model",),
    "replica_groups=mesh['axis_0'=8,'axis_1'=4] {'axis_0'}": ("clients",),
    "replica_groups=mesh[a=8,b=4] {a,b}": ("clients", "model"),
    "replica_groups=mesh[a=32] {a:(1)8}": ("clients",),
    "replica_groups=mesh[a=32] {a:(8)4}": ("model",),
    "replica_groups=mesh[a=4,b=8], device_ids=([8,4]T(1,0)) {b}": ("clients",),
    "replica_groups=mesh[a=4,b=8], device_ids=([8,4]T(1,0)) {a}": ("model",),
}


@pytest.mark.parametrize("groups", GROUPS)
def test_the_axes_of_a_collective_are_those_along_which_its_groups_extend(groups):
    assert collectives(reduced(groups), MESH) == [Collective("all-reduce", GROUPS[groups], 48)]


def test_groups_of_one_device_exchange_nothing():
    assert collectives(reduced("replica_groups=[32,1]<=[32]"), MESH) == []


LINES = {
    "%r = (f32[3,16]{1,0}, bf16[5]{0}, /*index=2*/pred[]) all-reduce(%x, %y, %z), replica_groups=[8,4]<=[32]": (
        "all-reduce",
        3 * 16 * 4 + 5 * 2 + 1,
    ),
    "%g = f32[24,2]{1,0:T(8,128)} all-gather(f32[6,2]{1,0} %x), replica_groups=[8,4]<=[32], dimensions={0}": (
        "all-gather",
        24 * 2 * 4,
    ),
    "%s = f32[6,2]{1,0} reduce-scatter(%x), replica_groups=[8,4]<=[32], dimensions={0}, to_apply=%add": (
        "reduce-scatter",
        4 * 6 * 2 * 4,
    ),
    "%p = f32[6,2]{1,0} collective-permute(%x), source_target_pairs={{0,1},{1,0},{4,5}}": ("collective-permute", 48),
    "%e = s8[6,2]{1,0} all-to-all(%x), replica_groups={{0,1,2,3}}": ("all-to-all", 12),
    "%f = f8e4m3fn[6,2]{1,0} all-to-all(%x), replica_groups={{0,1,2,3}}": ("all-to-all", 12),
}


@pytest.mark.parametrize("line", LINES)
def test_bytes_are_those_of_the_whole_array_at_a_device(line):
    kind, size = LINES[line]
    text = program(line) + "\n%add (a: f32[], b: f32[]) -> f32[] {\n  ROOT %c = f32[] add(%a, %b)\n}\n"
    assert collectives(text, MESH) == [Collective(kind, ("model",), size)]


def test_what_starts_and_is_done_counts_once_with_its_result():
    text = program(
        "%g = (f32[6,2]{1,0}, f32[24,2]{1,0}) all-gather-start(%x), replica_groups=[8,4]<=[32], dimensions={0}",
        "%p = (f32[6], f32[6], u32[], u32[]) collective-permute-start(%x), source_target_pairs={{0,4},{4,0}}",
        "%r = f32[6,2]{1,0} all-reduce-start(%x), replica_groups={{0,1,2,3}}",
        "%a = f32[24,2]{1,0} all-gather-done(%g)",
        "%b = f32[6]{0} collective-permute-done((f32[6], f32[6], u32[], u32[]) %p)",
        "ROOT %c = f32[6,2]{1,0} all-reduce-done(%r)",
    )
    assert collectives(text, MESH) == [
        Collective("all-gather", ("model",), 192),
        Collective("collective-permute", ("clients",), 24),
        Collective("all-reduce", ("model",), 48),
    ]


NESTED = """HloModule jit_step

%inner (p: f32[6]) -> f32[6] {
  ROOT %r = f32[6]{0} all-reduce(%p), replica_groups=[8,4]<=[32]
}

%until (p: f32[6]) -> pred[] {
  ROOT %t = pred[] constant(true)
}

%fused (p: f32[6]) -> f32[6] {
  ROOT %q = f32[6]{0} all-gather(%p), replica_groups=[4,8]<=[8,4]T(1,0), dimensions={0}
}

%outer (p: f32[6]) -> f32[6] {
  %f = f32[6]{0} fusion(%p), kind=kCustom, calls=%fused
  ROOT %w = f32[6]{0} while(%f), condition=%until, body=%inner
}

ENTRY %main (x: f32[6]) -> f32[6] {
  %x = f32[6]{0} parameter(0)
  %w = f32[6]{0} while(%x), condition=%until, body=%outer, backend_config={"known_trip_count":{"n":"12"}}
  ROOT %i = f32[6]{0} conditional(%w, %x, %x), branch_computations={%inner, %fused}
}
"""


def test_what_stands_in_loops_runs_as_often_as_they_do():
    inner, gathered = ("all-reduce", ("model",), 24), ("all-gather", ("clients",), 24)
    found = collectives(NESTED, MESH)
    assert found == [
        Collective(*gathered, (12,)),
        Collective(*inner, (12, None)),
        Collective(*inner),
        Collective(*gathered),
    ]
    assert [each.count for each in found] == [12, 12, 1, 1]


def test_instructions_of_all_computations_are_counted():
    assert instructions(NESTED) == 1 + 1 + 1 + 2 + 3


def test_a_compiled_program_is_read_as_it_was_written():
    """Five sums over `model` in a loop, then one over both axes; with the devices in an order of their own."""
    devices = np.array(jax.devices())[[3, 1, 2, 0, 7, 5, 6, 4]]
    mesh = Mesh(devices.reshape(2, 4), ("clients", "model"))

    def step(x: jax.Array) -> jax.Array:
        def body(total: jax.Array, _: None) -> tuple[jax.Array, None]:
            return jnp.tanh(total + jnp.einsum("cm->c", jnp.sin(x * total[:, None]))), None

        return jnp.sum(jax.lax.scan(body, x[:, 0], None, length=5)[0])

    x = jax.device_put(jnp.ones((6, 8)), NamedSharding(mesh, PartitionSpec("clients", "model")))
    found = collectives(jax.jit(step).lower(x).compile().as_text(), mesh.shape)
    assert [(each.axes, each.bytes, each.loops) for each in found if each.loops] == [(("model",), 12, (5,))]
    assert Collective("all-reduce", ("clients",), 4) in found


CONDITION = """
%turn (p: (s32[], f32[6,2])) -> pred[] {
  %limit = s32[]{:T(128)} constant(12)
  %p = (s32[]{:T(128)}, f32[6,2]{1,0:T(8,128)}) parameter(0)
  %turns = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %lt = pred[]{:T(512)} compare(%turns, %limit), direction=LT, metadata={op_name="while/cond/lt"}
}

%body (p: (s32[], f32[6,2])) -> (s32[], f32[6,2]) {
  %sum = f32[6,2]{1,0} all-reduce(%x), replica_groups=[8,4]<=[32]
}
"""


@pytest.mark.parametrize(("limit", "trips"), [("constant(12)", 12), ("get-tuple-element(%p), index=1", None)])
def test_a_loop_whose_trips_are_not_noted_makes_as_many_as_its_condition_lets_it(limit, trips):
    loop = program("ROOT %w = (s32[], f32[6,2]{1,0}) while(%t), condition=%turn, body=%body")
    text = loop.replace("\nENTRY", CONDITION.replace("constant(12)", limit) + "\nENTRY")
    assert collectives(text, MESH) == [Collective("all-reduce", ("model",), 48, (trips,))]
