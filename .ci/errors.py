"""The page of all error messages, read from the source: ``python .ci/errors.py > docs/errors.md``.

Every call of an error's class (a child of ``TutelageError``) below ``src/tutelage`` is one message.
What is filled in when it is raised is shown as ``{name}``. Where a message is chosen among several
texts, or is made by a small function beside it, each text is shown.
"""

import ast
import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tutelage import errors

SOURCE = Path(__file__).parents[1] / "src" / "tutelage"

# Which part of the system speaks, by the beginning of the module's path; the first that fits.
PARTS: dict[str, tuple[str, ...]] = {
    "Recipes and their settings": ("recipe/", "components", "settings", "placeholders", "errors"),
    "What `validate` and every start look at": ("checks/",),
    "Data": ("data/", "ids", "types"),
    "Models and tokenizers": ("models/", "overdue"),
    "Difficulty, curriculum, plan, schedules": ("difficulty/", "curriculum/", "schedules/"),
    "Divergences and targets": ("divergences/", "targets/"),
    "Teachers and what is stored of them": ("teachers/", "addresses"),
    "Answers: engines, servers, texts": ("generation/", "growing"),
    "Training": ("training/",),
    "Runs and run folders": ("pipeline/", "files", "locks"),
    "Evaluation, verifiers, judge, sandbox": ("evaluation/", "verifiers/", "statistics/"),
    "Studies and tune": ("studies/",),
    "Reports": ("report/",),
    "Commands": ("cli/", "catalogue", ""),
}

# Calls that change how a value looks: it is called as what they are given, or belong to.
_AROUND = {"join", "type", "len", "str", "int", "list", "map", "shorten", "first_line", "repr"}
_AROUND |= {"fromkeys", "sorted", "min", "max"}
_METHODS = {"replace", "strip", "item", "group", "start", "sum", "stat", "capitalize", "tolist"}

HEAD = """# Every error message

{count} messages, by the part of the system that says them. What is in braces is filled in: look for
a piece of your message that has no name, number or path in it. What to do stands in the message;
what lies behind the frequent ones is in [troubleshooting.md](troubleshooting.md).

A mistake that you can mend is one message on standard error, without a traceback, and **exit code
2**. Nothing is left half-written. Exit code 1 with a traceback is a mistake of ours: please report
it. 130 is Ctrl-C, 143 SIGTERM; the same command then goes on from where it was. In Python each is
an exception of `tutelage.errors`, a child of `TutelageError` and of a standard type:

| class | also a | raised when |
|---|---|---|
{classes}

A mistake in a recipe comes with its place: `mine.yaml:7: training.batch_size: must be a whole
number, not the text 'many'. It means: ...` A key that is not known is named with the place
where it belongs and with those that are known there; one that is missing, with its meaning. Several
mistakes are told at once, a line each.

This page is written from the source by `python .ci/errors.py > docs/errors.md`.
"""


@dataclass
class Message:
    """One text of an error: its class, its template, and the module that says it."""

    kind: str
    text: str
    module: str


@dataclass
class _Scope:
    """What names stand for where an error is made.

    Attributes:
        texts: expressions that a name may stand for, in the function around.
        makers: functions of the module, by name.
        given: templates of a maker's parameters, while its text is read.
    """

    texts: dict[str, list[ast.expr]] = field(default_factory=dict)
    makers: dict[str, ast.FunctionDef] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)


@functools.cache
def _trees() -> dict[Path, ast.Module]:
    """Every file of the source, parsed once."""
    return {p: ast.parse(p.read_text(encoding="utf-8")) for p in sorted(SOURCE.rglob("*.py"))}


@functools.cache
def kinds() -> dict[str, type]:
    """All classes of errors, also those that are defined elsewhere than in ``errors``."""
    found = {n: c for n, c in vars(errors).items() if inspect.isclass(c)}
    found = {n: c for n, c in found.items() if issubclass(c, errors.TutelageError)}
    for path, tree in _trees().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and {ast.unparse(b) for b in node.bases} & {*found}:
                found.setdefault(node.name, vars(importlib.import_module(_module(path)))[node.name])
    return found


