"""Reading ahead gives what reading gives, whatever is asked; errors come where it is asked."""

import threading

import numpy as np
import pytest
import torch

from tutelage.teachers.store import ahead
from tutelage.teachers.store.ahead import ReadAhead

TOKENS = np.arange(40) % 5 + 1
STARTS = np.cumsum(TOKENS) - TOKENS
ALL = torch.arange(int(TOKENS.sum()) * 2).reshape(-1, 2)


class Store:
    def __init__(self):
        self.threads, self.began = [], []

    def read(self, positions):
        self.threads.append(threading.current_thread().name)
        self.began.append(positions.tolist())
        if 13 in positions:
            raise ValueError("thirteen")
        parts = [ALL[STARTS[i] : STARTS[i] + TOKENS[i]] for i in positions]
        return torch.cat(parts)


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def reader(store):
    reader = ReadAhead(store.read, TOKENS.__getitem__, ALL.itemsize * 2)
    yield reader
    reader.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("teacher store")]


def equal(found, store, *positions):
    return torch.equal(found, Store.read(Store(), np.array(positions)))


def test_what_was_expected_is_read_elsewhere(reader, store):
    for batch in ([3, 1, 4], [1, 5], [9, 2, 6], [1, 5]):
        reader.expect(np.array(batch))
    # In parts, and with a part that has no example.
    assert equal(reader.take(np.array([3])), store, 3)
    assert equal(reader.take(np.array([1, 4])), store, 1, 4)
    assert equal(reader.take(np.array([1, 5])), store, 1, 5)
    assert "MainThread" not in store.threads
    # What nobody expected is read here, and disturbs nothing.
    assert equal(reader.take(np.array([7, 7])), store, 7, 7)
    assert store.threads.count("MainThread") == 1
    # What nobody asks for is passed over.
    assert equal(reader.take(np.array([1, 5])), store, 1, 5)
    assert equal(reader.take(np.array([9])), store, 9)
    assert store.threads.count("MainThread") == 2


def test_an_error_comes_where_it_is_asked(reader, store):
    reader.expect(np.array([1]))
    reader.expect(np.array([12, 13]))
    assert equal(reader.take(np.array([1])), store, 1)
    with pytest.raises(ValueError, match="thirteen"):
        reader.take(np.array([12, 13]))
    assert equal(reader.take(np.array([1])), store, 1)


def test_no_more_is_read_ahead_than_fits(reader, store, monkeypatch):
    monkeypatch.setattr(ahead, "BYTES_AHEAD", ALL.itemsize * 2 * int(TOKENS[[4, 9]].sum()))
    for batch in ([4], [9], [14], [4], [9]):
        reader.expect(np.array(batch))
    assert sum(one.read is not None for one in reader._batches) == 2
    for batch in ([4], [9], [14], [4], [9]):
        assert equal(reader.take(np.array(batch)), store, *batch)
        assert sum(one.read is not None for one in reader._batches) <= 2
    assert store.began == [[4], [9], [14], [4], [9]]
