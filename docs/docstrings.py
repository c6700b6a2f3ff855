"""From the docstrings of this project to what autodoc reads: Markdown to reStructuredText, comments to fields.

In the sources `code` stands in single backticks and an indented block is preformatted, as in Markdown. What a field of
a NamedTuple or a dataclass holds is said by the comment beside it.
"""

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from typing import Any

SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):$")
CODE = re.compile(r"``.+?``|`([^`]+)`(?=(\w?))", re.DOTALL)
SPECIAL = re.compile(r"[\\*|]|(?<=\w)_(?!\w)")


def to_rst(app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Rewrites a docstring's lines in place."""
    del app, name, obj, options
    # Of what is no function or class, napoleon takes a first line's text before a colon for a type; of this, nothing.
    first = [r"\ "] if what in ("attribute", "data", "property") else []
    lines[:] = first + [line for block in blocks(lines) for line in rewritten(block)]


def blocks(lines: list[str]) -> Iterator[list[str]]:
    """Runs of lines, each with the blank lines after it; a section and what is preformatted stay whole."""
    block: list[str] = []
    for line in lines:
        inside = block and (
            (SECTION.match(block[0]) and line.startswith(" "))
            or (block[0].startswith("    ") and line.startswith("    "))
        )
        if block and not block[-1] and line and not inside:
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def rewritten(block: list[str]) -> list[str]:
    """One block as reStructuredText."""
    if block[0].startswith(">>>"):
        return block
    if block[0].startswith("    "):
        return ["::", "", *block, ""]
    return inline("\n".join(block)).split("\n")


def inline(text: str) -> str:
    """Code in double backticks, and characters that mean something to reStructuredText with a backslash."""
    parts, end = [], 0
    for code in CODE.finditer(text):
        parts += [SPECIAL.sub(r"\\\g<0>", text[end : code.start()]), f"``{code[1]}``" if code[1] else code[0]]
        parts += [r"\ "] if code[2] else []
        end = code.end()
    return "".join([*parts, SPECIAL.sub(r"\\\g<0>", text[end:])])


def add_fields(app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Adds a section of the class's fields, where comments in the source tell what they are."""
    del app, name, options
    if what == "class" and (found := fields(obj)):
        lines += ["", "Attributes:", *(f"  {field}: {comment}" for field, comment in found.items()), ""]


def fields(cls: type) -> dict[str, str]:
    """Field -> the comment beside it and on the lines after it, or the string below it."""
    try:
        source = inspect.cleandoc("\n" + inspect.getsource(cls))
    except (OSError, TypeError):  # an alias, or a class that no file holds
        return {}
    [tree] = ast.parse(source).body
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    alone = {number for number, line in enumerate(source.splitlines(), 1) if line.lstrip().startswith("#")}
    found: dict[str, str] = {}
    body = getattr(tree, "body", [])
    for node, after in zip(body, [*body[1:], None]):
        if not isinstance(node, ast.AnnAssign) or node.target.id.startswith("_"):
            continue
        said = [comments[node.end_lineno]] if node.end_lineno in comments else []
        line = node.end_lineno + 1
        while said and line in alone:
            said.append(comments[line])
            line += 1
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            said.append(inspect.cleandoc(after.value.value).replace("\n", " "))
        if said:
            found[node.target.id] = " ".join(said)
    return found


def readable(
    app: Any, what: str, name: str, obj: object, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """A signature whose defaults are Python: a function that a dataclass holds is shown as `...`."""
    del app, what, name, obj, options
    return signature and re.sub(r"<function [\w.]*(<lambda>)?>", "...", signature), returns


def skip_fields(app: Any, what: str, name: str, obj: object, skip: bool, options: Any) -> bool | None:
    """Leaves out a NamedTuple's "Alias for field number 0": `add_fields` has told what it is."""
    del app, what, name, options
    return True if type(obj).__name__ == "_tuplegetter" else None
