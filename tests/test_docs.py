"""The pages tell what is there: links and paths exist, names resolve, programs call what they import."""

import ast
import functools
import importlib.util
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import perfit_jax as pf
import profit_jax as pj
from configs.experiments import ALIASES, EXPERIMENTS
from configs.perfit import small as perfit_small
from configs.profit import small as profit_small
from profit_jax.typing import Cohort

ROOT = Path(__file__).parents[1]
GUIDES = [ROOT / "README.md", ROOT / "BUILD.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
REFERENCE = sorted((ROOT / "docs/api").glob("*.md"))
PAGES = [*GUIDES, *REFERENCE]
PACKAGES = (
    "profit_jax.adapters",
    "profit_jax.backbone",
    "profit_jax.benchmark",
    "profit_jax.data.sni",
    "profit_jax.data.tiny",
    "profit_jax.experiment",
    "profit_jax.federated",
    "profit_jax.metrics",
    "profit_jax.plots",
    "perfit_jax",
)

# What pages may name before it is there.
LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)(?:#([^)\s]*))?\)")
ROOTS = "configs|docs|launch|perfit_jax|profit_jax|tests"
PATH = re.compile(rf"(?<![\w/.<-])(?:{ROOTS})/[\w./*{{}},-]*[\w*}}/]")
MODULE = re.compile(r"python -m launch\.(\w+)")
ROLE = re.compile(r"\{(?:func|class|meth|mod)\}`([\w.]+)`")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
PROGRAM = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DIRECTIVE = re.compile(r"^\.\. auto(?:module|class|function):: ([\w.]+)\n((?:   :.*\n)*)", re.MULTILINE)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def resolved(name: str) -> object:
    """The object of a dotted name; of a function and its module, which may share the name, the function."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            return functools.reduce(getattr, parts[end:], importlib.import_module(".".join(parts[:end])))
        except (ModuleNotFoundError, AttributeError):
            continue
    return importlib.import_module(name)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    heads = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def alternatives(path: str) -> list[str]:
    """`a/{b,c}/d` -> `a/b/d`, `a/c/d`."""
    match = re.search(r"\{([^{}]*)\}", path)
    if not match:
        return [path]
    return [each for one in match[1].split(",") for each in alternatives(path.replace(match[0], one, 1))]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    missing = []
    for target, anchor in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        file = page.parent / target if target else page
        if file.name == "machines.md":  # which is BUILD.md
            file = ROOT / "BUILD.md"
        if not file.exists() or (anchor and anchor not in anchors(file)):
            missing.append(f"{target}#{anchor}")
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_paths_exist(page):
    text = LINK.sub("", page.read_text(encoding="utf-8"))  # links are another test's
    paths = [path for found in PATH.findall(text) for path in alternatives(found)]
    assert [path for path in paths if "NAME" not in path and not any(ROOT.glob(path))] == []


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "launch").glob("*.py"))], ids=named)
def test_commands_name_launchers_as_a_clone_and_a_wheel_both_know_them(page):
    text = page.read_text(encoding="utf-8")
    assert "python launch/" not in text
    assert [name for name in MODULE.findall(text) if not (ROOT / "launch" / f"{name}.py").is_file()] == []


@pytest.mark.parametrize("page", ["README.md", "docs/layout.md"])
def test_the_map_shows_what_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    tree, folder = re.split(r"^#+ Map.*\n\n```\n", text, flags=re.MULTILINE)[1].split("```")[0], ""
    for line in tree.splitlines():
        indent = len(line) - len(line.lstrip())
        names = line.strip().split("  ")[0].split(", ")
        if indent == 0:
            folder = names[0] if names[0].endswith("/") else ""
        if indent <= 2:  # more: a description goes on
            paths = [ROOT / folder / name if indent else ROOT / name for name in names]
            assert [path for path in paths if not path.exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_names_resolve(page):
    for name in ROLE.findall(page.read_text(encoding="utf-8")):
        assert resolved(name) is not None


def test_the_glossary_names_all_equations_and_lines():
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    profit, perfit = text.split("\n## PerFIT")
    assert "Equation 1" in profit
    assert all(f"Equation {number}" in perfit for number in range(1, 6))
    assert all(f"Algorithm {number}" in perfit for number in range(1, 4))


@pytest.mark.parametrize("name", pj.__all__)
def test_the_reference_tells_where_each_public_name_is(name):
    table = (ROOT / "docs/api/profit_jax.md").read_text(encoding="utf-8")
    [target] = re.findall(rf"^\| `pj\.{name}` \| {{\w+}}`([\w.]+)` \|$", table, re.MULTILINE)
    assert resolved(target) is getattr(pj, name)
    assert documented(target)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_every_public_name_of_a_package(package):
    for name in importlib.import_module(package).__all__:
        found = getattr(importlib.import_module(package), name)
        assert documented(f"{package}.{name}"), name
        assert isinstance(found, tuple | dict) or inspect.getdoc(found), name  # data have no docstring of their own


def documented(name: str) -> bool:
    """Whether the reference has a directive for this name, or one for its module and members."""
    directives = {}
    for page in REFERENCE:
        for target, options in DIRECTIVE.findall(page.read_text(encoding="utf-8")):
            members = re.search(r":members:(.*)", options)
            directives[target] = None if members is None else [each.strip() for each in members[1].split(",") if each]
    module, _, last = name.rpartition(".")
    within = directives.get(module)
    return name in directives or (within is not None and (not within or last in within))


def programs() -> Iterator[tuple[str, str]]:
    for page in GUIDES:
        for number, program in enumerate(PROGRAM.findall(page.read_text(encoding="utf-8"))):
            yield f"{named(page)}-{number}", program


@pytest.mark.parametrize("program", [pytest.param(text, id=name) for name, text in programs()])
def test_programs_call_what_is_there(program):
    """Imports resolve, and so does what is taken of them; calls name arguments that exist."""
    tree = ast.parse(program)
    names: dict[str, ModuleType] = {"pj": pj, "pf": pf}  # a program may go on from one above it
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.asname or each.name: importlib.import_module(each.name) for each in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert all(hasattr(importlib.import_module(node.module), each.name) for each in node.names)
        elif isinstance(node, ast.Call) and (function := taken(node.func, names)):
            parameters = inspect.signature(function).parameters.values()
            if not any(each.kind is each.VAR_KEYWORD for each in parameters):
                assert {each.arg for each in node.keywords} <= {each.name for each in parameters}, ast.unparse(node)
        elif isinstance(node, ast.Attribute):
            taken(node, names)


def taken(node: ast.expr, names: dict[str, ModuleType]) -> object | None:
    """What an expression such as `pj.data.sni.open` is; nothing where it does not begin with a module."""
    match node:
        case ast.Name(name):
            return names.get(name)
        case ast.Attribute(value, attribute):
            found = taken(value, names)
            return None if found is None else getattr(found, attribute)
    return None


def test_figures_and_tables_are_listed_by_the_names_of_their_experiments():
    text = (ROOT / "docs/reproduce.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`((?:profit|perfit)/\w+)`", text))
    assert told <= {*EXPERIMENTS, *ALIASES}
    of_the_papers = {name for name, each in EXPERIMENTS.items() if each.in_all and not name.startswith("profit/tuning")}
    assert of_the_papers <= told


@pytest.mark.parametrize(
    ("paper", "known"),
    [
        ("Profit", {*profit_small.NAMES, *profit_small.PERSONALIZATION, *profit_small.SETTINGS}),
        ("PerFIT", set(perfit_small.SETTINGS)),
    ],
)
def test_the_names_of_configs_are_all_told(paper, known):
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    table = text.split(f"| names of {paper} | set |\n|---|---|\n")[1].split("\n\n")[0]
    told = [name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert sorted(told) == sorted({name for names in known for name in names.split(",")})


def test_commands_of_make_are_its_targets():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    for page in PAGES:
        for target in re.findall(r"(?:^|`)make (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert target in targets, named(page)


@pytest.fixture(scope="module")
def docstrings() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docstrings", ROOT / "docs/docstrings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_markdown_of_docstrings_becomes_restructuredtext(docstrings):
    lines = ["`a`s, 2 * b and c_", "", "    x = `y`", "", "    z", "", "Args:", "  d: `e`.", "", ">>> `f`"]
    docstrings.to_rst(None, "function", "name", None, None, lines)
    text = r"``a``\ s, 2 \* b and c\_"
    assert lines == [text, "", "::", "", "    x = `y`", "", "    z", "", "", "Args:", "  d: ``e``.", "", ">>> `f`"]


def test_comments_beside_fields_become_their_description(docstrings):
    fields = docstrings.fields(Cohort)
    assert fields.keys() == {*Cohort._fields}
    assert fields["client"].startswith("[M, C] int32") and fields["counts"].endswith("does not exist for it")