def _module(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)


@functools.cache
def messages() -> list[Message]:
    """Every message that the source can give, once each."""
    classes = {*kinds(), "unknown_name"}
    found: dict[tuple[str, str], Message] = {}
    for path, tree in _trees().items():
        module = path.relative_to(SOURCE).with_suffix("").as_posix()
        makers = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
        for call, texts in _calls(tree, classes, None):
            kind = _called(call)
            for text in _texts(call, kind, _Scope(texts, makers)):
                kind = "ConfigError" if kind == "unknown_name" else kind
                found.setdefault((kind, text), Message(kind, text, module))
    return list(found.values())


def _calls(
    node: ast.AST, classes: set[str], function: ast.FunctionDef | None
) -> Iterator[tuple[ast.Call, dict[str, list[ast.expr]]]]:
    """Calls that make an error, each with what names were set to in the function around it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and _called(child) in classes:
            yield child, _assigned(function) if function else {}
        inner = child if isinstance(child, ast.FunctionDef) else function
        yield from _calls(child, classes, inner)


def _called(call: ast.Call) -> str:
    return getattr(call.func, "attr", None) or getattr(call.func, "id", "")


def _assigned(function: ast.FunctionDef) -> dict[str, list[ast.expr]]:
    """What is assigned to each name that only ever gets texts."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
            if isinstance(target, ast.Name):
                found.setdefault(target.id, []).append(node.value)
    return found


def _texts(call: ast.Call, kind: str, scope: _Scope) -> list[str]:
    """The templates of one error; none where its words are those of another error."""
    if kind == "unknown_name":
        what = _shown(call.args[0], scope)[0]
        return [f"Unknown {what} '{{name}}'. Did you mean '{{near}}'? Known: {{known}}."]
    parts = call.args[-1:]
    if not parts:
        return []
    texts = [" ".join(t.split()) for t in _shown(parts[0], scope)]
    path = _shown(call.args[0], scope)[0] if kind == "SettingError" and len(call.args) > 1 else ""
    own = [t for t in texts if re.search(r"[A-Za-z]{2,} ", re.sub(r"\{[^}]*\}", "", t))]
    return [f"{path}: {text}" if path else text for text in own]


