"""A page of tables, pictures and curves, as one HTML file that asks for nothing else.

The page's looks stand in page.html.j2 and page.css, what it does in page.js; Bokeh draws the curves.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from launch._found import Problem
from profit_jax.errors import InputError

try:
    import jinja2
    from bokeh.resources import Resources
    from markupsafe import Markup
    from PIL import Image

    from profit_jax.plots.interactive import Panel
except ModuleNotFoundError as missing:
    raise InputError(
        f"a report needs {str(missing.name).partition('.')[0]}: pip install 'profit-jax[report]'"
    ) from None


class Spread(NamedTuple):
    """Differences by seed, of two seeds at least, with the interval of their mean; drawn about zero."""

    values: Sequence[float]
    low: float
    high: float

    @property
    def text(self) -> str:
        """The differences in words."""
        return ", ".join(f"{value:+.4g}" for value in self.values)


class Cell(NamedTuple):
    """A cell of a table."""

    text: str
    key: float | str | None = None  # what a number is sorted by; text is sorted by itself
    kind: str = ""  # number, name, or a word that the style sheet knows
    link: str = ""  # an anchor of the page
    spread: Spread | None = None  # drawn under the text


@dataclass(frozen=True)
class Table:
    """A table that its heads sort."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


class Picture(NamedTuple):
    """An image with what it shows."""

    uri: str
    width: int
    height: int
    caption: str


@dataclass(frozen=True)
class Curves:
    """Charts of the same runs, side by side."""

    name: str
    panels: Sequence[Panel]
    runs: Mapping[str, str]  # label -> name of the run's numbers in `Page.data`
    colours: Mapping[str, str]  # label -> colour


@dataclass(frozen=True)
class Section:
    """An experiment."""

    anchor: str
    name: str
    title: str
    claim: str
    measured: str
    command: str
    tables: Sequence[Table] = ()  # the first stands open
    curves: Sequence[Curves] = ()
    pictures: Sequence[Picture] = ()  # the first stands open
    problems: Sequence[Problem] = ()


@dataclass(frozen=True)
class Settings:
    """The configuration of a launcher's runs: what they share, and in what they differ."""

    launcher: str
    shared: Table
    apart: Table


@dataclass(frozen=True)
class Page:
    """Everything that is shown."""

    title: str
    made: str
    commands: Sequence[str]
    overview: Table
    sections: Sequence[Section]
    settings: Sequence[Settings]
    environments: Sequence[Table]
    measures: str
    problems: Sequence[Problem] = ()
    data: Mapping[str, Any] = field(default_factory=dict)  # run -> its numbers


def render(page: Page) -> str:
    """The page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["asdict"] = asdict
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    drawn = any(section.curves for section in page.sections)
    scripts = Resources(mode="inline", components=["bokeh"]).js_raw if drawn else []
    return environment.get_template("page.html.j2").render(
        page=page,
        scripts=[Markup(script) for script in scripts],
        style=Markup(Path(__file__).with_name("page.css").read_text(encoding="utf-8")),
        behaviour=Markup(Path(__file__).with_name("page.js").read_text(encoding="utf-8")),
    )


def number(value: float | None, sign: str = "") -> Cell:
    """A number with four digits, sorted by its value; - for None."""
    return Cell("-" if value is None else f"{value:{sign}.4g}", value, "number")


def picture(file: Path, caption: str) -> Picture:
    """An image file as part of the page, in as few bytes as it takes without changing a pixel.

    Raises:
      InputError: a file that is no image.
    """
    packed = io.BytesIO()
    try:
        with Image.open(file) as image:
            image.save(packed, "webp", lossless=True)
            width, height = image.size
    except Exception:  # PIL's, for what is no image: they have no type in common
        raise InputError(f"{file}: no image that can be read") from None
    uri = f"data:image/webp;base64,{base64.b64encode(packed.getvalue()).decode()}"
    return Picture(uri, width, height, caption)
