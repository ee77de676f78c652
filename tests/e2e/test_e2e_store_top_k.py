"""A whole run with a teacher that is stored as its likeliest tokens."""

import json

from killing import make_models, small_recipe

from tutelage.pipeline import cache, run


def test_the_likeliest_tokens_train_too(tmp_path):
    make_models(tmp_path)
    recipe = small_recipe(tmp_path)
    recipe["teacher"] |= {"signal": "topk", "top_k": 5}
    recipe["controls"] = {"rkl": {"extends": "rkl", "curriculum": {"stages": 3}}}
    folder = run(recipe).folder
    for arm in ("cpd", "rkl"):
        lines = (folder / f"arms/{arm}/metrics.jsonl").read_text().splitlines()
        assert lines and all(json.loads(line)["kd"] >= 0 for line in lines)


def test_what_the_likeliest_tokens_lose_is_said(tmp_path):
    make_models(tmp_path)
    lost = {}
    for top_k in (2, 8):
        recipe = small_recipe(tmp_path)
        recipe["teacher"] |= {"signal": "topk", "top_k": top_k}
        (stored,) = cache(recipe, run_dir=tmp_path / f"cached-{top_k}")
        assert {one.temperature for one in stored.errors} == {1.0, 2.0}
        for one in stored.errors:
            assert one.response_tokens > 100
            assert 0 < one.stored <= one.exact * (1 + 1e-3)
        lost[top_k] = {
            (one.divergence, one.temperature): one.exact - one.stored for one in stored.errors
        }
    assert all(lost[8][which] < lost[2][which] for which in lost[2])
    again = cache(recipe, run_dir=tmp_path / "cached-8")[0]
    assert again.added == 0 and again.errors == stored.errors
