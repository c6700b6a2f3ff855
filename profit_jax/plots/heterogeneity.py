"""How far clients are from the whole: Profit, Figure 6."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from profit_jax.errors import InputError
from profit_jax.plots import style

WIDTH = 0.8  # of a category's bars together


def divergences(partitions: Mapping[str, Mapping[str, float]]) -> Figure:
    """Profit, Figure 6: mean over clients of KL(client || all clients) in nats, log scale.

    One group of bars per metadata category, one bar per partition. A divergence of exactly zero, which a log scale
    cannot show, is written as 0 in its bar's place.

    Args:
      partitions: partition -> category -> nats; each has the same categories.

    Raises:
      InputError: no partition, or partitions with different categories.
    """
    if not partitions:
        raise InputError("no partition to draw")
    names = list(next(iter(partitions.values())))
    if any(set(values) != set(names) for values in partitions.values()):
        raise InputError(f"partitions {', '.join(partitions)} have different metadata categories")
    width = WIDTH / len(partitions)
    with style.look():
        figure, (axes,) = style.panels(size=(1.2 * len(names) + 1, style.PANEL[1]))
        axes.set_yscale("log")
        for index, (partition, values) in enumerate(partitions.items()):
            left = (index - (len(partitions) - 1) / 2) * width
            heights = [values[name] for name in names]
            places = [place + left for place in range(len(names))]
            shown = [(place, height) for place, height in zip(places, heights, strict=True) if height > 0]
            left, height = [place for place, _ in shown], [height for _, height in shown]
            axes.bar(left, height, width, color=style.colour(index), label=f"{partition.upper()}-SNI")
            for place, height in zip(places, heights, strict=True):
                if height <= 0:
                    axes.text(
                        place, 0.01, "0", color=style.colour(index), ha="center", transform=axes.get_xaxis_transform()
                    )
        axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
        axes.set_ylabel("mean KL divergence (nats)")
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.grid(False, axis="x")
        style.legend(figure, [axes])
    return figure
