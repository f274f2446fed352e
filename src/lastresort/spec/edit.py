"""Changes to the text of a task file or a training file, so that what its author wrote stays: comments, order, spelling.

A key is set as a form sets it; a file is moved to another folder with the names of its files. Every change is read back before it
is given out. A task that has no text is written as a short one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import yaml

from lastresort.errors import TaskError
from lastresort.spec.document import TASK, FileKind, compose_document, document_of, parse_document
from lastresort.spec.paths import relative_name
from lastresort.spec.values import Section
from lastresort.types import Json, JsonObject

END_OF_DOCUMENT = "...\n"
_UNNAMED = ("task", "about")  # keys whose text names no file, whatever it says
_NEAR = 3  # folders up, beyond which the whole path reads better
_OPEN = ("knowledge", "preferences", "start_from", "data", "examples")  # keys whose text does, also without a suffix


def with_key(
    text: str, key: str, value: Json, *, short: str = "", name: str = "task.yaml", kind: FileKind = TASK
) -> str:
    """The text with one key set, None to remove it.

    key: dotted, at most two deep. short: the key of its section that a plain value there stands for, as `kind` does in
    `adapter: lora`. name: what errors call the file. Raises TaskError for a text that is not YAML, and for one in which the key
    cannot be set.
    """
    top, _, below = key.partition(".")
    root = compose_document(text, name, kind)
    before = document_of(root, name).values
    wanted = _with(before.get(top), below, value, short) if below else value
    if before.get(top) == wanted and (wanted is not None or top not in before):
        return text
    pair = next(((one, other) for one, other in root.value if one.value == top), None)
    changed = _appended(text, top, wanted) if pair is None else _replaced(text, pair, wanted)
    after: JsonObject = {**before, top: wanted}
    if wanted is None:
        del after[top]
    try:
        found = parse_document(changed, name, kind).values if after else {}
    except TaskError:
        found = None
    if found != after:
        raise TaskError(
            "found a text in which this key cannot be set from the form",
            where=f'{name}, key "{key}"',
            expected="a key a line",
            remedy="Change it in the text.",
        )
    return changed


_BEHIND = re.compile(r"(?P<sign>[ \t]+# )(?P<said>.+)")
_ABOVE = re.compile(r"(?P<sign>^# )(?P<said>.+)\n\Z", re.MULTILINE)


def with_comments(
    text: str, key: str, change: Callable[[str], str], *, name: str = "task.yaml", kind: FileKind = TASK
) -> str:
    """The text with the comments of a key at the left margin changed: the one behind its value, and the line above it.

    change: given each without its sign; "" takes it away. Raises TaskError for a text that is not YAML.
    """
    root = compose_document(text, name, kind)
    pair = next(((one, other) for one, other in root.value if one.value == key), None)
    if pair is None:
        return text
    begin, end = text.rfind("\n", 0, pair[0].start_mark.index) + 1, _end(text, pair[1])
    for found in (
        _BEHIND.match(text, end),
        _ABOVE.search(text, 0, begin),
    ):  # the later one first: places before it stay
        if found is not None and (said := change(found["said"])) != found["said"]:
            close = found.end("said") if said else found.end()
            text = text[: found.start()] + (found["sign"] + said if said else "") + text[close:]
    return text


def _with(section: Json, below: str, value: Json, short: str) -> Json:
    """The section with one of its keys set; None where nothing is left of it."""
    found: dict[str, Json] = dict(section) if isinstance(section, Mapping) else {}
    if section is not None and not isinstance(section, Mapping) and short:
        found[short] = section
    if value is None:
        found.pop(below, None)
    else:
        found[below] = value
    return found or None


def _appended(text: str, key: str, value: Json) -> str:
    if value is None:
        return text
    gap = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{gap}{key}: {written(value)}\n"


def _replaced(text: str, pair: tuple[yaml.Node, yaml.Node], value: Json) -> str:
    key, node = pair
    end = _end(text, node)
    if value is None:
        begin = text.rfind("\n", 0, key.start_mark.index) + 1
        close = text.find("\n", end)
        return text[:begin] + (text[close + 1 :] if close >= 0 else "")
    begin = text.index(":", key.end_mark.index) + 1
    return f"{text[:begin]} {written(value)}{text[max(begin, end) :]}"


def _end(text: str, node: yaml.Node) -> int:
    """Where the node's own text ends: a block ends for YAML only where the next key begins, comments included."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    found = node.end_mark.index
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        found = len(text[:found].rstrip())
    return int(found)


def written(value: Json) -> str:
    """A value on one line, as a file writes it."""
    text = yaml.safe_dump(value, allow_unicode=True, sort_keys=False, width=1_000_000, default_flow_style=True)
    return text.removesuffix(END_OF_DOCUMENT).strip()


def written_task(values: JsonObject) -> str:
    """A resolved task as a file, a key a line, without what is so by default."""
    from lastresort.spec.task import Task

    kept: JsonObject = {}
    for key, value in values.items():
        default = Task.model_fields[key].get_default(call_default_factory=True)
        usual = default.model_dump(mode="json") if isinstance(default, Section) else default
        if key in ("task", "about", "model", "score", "bar") or value not in (None, [], {}, usual):
            given = value
            if isinstance(value, Mapping):
                base = usual if isinstance(usual, Mapping) else {}
                given = {name: one for name, one in value.items() if one is not None and one != base.get(name)}
            kept[key] = given
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)


def moved(text: str, old: Path, new: Path, *, name: str = "task.yaml", kind: FileKind = TASK) -> str:
    """The text of a file in the folder `old` as one in `new` would say it: its names of files reach the same ones.

    old, new: absolute. Raises TaskError for a text that is not YAML.
    """
    root = compose_document(text, name, kind)
    changes = []
    for key, node in _texts(root, ()):
        named = _moved_name(node.value, key, old, new)
        if named is not None and named != node.value:
            changes.append((node.start_mark.index, _end(text, node), named))
    for begin, end, named in sorted(changes, reverse=True):
        text = text[:begin] + written(named) + text[end:]
    return text


def _texts(node: yaml.Node, key: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], yaml.ScalarNode]]:
    if isinstance(node, yaml.MappingNode):
        for name, inner in node.value:
            yield from _texts(inner, (*key, str(name.value)))
    elif isinstance(node, yaml.SequenceNode):
        for inner in node.value:
            yield from _texts(inner, key)
    elif isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str":
        yield key, node


def _moved_name(value: str, key: tuple[str, ...], old: Path, new: Path) -> str | None:
    """None for a text that names no file or folder there."""
    prefix, rest = ("scripted:", value.removeprefix("scripted:")) if value.startswith("scripted:") else ("", value)
    name, colon, function = rest.rpartition(":") if ".py:" in rest else (rest, "", "")
    if not name.strip() or "\n" in name or key[0] in _UNNAMED or key[-1] == "choices" or Path(name).is_absolute():
        return None
    if key[0] not in _OPEN and not {"/", "."} & set(name):
        return None
    path = old / name
    try:
        if not path.exists():
            return None
    except (OSError, ValueError):
        return None
    found = relative_name(path.absolute(), new)
    if found.count("../") > _NEAR:
        found = path.resolve().as_posix()
    keeps = name.startswith(("./", "../")) or key[-1] == "model"
    return f"{prefix}{'./' if keeps and not found.startswith(('.', '/')) else ''}{found}{colon}{function}"
