"""A run whose teacher is stored: the same as with a live one, resumable, shared, and checked."""

import json
import weakref

import pytest
import torch
import yaml
from killing import (
    assert_same_students,
    in_processes,
    killed_run,
    make_models,
    run_in_child,
    small_recipe,
)
from test_e2e_cli import tutelage

from tutelage.errors import StoreError
from tutelage.pipeline import cache, run
from tutelage.pipeline.context.models import Models
from tutelage.pipeline.run import prepared
from tutelage.pipeline.stages.room import check_room
from tutelage.pipeline.stages.signal import prepare_stores
from tutelage.pipeline.stages.store import store_needs, stores_wanted
from tutelage.training import DistillTrainer


@pytest.fixture
def recipe(tmp_path):
    make_models(tmp_path)
    recipe = small_recipe(tmp_path)
    recipe["student"] = {"model": str(tmp_path / "calm")}
    recipe["controls"] = {"rkl": {"extends": "rkl", "curriculum": {"stages": 3}}}
    return recipe


def with_teacher(recipe, **changes):
    return {**recipe, "teacher": {**recipe["teacher"], **changes}}


def records(folder, arm="cpd"):
    lines = (folder / f"arms/{arm}/metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_what_a_stopped_run_spent_on_a_store_is_noted_there(tmp_path, recipe, monkeypatch):
    recipe = {**with_teacher(recipe, signal="hidden"), "controls": {}}
    stages = "tutelage.pipeline.stages.store"
    with monkeypatch.context() as patch:  # a kill just before the note
        patch.setattr(f"{stages}.atomic_write_json", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            cache(recipe, run_dir=tmp_path / "run")
    clock = tmp_path / "run" / "seconds.json"
    before = json.loads(clock.read_text())["seconds"]["teacher store"]
    (store,) = (tmp_path / "runs/cache").glob("store-*")
    assert before > 0.05 and not (store / "seconds.json").exists()
    for _ in range(2):  # once and for all
        cache(recipe, run_dir=tmp_path / "run")
        noted = json.loads((store / "seconds.json").read_text())["seconds"]
        after = json.loads(clock.read_text())["seconds"]["teacher store"]
        assert noted == pytest.approx(before, abs=0.05) == after
    # Another run pays for it.
    cache(recipe, run_dir=tmp_path / "other")
    paid = json.loads((tmp_path / "other" / "seconds.json").read_text())["seconds"]
    assert paid["teacher store"] == noted


def test_stored_and_live_teachers_train_the_same_student(tmp_path, recipe):
    live = run(with_teacher(recipe, signal="live"), run_dir=tmp_path / "live").folder
    hidden = run(with_teacher(recipe, signal="hidden"), run_dir=tmp_path / "hidden").folder
    assert json.loads((hidden / "signal/signal.json").read_text()) == dict.fromkeys(
        ("cpd", "rkl"), "hidden"
    )
    for arm in ("cpd", "rkl"):
        for a, b in zip(records(live, arm), records(hidden, arm), strict=True):
            assert a["kd"] == pytest.approx(b["kd"], rel=1e-3, abs=1e-6)
            assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)
        found = json.loads((hidden / f"arms/{arm}/evaluation/agreement.json").read_text())
        expected = json.loads((live / f"arms/{arm}/evaluation/agreement.json").read_text())
        assert found == pytest.approx(expected, rel=5e-3)


def test_a_teacher_that_is_stored_is_not_loaded(tmp_path, recipe, monkeypatch):
    recipe = {**recipe, "evaluation": {**recipe["evaluation"], "teacher": False}, "controls": {}}
    (stored,) = cache(recipe)
    assert stored.added == stored.examples > 40 and stored.folder.is_dir()
    (again,) = cache({**recipe, "seed": 1, "name": "other"})
    assert again.folder == stored.folder and again.added == 0
    monkeypatch.setattr(Models, "load_teacher", lambda *_: pytest.fail("the teacher was loaded"))
    run(recipe)
    run({**recipe, "difficulty": {"kind": "dds"}})


def test_auto_stores_where_a_plan_reads_the_teacher_often(tmp_path, recipe):
    once = {**recipe, "curriculum": {"stages": 1, "total_steps": 2}, "controls": {}}
    with prepared(once) as session:
        assert prepare_stores(session) == {"cpd": "live"}
    own = {**recipe, "controls": {"gkd": {"extends": "gkd", "on_policy": {"max_new_tokens": 6}}}}
    own["controls"]["gkd"]["curriculum"] = {"stages": 3}
    folder = run(own).folder
    signal = json.loads((folder / "signal/signal.json").read_text())
    assert signal == {"cpd": "hidden", "gkd": "live"}


@pytest.mark.slow
def test_auto_stores_nothing_where_there_is_no_room(tmp_path, recipe, monkeypatch, capsys):
    recipe = {**recipe, "controls": {}}
    monkeypatch.setattr("tutelage.pipeline.stages.room.free_bytes", lambda _: 1000)
    folder = run({**recipe, "difficulty": {"kind": "dds"}}, quiet=False).folder
    assert json.loads((folder / "signal/signal.json").read_text()) == {"cpd": "live"}
    assert not list((folder.parent / "cache").glob("store-*"))
    said = " ".join(capsys.readouterr().err.split())
    assert "runs beside the student: its hidden states need" in said
    assert "0.0 MB are free" in said and "teacher.store: FOLDER" in said
    # What is there already needs no room.
    monkeypatch.undo()
    cache(recipe)
    monkeypatch.setattr("tutelage.pipeline.stages.room.free_bytes", lambda _: 1000)
    folder = run({**recipe, "seed": 1, "name": "again"}).folder
    assert json.loads((folder / "signal/signal.json").read_text()) == {"cpd": "hidden"}


def test_a_store_that_is_too_large_is_refused_with_what_would_fit(tmp_path, recipe, monkeypatch):
    recipe = with_teacher({**recipe, "controls": {}}, signal="hidden", top_k=2)
    free = "tutelage.pipeline.stages.room.free_bytes"
    with prepared(recipe) as session:
        needed = sum(need.bytes for need in store_needs(session, "cpd", "hidden"))
        said = []
        monkeypatch.setattr(session.display, "note", said.append)
        for room, words in ((0.5, "49% of the response tokens"), (1.0, "98% of the response")):
            monkeypatch.setattr(free, lambda _, room=room: int(needed * room))
            with pytest.raises(StoreError, match=words) as refused:
                prepare_stores(session)
            assert "likeliest 2 tokens alone would take about" in str(refused.value)
            assert "live" in str(refused.value) and "teacher.store: FOLDER" in str(refused.value)
        wanted = stores_wanted(session, {"cpd": "hidden"})
        monkeypatch.setattr(free, lambda _: int(needed * 1.1))
        check_room(session, wanted)
        assert len(said) == 1 and "takes no disk" in said[0] and "would fit" not in said[0]
        monkeypatch.setattr(free, lambda _: int(needed * 2.1))
        check_room(session, wanted)
        monkeypatch.setattr(free, lambda _: int(needed * 0.6))
        check_room(session, wanted, 2)  # of two parts one
        assert len(said) == 2
    assert not list((tmp_path / "runs" / "cache").glob("store-*"))


def test_offline_on_policy_lets_its_teacher_go(tmp_path, recipe, monkeypatch):
    own = {"fraction": 1.0, "reuse": 99, "max_new_tokens": 6}
    recipe = {**recipe, "extends": "offline_opd", "controls": {}, "on_policy": own}
    loaded, load = [], Models.load_teacher

    def watched(models, name):
        model = load(models, name)
        loaded.append(weakref.ref(model.model.layers[0].mlp.up_proj.weight))
        return model

    there, log = [], DistillTrainer.log

    def logging(trainer, logs, *more):
        log(trainer, logs, *more)
        if "loss" in logs:
            there.append(sum(one() is not None for one in loaded))

    monkeypatch.setattr(Models, "load_teacher", watched)
    monkeypatch.setattr(DistillTrainer, "log", logging)
    folder = run({**recipe, "curriculum": {"stages": 1, "passes": 3}}).folder
    wrote = [row["own_tokens"] > 0 for row in records(folder, "offline_opd")]
    assert wrote == sorted(wrote, reverse=True) and 2 < sum(wrote) < len(wrote) - 2
    assert there == [int(one) for one in wrote]


@pytest.mark.slow
def test_kills_while_the_teacher_is_stored(tmp_path, recipe):
    recipe = with_teacher(recipe, signal="hidden")
    assert run_in_child(recipe, tmp_path / "whole")
    recipe = {**recipe, "output": str(tmp_path / "others")}
    killed_run(recipe, tmp_path / "broken", seed=5, mean_life=0.5, max_kills=5)
    assert_same_students(tmp_path / "whole", tmp_path / "broken")


def test_damage_and_strangers_are_one_message(capsys, tmp_path, recipe):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(with_teacher(recipe, store=str(tmp_path / "kept"))))
    code, out, _ = tutelage(capsys, "cache", path)
    assert code == 0 and "(0 new)" not in out and str(tmp_path / "kept") in out
    code, out, _ = tutelage(capsys, "cache", path, "--json")
    assert code == 0 and json.loads(out)[0]["added"] == 0

    shard = next((tmp_path / "kept").glob("shard-*.safetensors"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:])
    code, _, err = tutelage(capsys, "run", path)
    assert code == 2 and "changed or damaged" in err and "Traceback" not in err
    shard.unlink()
    code, out, _ = tutelage(capsys, "cache", path)
    assert code == 0 and "(0 new)" not in out

    other = ("--set", f"teacher.model={tmp_path / 'calm'}")
    code, _, err = tutelage(capsys, "cache", path, *other)
    assert code == 2 and "was made from another teacher" in err
    code, _, err = tutelage(capsys, "cache", path, "--set", "teacher.signal=live")
    assert code == 2 and "nothing to store" in err


@pytest.mark.slow
def test_the_cache_command_shares_the_work_of_storing(tmp_path, recipe):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**recipe, "controls": {}}))
    (alone,) = cache({**recipe, "controls": {}})
    shared = tmp_path / "shared"
    said = in_processes(2, "cache", path, "--set", f"teacher.store={shared}")
    assert said.count("2 processes share the training") == 1
    from tutelage.teachers import TeacherStore

    one, two = TeacherStore(alone.folder), TeacherStore(shared)
    assert one.location.keys.tolist() == two.location.keys.tolist()
    for position in range(one.examples):
        first = one.read([position])["hidden"]
        torch.testing.assert_close(first, two.read([position])["hidden"])
