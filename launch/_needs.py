"""What a round needs, as launch/plan.py prints it."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from profit_jax.data.cohort import Plan
from profit_jax.experiment.chips import GIB, Chip
from profit_jax.experiment.plan import Bounds, Needs


def layout(config: ConfigDict, planned: Plan) -> str:
    """The cohort."""
    shape = planned.shape
    return (
        f"{config.clients_per_round} clients; a flight is {shape.rows} rows of {shape.width}; "
        f"{planned.waste:.2f} positions computed a real one"
    )


def memory(needs: Needs, chip: Chip | None) -> str:
    """Where memory goes."""
    rows = {**needs.memory._asdict(), "total": needs.memory.total}
    lines = ["", "GiB a device", *(f"  {name:<18}{count / GIB:>10.3f}" for name, count in rows.items())]
    if chip:
        verdict = "fits" if needs.fits(chip) else "does not fit"
        lines.append(f"  {'the chip has':<18}{chip.memory / GIB:>10.3f}   {verdict}")
    return "\n".join(lines)


def work(needs: Needs, model_flops: float) -> str:
    """What a device computes and sends."""
    lines = [
        "",
        "a round, a device",
        f"  {'model FLOPs':<18}{model_flops:>10.3g}",
        f"  {'computed FLOPs':<18}{needs.work.flops:>10.3g}",
        f"  {'traffic':<18}{needs.work.bytes / GIB:>10.3g} GiB",
    ]
    for each in needs.exchanges or ():
        over = " and ".join(each.axes)
        lines.append(f"  {each.kind:<18}{each.bytes / GIB:>10.3g} GiB over {over}, {each.count:,.0f} times")
    return "\n".join(lines)


def times(config: ConfigDict, bounds: Bounds) -> str:
    """Seconds a round, and hours of the config's rounds."""
    lines = ["", "seconds a round, at peak rates"]
    for name, seconds in bounds._asdict().items():
        lines.append(f"  {name:<18}{seconds:>10.3g}" + "   binds" * (name == bounds.binding))
    least, most = (config.rounds * seconds / 3600 for seconds in (max(bounds), sum(bounds)))
    return "\n".join([*lines, f"{config.rounds} rounds: {least:.2g} h if all overlaps, {most:.2g} h if nothing does"])


def remedies(config: ConfigDict, needs: Needs, int8: int, mesh: Mapping[str, int], chip: Chip) -> str:
    """What would need less, and how much by these numbers; `int8` are the weights' bytes in 8 bits.

    Temporaries are taken to go by the positions of a flight and by the share of the model at a device.
    """
    weights, _, _, temporaries = needs.memory
    clients, model = mesh["clients"] // 2, mesh["model"] * 2
    half = config.positions_per_flight // 2
    changes: dict[str, dict[str, int]] = {}
    if config.dtype == "float32":
        changes["--config.dtype=bfloat16"] = {"weights": weights // 2, "temporaries": temporaries // 2}
    if not config.quantize:
        changes["--config.quantize=int8"] = {"weights": int8}
    changes[f"--config.positions_per_flight={half}"] = {"temporaries": temporaries // 2}
    if mesh["clients"] % 2 == 0:
        halved = {"weights": weights // 2, "temporaries": temporaries // 2}
        changes[f"--mesh=clients:{clients},model:{model}"] = halved
    lines = ["", "about what it would need, GiB a device"]
    for change, fields in changes.items():
        total = needs.memory._replace(**fields).total
        lines.append(f"  {change:<40}{total / GIB:>10.3f}" + "   fits" * (total <= chip.memory))
    if not config.remat:
        lines.append("  --config.remat=True                     less, not told by these numbers")
    return "\n".join(lines)
