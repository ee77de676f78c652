"""Spoilt files for property tests: bytes and JSON values with a few changes."""

import copy
import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tutelage.errors import TutelageError

EXAMPLES = int(os.environ.get("TUTELAGE_FUZZ", "0"))
"""How many examples of each property; 0: the same few every time."""

few = settings(
    max_examples=EXAMPLES or 12,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)

ODD = [
    None, True, False, 0, -1, 1, 7, 2**31, 2**63, -(2**63), 2**64, 10**400, 0.5, -0.0, 1e308,
    float("nan"), float("inf"), "", "text", "/etc/passwd", "../..", "\ud800", "\0", "9" * 5000,
    [], [[]], [None], {}, {"kind": []}, [1, "x", None],
]  # fmt: skip
"""Values that belong nowhere."""

BYTES = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([b"\0", b"\xff\xfe", b"\n", b"{", b'"', b",", b"NaN", b"1e999", b"null",
                     b"-1", b"\xed\xa0\x80", b"[" * 2000, b"9" * 5000, b"\r", b"\xef\xbb\xbf"]),
)  # fmt: skip
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "insert", "replace", "delete", "cut", "double"]),
        st.floats(0, 1, exclude_max=True),
        BYTES,
    ),
    min_size=1,
    max_size=4,
)
"""Changes of bytes."""


def edited(content, edits):
    """Bytes with changes."""
    for way, where, what in edits:
        place = int(where * (len(content) + 1))
        before, after = content[:place], content[place:]
        if way == "flip" and after:
            content = before + bytes([after[0] ^ (1 << len(what) % 8)]) + after[1:]
        elif way == "insert":
            content = before + what + after
        elif way == "replace":
            content = before + what + after[len(what) :]
        elif way == "delete":
            content = before + after[1 + 5 * len(what) :]
        elif way == "cut":
            content = before
        elif way == "double":
            content = before + after[:40] + after
    return content


JSON_EDITS = st.lists(
    st.tuples(
        st.sampled_from(["value", "value", "value", "delete", "more"]),
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(ODD),
    ),
    min_size=1,
    max_size=3,
)
"""Changes of a JSON value."""


def _places(value):
    """Every container and key in a value."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield value, key
            yield from _places(one)
    elif isinstance(value, list):
        for key, one in enumerate(value):
            yield value, key
            yield from _places(one)


def json_edited(value, edits):
    """A JSON value with changes somewhere in it."""
    value = [copy.deepcopy(value)]
    for way, where, what in edits:
        places = list(_places(value))
        container, key = places[int(where * len(places))]
        if way == "delete" and container is not value:
            del container[key]
        elif way == "more" and isinstance(container[key], list):
            container[key].append(copy.deepcopy(what))
        elif way == "more" and isinstance(container[key], dict):
            container[key]["more"] = copy.deepcopy(what)
        else:
            container[key] = copy.deepcopy(what)
    return value[0]


NOT_READ = object()


def read_or_refused(read, *names):
    """What a reader gives, or ``NOT_READ`` where it refuses in one of the project's own errors.

    Args:
        read: the reader.
        names: one of them must be in the message.
    """
    try:
        return read()
    except TutelageError as error:
        text = str(error)
        assert any(str(name) in text for name in names), text
        assert "Traceback" not in text and len(text) < 30_000
        text.encode("utf-8", "strict")
        return NOT_READ
