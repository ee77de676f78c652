"""The files and folders that a recipe names, made absolute where they are."""

from pathlib import Path

from tutelage.recipe.merge import default_kinds
from tutelage.recipe.nodes import Node

_PATHS = ("student.model", "student.init_from", "student.finetune.data", "teacher.model")
_SOURCES = ("student.finetune.data",)
_DATA_PATHS = ("data.train", "data.validation", "data.test")


def resolve_paths(tree: Node) -> Node:
    """Make local paths absolute that exist beside the recipe or here; hub names stay."""
    section = tree.get("data")
    if section is not None and isinstance(section.value, dict) and "kind" not in section.value:
        tree = tree.put("data.kind", Node(default_kinds()["data"], "default"))
    kind = tree.get("data.kind")
    data = _DATA_PATHS if kind is not None and kind.value == "files" else ()
    for path in (*_PATHS, *data):
        node = tree.get(path)
        several = path in (*_SOURCES, *data)
        if node is not None and several and isinstance(node.value, list):
            sources = [_source(one) for one in node.value]
            tree = tree.put(path, Node(sources, node.origin, node.folder))
        if node is None or not isinstance(node.value, str) or node.value in ("", "TEACHER"):
            continue
        tree = tree.put(path, _absolute(node))
    ladder = tree.get("teachers")
    if ladder is not None and isinstance(ladder.value, list):
        rungs = [
            rung.put("model", _absolute(model))
            if (model := rung.get("model")) is not None and isinstance(model.value, str)
            else rung
            for rung in ladder.value
        ]
        tree = tree.put("teachers", Node(rungs, ladder.origin, ladder.folder))
    suites = tree.get("evaluation.suites")
    if suites is not None and isinstance(suites.value, list):
        asked = [_with_files(suite) for suite in suites.value]
        tree = tree.put("evaluation.suites", Node(asked, suites.origin, suites.folder))
    return tree


def _source(node: Node) -> Node:
    """One of several sources of data, which is a text or a mapping with its path."""
    if isinstance(node.value, str) and node.value:
        return _absolute(node)
    path = node.get("path")
    if path is None or not isinstance(path.value, str) or not path.value:
        return node
    return node.put("path", _absolute(path))


def _with_files(suite: Node) -> Node:
    """A suite with the files that its options name."""
    if not isinstance(suite.value, dict):
        return suite
    for name, option in suite.value.items():
        if name not in ("kind", "name") and isinstance(option.value, str) and option.value:
            suite = suite.put(name, _absolute(option))
    return suite


def _absolute(node: Node) -> Node:
    """A path that exists beside its file or here, made absolute; any other name as it is."""
    for folder in (node.folder, Path.cwd()):
        if folder is not None and is_there(folder / node.value):
            return Node(str((folder / node.value).resolve()), node.origin, node.folder)
    return node


def is_there(path: Path) -> bool:
    """Whether something has this name; no file system has names that are too long for it."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
