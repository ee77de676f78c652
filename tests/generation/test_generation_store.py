"""Texts on the disk: whole chunks or nothing, whatever kills a process, and no text twice."""

import errno
import json
import os
import signal
import time
from dataclasses import replace

import pytest

from tutelage.errors import RunFolderError
from tutelage.generation import TextStore, WrittenText

INPUTS = {"writer": "strong", "prompt": "plain", "seed": 3}
# Characters of several bytes, and characters that end a line elsewhere but not in JSON Lines.
TEXTS = ["1+1=2", "\u4e8c\u52a0\u4e8c", "a\u2028b\u0085c\nd\r\ne", '\U0001f600 {}"\\']


def text(example_id, sample=0, content="4", **changes):
    whole = WrittenText(
        id=example_id,
        sample=sample,
        text=content,
        writer="strong",
        num_tokens=5,
        truncated=False,
        score=1.0,
        seed=11,
        sampling_temperature=0.7,
    )
    return replace(whole, **changes)


CHUNKS = [
    [text("a", content=TEXTS[0]), text("b", content=TEXTS[1], score=None)],
    [text("a", 1, TEXTS[2], truncated=True)],
    [text("c", content=TEXTS[3], score=0.25), text("d", content="")],
]


def filled(path):
    store = TextStore(path, INPUTS)
    for chunk in CHUNKS:
        store.add(chunk)
    return store


def content(path):
    return (path / "texts.jsonl").read_bytes()


def test_what_is_written_can_be_read_by_anyone(tmp_path):
    filled(tmp_path / "new" / "texts")
    folder = tmp_path / "new" / "texts"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["inputs"] == INPUTS and len(manifest["fingerprint"]) == 64
    lines = content(folder).decode().split("\n")
    assert lines.pop() == ""
    rows = [
        [(row["id"], row["sample"], row["text"]) for row in json.loads(x)["texts"]] for x in lines
    ]
    assert rows == [[(t.id, t.sample, t.text) for t in chunk] for chunk in CHUNKS]
    assert json.loads(lines[0])["texts"][1] == {
        "id": "b",
        "sample": 0,
        "text": "\u4e8c\u52a0\u4e8c",
        "writer": "strong",
        "num_tokens": 5,
        "truncated": False,
        "score": None,
        "seed": 11,
        "sampling_temperature": 0.7,
        "tokens": [],
    }


def test_reading(tmp_path):
    for store in (filled(tmp_path), TextStore(tmp_path, INPUTS)):
        assert len(store) == 5
        assert list(store) == [written for chunk in CHUNKS for written in chunk]
        assert store.get("a") == CHUNKS[0][0] and store.get("a", 1) == CHUNKS[1][0]
        assert store.get("b", 1) is None and store.get("z") is None
        assert store.missing(["z", "b", "a", "y"]) == ["z", "y"]
        assert store.missing(["b", "a"], 1) == ["b"]


@pytest.mark.parametrize(
    ("score", "truncated", "right"),
    [(1.0, False, True), (0.5, False, True), (0.49, False, False), (1.0, True, False)],
)
def test_right(score, truncated, right):
    assert text("a", score=score, truncated=truncated).right is right
    assert text("a", score=None, truncated=truncated).right is None


def test_other_inputs_are_refused_and_named(tmp_path):
    filled(tmp_path)
    before = content(tmp_path)
    other = {"writer": "strong", "prompt": "step_by_step", "temperature": 0.0}
    with pytest.raises(RunFolderError, match=r"differs: prompt, seed, temperature\)"):
        TextStore(tmp_path, other)
    assert content(tmp_path) == before
    # The order of the inputs and the kind of a list are no difference.
    TextStore(tmp_path / "lists", {"a": [1, 2], "b": None})
    TextStore(tmp_path / "lists", {"b": None, "a": (1, 2)})


