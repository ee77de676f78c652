"""Ctrl-C and SIGTERM: one line, the exit code of the signal, and nothing of it is lost."""

import os
import signal
import sys
import time

import pytest
import yaml
from killing import make_models, small_recipe

from tutelage.interrupts import Interrupted, interruptible


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_start_of_training(tmp_path, number):
    make_models(tmp_path)
    recipe = {**small_recipe(tmp_path), "controls": {}, "selection": {"metric": None}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run, said = tmp_path / "run", tmp_path / "said"
    child = os.fork()
    if child == 0:
        sys.stderr = said.open("w", buffering=1)
        from tutelage.cli import main

        sys.argv = ["tutelage", "run", str(tmp_path / "recipe.yaml"), "--run-dir", str(run)]
        try:
            main()
        except SystemExit as ended:
            sys.stderr.flush()
            os._exit(ended.code)
        os._exit(99)
    while not (run / "arms/cpd/training").exists():
        time.sleep(0.002)
    os.kill(child, number)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + number
    *_, last = said.read_text().splitlines()
    assert last.startswith("interrupted: ") and "the same command goes on" in last
    assert "Traceback" not in said.read_text()


@pytest.mark.parametrize(("command", "goes_on"), [("eval", True), ("chat", False)])
def test_only_what_goes_on_says_so(monkeypatch, capsys, command, goes_on):
    from tutelage import cli

    def stopped():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", stopped)
    monkeypatch.setattr(sys, "argv", ["tutelage", command, "some"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 130 and said.startswith("interrupted")
    assert ("the same command goes on" in said) == goes_on


def test_what_a_library_swallows_is_raised_again():
    class Swallows:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

    with pytest.raises(Interrupted) as found, interruptible():
        one = Swallows()
        del one
        time.sleep(60)
    assert found.value.number == signal.SIGINT
