"""A whole run with a teacher that is stored as its likeliest tokens."""

import json

from killing import make_models, small_recipe

from tutelage.pipeline import run


def test_the_likeliest_tokens_train_too(tmp_path):
    make_models(tmp_path)
    recipe = small_recipe(tmp_path)
    recipe["teacher"] |= {"signal": "topk", "top_k": 5}
    recipe["controls"] = {"rkl": {"extends": "rkl", "curriculum": {"stages": 3}}}
    folder = run(recipe).folder
    for arm in ("cpd", "rkl"):
        lines = (folder / f"arms/{arm}/metrics.jsonl").read_text().splitlines()
        assert lines and all(json.loads(line)["kd"] >= 0 for line in lines)