def test_texts_without_a_manifest_are_refused(tmp_path):
    filled(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(RunFolderError, match="without the manifest"):
        TextStore(tmp_path, INPUTS)


def test_a_file_cut_anywhere_keeps_its_whole_chunks(tmp_path):
    filled(tmp_path)
    whole = content(tmp_path)
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    assert len(ends) == len(CHUNKS)
    for cut in range(len(whole)):
        (tmp_path / "texts.jsonl").write_bytes(whole[:cut])
        store = TextStore(tmp_path, INPUTS)
        kept = sum(end <= cut for end in ends)
        assert list(store) == [written for chunk in CHUNKS[:kept] for written in chunk]
        for chunk in CHUNKS[kept:]:
            store.add(chunk)
        assert content(tmp_path) == whole


@pytest.mark.parametrize("place", range(0, 400, 7))
def test_no_flipped_byte_is_read_as_another_text(tmp_path, place):
    whole = filled(tmp_path)
    damaged = bytearray(content(tmp_path))
    damaged[place % len(damaged)] ^= 1
    (tmp_path / "texts.jsonl").write_bytes(damaged)
    try:
        found = TextStore(tmp_path, INPUTS)
    except RunFolderError as error:
        assert "is damaged" in str(error)
    else:
        # The end of a last line: it counts as cut short, and is written again.
        assert set(found) < set(whole)


@pytest.mark.parametrize("damage", [b'[{"id": "a"}]\n', b"[[[\n", b"\xff\xfe\n", b"3\n", b"\n"])
def test_a_damaged_line_is_named(tmp_path, damage):
    filled(tmp_path)
    first, *others = content(tmp_path).splitlines(keepends=True)
    (tmp_path / "texts.jsonl").write_bytes(first + damage + b"".join(others))
    with pytest.raises(RunFolderError, match="line 2 is damaged"):
        TextStore(tmp_path, INPUTS)


def test_a_text_is_written_once_and_the_first_stays(tmp_path):
    store = filled(tmp_path)
    before = content(tmp_path)
    store.add([text("a", content="other"), text("b", content="other")])
    store.add([])
    assert content(tmp_path) == before
    store.add([text("a", content="other"), text("e", content="one"), text("e", content="two")])
    again = TextStore(tmp_path, INPUTS)
    assert list(again) == list(store)
    assert again.get("a").text == "1+1=2" and again.get("e").text == "one"
    assert content(tmp_path).count(b"\n") == 4


@pytest.mark.parametrize("failing", ["write", "fsync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch, failing, number):
    store = TextStore(tmp_path, INPUTS)
    store.add(CHUNKS[0])
    before = content(tmp_path)
    write = os.write

    def full(descriptor, rest=b""):
        if failing == "write" and len(rest) > 20:
            return write(descriptor, bytes(rest[:20]))  # a disk takes what it can before it refuses
        raise OSError(number, os.strerror(number))

    for _ in range(2):
        with monkeypatch.context() as patch:
            if failing == "write":
                patch.setattr("tutelage.growing.os.write", full)
            else:
                patch.setattr("tutelage.growing.os.fsync", full)
            with pytest.raises(RunFolderError, match=r"(disk is full|quota).*texts\.jsonl"):
                store.add(CHUNKS[1])
        assert content(tmp_path) == before
        assert list(store) == CHUNKS[0]
    for chunk in CHUNKS[1:]:
        store.add(chunk)
    assert list(TextStore(tmp_path, INPUTS)) == [t for chunk in CHUNKS for t in chunk]


def test_writes_that_stop_short_are_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr("tutelage.growing.os.write", lambda fd, rest: write(fd, bytes(rest[:7])))
    filled(tmp_path)
    assert list(TextStore(tmp_path, INPUTS)) == [t for chunk in CHUNKS for t in chunk]


def test_two_stores_in_one_folder_see_each_other(tmp_path):
    one, two = TextStore(tmp_path, INPUTS), TextStore(tmp_path, INPUTS)
    one.add([text("a", content="one"), text("b", content="one")])
    two.add([text("b", content="two"), text("c", content="two")])
    one.add([text("c", content="one"), text("d", content="one")])
    expected = {"a": "one", "b": "one", "c": "two", "d": "one"}
    assert {t.id: t.text for t in one} == {t.id: t.text for t in TextStore(tmp_path, INPUTS)}
    assert {t.id: t.text for t in one} == expected


def in_child(action):
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return child


def test_processes_take_turns(tmp_path):
    def work(own):
        store = TextStore(tmp_path, INPUTS)
        for number in range(40):
            store.add([text(f"{own}-{number}", content=own * 3000), text("shared", number, own)])

    children = [in_child(lambda own=own: work(own)) for own in "xyz"]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    store = TextStore(tmp_path, INPUTS)
    assert len(store) == 3 * 40 + 40
    rows = [row for line in content(tmp_path).splitlines() for row in json.loads(line)["texts"]]
    assert len(rows) == len(store)
    assert all(store.get(f"{own}-39").text == own * 3000 for own in "xyz")


def test_killed_processes_leave_whole_chunks(tmp_path):
    TextStore(tmp_path, INPUTS)

    def work():
        store = TextStore(tmp_path, INPUTS)
        number = len(store) // 2
        while True:
            names = f"{number}", f"{number}'"
            store.add([text(name, content="\u4e8c" * 50_000) for name in names])
            number += 1

    for number in range(6):
        child = in_child(work)
        time.sleep(0.05 + 0.01 * number)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        store = TextStore(tmp_path, INPUTS)
        assert len(store) % 2 == 0
        assert {t.id for t in store} == {
            name for n in range(len(store) // 2) for name in (f"{n}", f"{n}'")
        }
    assert len(store) > 0