def _shown(node: ast.expr, scope: _Scope, depth: int = 0) -> list[str]:
    """An expression as a template: what is filled in stands in braces."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return [_joined(node, scope)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = (_shown(n, scope, depth) for n in (node.left, node.right))
        return [a + b for a in left for b in right]
    if isinstance(node, ast.IfExp):
        return [t for n in (node.body, node.orelse) for t in _shown(n, scope, depth)]
    if isinstance(node, ast.Name) and node.id in scope.given:
        return [scope.given[node.id]]
    if isinstance(node, ast.Name) and depth == 0 and _are_texts(scope.texts.get(node.id, [])):
        return [t for n in scope.texts[node.id] for t in _shown(n, scope, 1)]
    if isinstance(node, ast.Call) and depth == 0 and _called(node) in scope.makers:
        return _made(node, scope)
    return [_placeholder(node)]


def _are_texts(values: list[ast.expr]) -> bool:
    return bool(values) and all(
        isinstance(v, ast.JoinedStr | ast.IfExp | ast.BinOp)
        or (isinstance(v, ast.Constant) and isinstance(v.value, str))
        for v in values
    )


def _made(call: ast.Call, scope: _Scope) -> list[str]:
    """What a function of the module returns for these arguments."""
    maker = scope.makers[_called(call)]
    names = [a.arg for a in maker.args.args]
    given = {n: _shown(a, scope, 1)[0] for n, a in zip(names, call.args, strict=False)}
    returned = [n.value for n in ast.walk(maker) if isinstance(n, ast.Return) and n.value]
    if not _are_texts(returned):
        return [_placeholder(call)]
    inside = _Scope(_assigned(maker), scope.makers, given)
    return [t for value in returned for t in _shown(value, inside, 1)]


def _joined(node: ast.JoinedStr, scope: _Scope) -> str:
    """The parts of an f-string, without hints such as "Did you mean 'kld'?", which come and go."""
    parts = []
    for value in node.values:
        if isinstance(value, ast.Constant):
            parts.append(str(value.value))
        elif isinstance(value, ast.FormattedValue):
            inner = value.value
            if isinstance(inner, ast.Call) and _called(inner) == "did_you_mean":
                continue
            if isinstance(inner, ast.Constant) or getattr(inner, "id", "") in scope.given:
                parts.append(_shown(inner, scope, 1)[0])
            else:
                parts.append(_placeholder(inner))
    return "".join(parts)


def _placeholder(node: ast.expr) -> str:
    """What stands for a value that is filled in: the word for it in the source."""
    return f"{{{_word(node)}}}"


def _word(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id.strip("_").lower()
    if isinstance(node, ast.Attribute):
        inner = _word(node.value)
        if node.attr in {"__name__", "__version__"}:
            return f"{inner.removeprefix('type of ')} {node.attr.strip('_')}"
        node = ast.Attribute(node.value, node.attr.strip("_"), node.ctx)
        vague = node.attr in {"name", "kind", "path", "stem", "strerror", "reason", "msg"}
        return f"{inner} {node.attr}" if vague and inner not in {"self", "..."} else node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        key = node.slice.value
        return key if isinstance(key, str) else _word(node.value)
    if isinstance(node, ast.Subscript | ast.Starred):
        return _word(node.value)
    if isinstance(node, ast.Call):
        name = _called(node)
        if name in _METHODS and isinstance(node.func, ast.Attribute):
            return _word(node.func.value)
        if name == "get" and isinstance(node.args[0], ast.Constant):
            return str(node.args[0].value)
        if name in _AROUND:
            inner = _word(node.args[-1]) if node.args else "..."
            return {"type": f"type of {inner}", "len": f"number of {inner}"}.get(name, inner)
        if name == "cwd":
            return "working folder"
        return name.strip("_").replace("_", " ")
    if isinstance(node, ast.GeneratorExp | ast.ListComp):
        return _word(node.generators[0].iter)
    if isinstance(node, ast.BoolOp):
        return _word(node.values[0])
    if isinstance(node, ast.IfExp):
        return _word(node.body)
    if isinstance(node, ast.BinOp):
        last = node.right.value if isinstance(node.right, ast.Constant) else None
        return _word(node.left) + (f"/{last}" if isinstance(last, str) else "")
    return "..."


def _part(module: str) -> str:
    return next(t for t, starts in PARTS.items() if any(module.startswith(s) for s in starts))


def page() -> str:
    """The whole page, as Markdown."""
    found = messages()
    rows = [_class_row(name, kind) for name, kind in kinds().items()]
    lines = [HEAD.format(count=len(found), classes="\n".join(rows))]
    for title in PARTS:
        here = [m for m in found if _part(m.module) == title]
        if here:
            lines.append(f"\n## {title}")
        for kind in sorted({m.kind for m in here}):
            lines.append(f"\n`{kind}`\n")
            texts = sorted((m.text for m in here if m.kind == kind), key=str.lower)
            lines += [f"- `` {text} ``" for text in texts]
    return "\n".join(lines) + "\n"


def _class_row(name: str, kind: type) -> str:
    standard = [b.__name__ for b in kind.__bases__ if b is not errors.TutelageError]
    first = inspect.cleandoc(kind.__doc__ or "").splitlines()[0].replace("|", "\\|")
    return f"| `{name}` | {', '.join(f'`{s}`' for s in standard)} | {first} |"


if __name__ == "__main__":
    print(page(), end="")
