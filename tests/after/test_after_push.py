"""Publishing: what goes, where to, and what is said when it does not; with the hub's own client."""

import json

import pytest
from fake_hub import TOKEN, FakeHub
from safetensors.torch import save_file

from tutelage.errors import RunFolderError
from tutelage.exporting.push import pack


@pytest.fixture
def hub(monkeypatch):
    """A hub that the client asks; the function makes one that fails in some way."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def make(**broken):
        made = FakeHub(broken)
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        return made

    return make


@pytest.fixture
def folder(tmp_path):
    """What an export writes, without a model that anybody could load."""
    import torch

    place = tmp_path / "exported"
    place.mkdir()
    save_file({"w": torch.zeros(4)}, place / "model.safetensors")
    (place / "config.json").write_text("{}")
    (place / "README.md").write_text("---\nlicense: mit\n---\n# A student\n")
    return place


def test_a_student_of_a_run_goes_to_a_private_repository(asked, hub, tutelage):
    with hub() as server:
        code, out, err = tutelage("push", asked, "me/student", "--yes", "--dtype", "bfloat16")
        assert code == 0, err
        assert out.startswith(f"pushed: {server.url}/me/student/commit/") and "(private)" in out
        assert server.repositories["me/student"]["private"]
        files = server.files("me/student")
    assert {"model.safetensors", "README.md", "tokenizer.json", "tutelage.json"} <= set(files)
    assert not any(name.endswith((".jsonl", ".pt", ".html", "manifest.json")) for name in files)
    assert "warning: the model card names no licence" in err or b"\nlicense:" in files["README.md"]
    assert json.loads(files["tutelage.json"])["dtype"] == "bfloat16"
    assert TOKEN not in out + err


def test_a_second_push_sends_what_changed(folder, hub, tutelage):
    with hub() as server:
        assert tutelage("push", folder, "me/s", "--yes")[0] == 0
        sent = len(server.paths("PUT"))
        (folder / "README.md").write_text("---\nlicense: mit\n---\n# Another\n")
        code, _, err = tutelage("push", folder, "me/s", "--yes", "--public")
        assert code == 0 and "is private; it stays so" in err
        assert b"Another" in server.files("me/s")["README.md"]
        assert sent == 1 and len(server.paths("PUT")) == 1, "weights are there already"
        code, out, _ = tutelage("push", folder, "me/s", "--yes", "--revision", "v2", "--json")
        assert code == 0 and json.loads(out)["private"] and server.files("me/s", "v2")
        blob = server.files("me/s")["model.safetensors"]
        server.repositories["me/s"]["private"] = False
        code, _, err = tutelage("push", folder, "me/s", "--yes")
        assert code == 2 and "everybody sees it" in err
    assert blob == (folder / "model.safetensors").read_bytes()


def test_it_is_shown_first_and_nothing_goes_without_a_yes(folder, hub, tutelage, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    with hub() as server:
        code, out, err = tutelage("push", folder, "me/s", "--dry-run")
        assert code == 0 and "model.safetensors" in out and "bytes in all" in out and not err
        (folder / "README.md").write_text("made from /home/somebody/data.jsonl")
        code, out, err = tutelage("push", folder, "me/s")
        assert "README.md name folders below '/home/somebody'" in err
        assert "the model card names no licence" in err
        assert code == 2 and "nobody else will see" in err and "--yes" in err
        assert server.asked == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("optimizer.pt", "optimizer.pt"),
        ("answers.jsonl", "answers.jsonl"),
        ("logs/events.out.tfevents.1", "logs/events.out.tfevents.1"),
        ("report.html", "--with-report"),
        ("pytorch_model.bin", "pytorch_model.bin"),
        (".env", ".env"),
    ],
)
def test_what_should_stay_stays(folder, hub, tutelage, name, says):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    with hub() as server:
        code, _, err = tutelage("push", folder, "me/s", "--yes")
        assert code == 2 and says in err and "should not go" in err and server.asked == []
        if name == "report.html":
            assert tutelage("push", folder, "me/s", "--yes", "--with-report")[0] == 0
            assert server.files("me/s")["report.html"] == b"x"


def test_a_folder_without_weights_or_with_links_is_refused(folder, tmp_path):
    (tmp_path / "secret").write_text("x")
    (folder / "LICENSE").symlink_to(tmp_path / "secret")
    with pytest.raises(RunFolderError, match="LICENSE"):
        pack(folder)
    (folder / "LICENSE").unlink()
    (folder / "model.safetensors").unlink()
    with pytest.raises(RunFolderError, match="holds no weights"):
        pack(folder)


@pytest.mark.parametrize(
    ("part", "status", "says"),
    [
        ("whoami", 401, "does not accept the token"),
        ("repos/create", 403, "does not let this token write"),
        ("preupload", 404, "knows no such repository"),
        ("commit", 409, "somebody else writes there"),
        ("commit", 500, "The hub failed"),
        ("batch", 500, "The hub failed"),
    ],
)
def test_a_hub_that_refuses_is_one_message(folder, hub, tutelage, part, status, says):
    with hub(**{part: status}):
        code, out, err = tutelage("push", folder, "me/s", "--yes")
    assert code == 2 and says in err and "Traceback" not in err and not out
    assert TOKEN not in err and str(status) in err
    assert err.count("error: ") == 1


def test_a_hub_that_is_away_a_bad_name_and_no_token(folder, hub, tutelage, monkeypatch, tmp_path):
    with hub() as server:
        pass
    code, _, err = tutelage("push", folder, "me/s", "--yes")
    assert code == 2 and "cannot be reached" in err and server.url in err
    for name in ("student", "a/b/c", "me/.."):
        code, _, err = tutelage("push", folder, name, "--yes")
        assert code == 2 and "error: " in err and "Traceback" not in err
    code, _, err = tutelage("push", folder, "me/s", "--yes", "--arm", "kld")
    assert code == 2 and "are for run folders" in err
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    code, _, err = tutelage("push", folder, "me/s", "--yes")
    assert code == 2 and "Nobody is logged in" in err
