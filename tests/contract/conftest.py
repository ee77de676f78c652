"""Contract tests run on an accelerator where `TUTELAGE_TEST_DEVICE` names one."""

import os

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def on_the_device():
    name = os.environ.get("TUTELAGE_TEST_DEVICE", "cpu")
    if name == "cpu":
        yield
        return
    with torch.device(name):
        yield
