"""A server that answers prompts, and what it may do wrong."""

import threading
import time

import pytest

from loopback import Hostile, asked, chat_completion, completion, drip, hang_up, stall
from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ConfigError, DataError, ModelError, ServerError
from tutelage.generation import Chat, GenerationSettings
from tutelage.generation.engines import server_calls
from tutelage.generation.engines.table import what_decides
from tutelage.types import Message

SETTINGS = GenerationSettings(max_new_tokens=8)
SAMPLED = GenerationSettings(max_new_tokens=8, sampling_temperature=0.7, top_p=0.9, top_k=5)
HELLO = Chat((Message("system", "Be brief."), Message("user", "Hello?")))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(server_calls, "FIRST_WAIT", 0.001)


def echo(body, number):
    return completion(f"after {body['prompt']}", tokens=min(3, body["max_tokens"]))


def once(bad):
    """The first request meets something bad, the others do not."""
    return lambda body, number: bad if number == 0 else echo(body, number)


BUSY = (429, {"error": {"message": "slow down"}}, {"retry-after": "0.01"})


def _named(value):
    """The same id in every process, for functions too."""
    return getattr(value, "__name__", str(value)[:40])


@pytest.mark.parametrize(
    "bad",
    [
        BUSY,
        (500, {"error": "oops"}),
        (503, b"<html>upstream</html>"),
        b'{"choices": [{"text": "half',
        b"[" * 100_000,
        b"null",
        hang_up,
        {"choices": []},
        {"choices": None},
        {},
        {"choices": [{"text": "a"}, {"text": "b"}]},
        {"choices": ["text"]},
        {"choices": [{"text": None}]},
        {"choices": [{"text": 5}]},
        {"error": {"message": "overloaded", "code": 502}},
    ],
    ids=_named,
)
def test_what_may_pass_is_asked_again(bad):
    with Hostile(once(bad)) as server:
        answers = asked(server.url).answer(["a", "b"], SETTINGS)
        assert [answer.text for answer in answers] == ["after a", "after b"]
        assert len(server.asked) == 3


@pytest.mark.parametrize("bad", [stall, drip])
def test_a_server_that_takes_too_long_is_asked_again(bad):
    with Hostile(once(bad)) as server:
        (answer,) = asked(server.url, timeout=0.4, retries=20).answer(["a"], SETTINGS)
        assert answer.text == "after a" and len(server.asked) >= 2


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (BUSY, "asked 3 times; at last: HTTP 429: slow down."),
        ((500, {"error": {"message": "oops \x1b[2J"}}), r"at last: HTTP 500: oops \\x1b\[2J"),
        (b"no json", "what it sent is no JSON"),
        ({"choices": []}, "it sent 0 answers to a prompt that has one"),
        (hang_up, "the connection broke"),
        (stall, "no answer within 0.3 seconds"),
    ],
    ids=_named,
)
def test_a_server_that_does_not_mend_is_named_with_its_fault(bad, words):
    with (
        Hostile(lambda body, number: bad) as server,
        pytest.raises(ServerError, match=words) as caught,
    ):
        options = {"timeout": 0.3, "retries": 0} if bad is stall else {"retries": 2}
        asked(server.url, **options).answer(["a"], SETTINGS)
    for part in (server.url, "See that it runs", "None of 1 answers had come"):
        assert part in str(caught.value)


def test_a_wait_that_is_asked_for_is_kept_by_all_and_a_day_is_too_long(monkeypatch):
    waits = []
    monkeypatch.setattr(server_calls.Server, "_pause", lambda _, seconds: waits.append(seconds))
    with Hostile(once((429, {}, {"retry-after": "200"}))) as server:
        asked(server.url).answer(["a", "b", "c"], SETTINGS)
    assert len(waits) == 4 and waits[0] == 200, "one was told to, and each request heeds it"
    assert all(190 < wait <= 200 for wait in waits)
    late = (429, {"error": {"message": "daily limit"}}, {"retry-after": "86400"})
    with (
        Hostile(lambda body, number: late) as server,
        pytest.raises(ServerError, match="asks to wait 86,400 seconds"),
    ):
        asked(server.url).answer(["a"], SETTINGS)
    assert len(server.asked) == 1


def test_waits_grow_and_are_not_longer_than_half_a_minute_or_so(monkeypatch):
    waits = []
    monkeypatch.setattr(server_calls, "FIRST_WAIT", 0.5)
    monkeypatch.setattr(server_calls.Server, "_pause", lambda _, seconds: waits.append(seconds))
    with Hostile(lambda body, number: (500, {})) as server, pytest.raises(ServerError):
        asked(server.url, retries=9).answer(["a"], SETTINGS)
    assert len(server.asked) == 10
    least = [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert all(a <= wait <= a * 1.25 for a, wait in zip(least, waits, strict=True))


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, "bad key secret-1", "key in the environment variable SOME_KEY"),
        (404, "no such model", "name of the model"),
        (400, "context length exceeded", "Prompt 0: .*context length exceeded"),
        (429, "no money", "nothing left to spend"),
    ],
)
def test_what_will_not_pass_is_said_at_once_and_without_the_key(monkeypatch, status, error, words):
    monkeypatch.setenv("SOME_KEY", "secret-1")
    code = "insufficient_quota" if status == 429 else None
    said = (status, {"error": {"message": error, "code": code}})
    with (
        Hostile(lambda body, number: said) as server,
        pytest.raises(ServerError, match=words) as caught,
    ):
        asked(server.url, key_env="SOME_KEY").answer(["a"], SETTINGS)
    assert "secret-1" not in str(caught.value)
    assert len(server.asked) <= 4  # 400: a poorer request might have done
    headers = {name.lower(): value for name, value in server.headers[0].items()}
    assert headers["authorization"] == "Bearer secret-1"


def test_what_has_come_is_handed_over_when_the_server_dies():
    came = {}

    def answer(body, number):
        if number >= 5:
            return 500, {}
        time.sleep(0.05 if number == 4 else 0.0)  # on its way while another one fails
        return echo(body, number)

    prompts = [str(number) for number in range(20)]
    with Hostile(answer) as server, pytest.raises(ServerError) as caught:
        asked(server.url, retries=1, concurrency=3).answer(
            prompts, SETTINGS, on_answer=lambda position, answer: came.update({position: answer})
        )
    assert len(came) == 5
    assert all(answer.text == f"after {prompts[position]}" for position, answer in came.items())
    assert "5 of 20 answers had come; they are kept" in str(caught.value)
    assert len(server.asked) <= 5 + 3 * 2, "nobody begins another one"


def test_a_server_that_is_not_there():
    with Hostile(echo) as server:
        url = server.url
    with pytest.raises(ServerError, match=r"no connection.*See that it runs"):
        asked(url, retries=1).answer(["a"], SETTINGS)


def test_no_more_requests_at_once_than_asked_for_and_the_first_goes_alone():
    def answer(body, number):
        time.sleep(0.02)
        return echo(body, number)

    with Hostile(answer) as server:
        engine = asked(server.url, concurrency=3)
        calls = []
        answers = engine.answer(
            [str(i) for i in range(12)], SETTINGS, progress=lambda *call: calls.append(call)
        )
        assert server.most_at_once <= 3
    assert [a.text for a in answers] == [f"after {i}" for i in range(12)]
    assert calls == [(i + 1, 12) for i in range(12)]


def test_callbacks_come_in_the_thread_that_asked():
    threads = set()
    with Hostile(echo) as server:
        asked(server.url).answer(
            ["a"] * 6, SETTINGS, on_answer=lambda *_: threads.add(threading.current_thread())
        )
    assert threads == {threading.current_thread()}


def test_settings_reach_the_server():
    with Hostile(echo) as server:
        engine = asked(server.url, model="big")
        engine.answer(["a"], SETTINGS, seed=7)
        engine.answer(["a", "b"], SAMPLED, seed=[7, 2**48 + 3])
    greedy, first, second = server.asked
    assert greedy["model"] == "big" and greedy["prompt"] == "a" and greedy["max_tokens"] == 8
    assert greedy["temperature"] == 0 and "seed" not in greedy and greedy["top_k"] == -1
    assert greedy["repetition_penalty"] == 1 and greedy["min_p"] == 0
    assert (first["temperature"], first["top_p"], first["top_k"]) == (0.7, 0.9, 5)
    assert {one["prompt"]: one["seed"] for one in (first, second)} == {"a": 7, "b": 3}


def test_stop_strings_end_an_answer_even_where_the_server_leaves_them_on():
    settings = GenerationSettings(max_new_tokens=8, stop_strings=tuple("vwxyz"))
    with Hostile(lambda body, number: completion("one z two", finish="length", tokens=8)) as server:
        (answer,) = asked(server.url).answer(["a"], settings)
    assert (answer.text, answer.finish) == ("one ", "stop")
    assert server.asked[0]["stop"] == list("vwxy")


@pytest.mark.parametrize(
    ("said", "tokens", "finish"),
    [
        ("stop", 3, "stop"), ("stop", 8, "stop"), ("length", 8, "length"), ("length", 3, "length"),
        ("eos", 3, "stop"), ("tool_calls", 3, "stop"), ("content_filter", 3, "length"),
        (None, 8, "length"), (None, 3, "stop"), ("banana", 8, "length"), (["stop"], 3, "stop"),
    ],
)  # fmt: skip
def test_reasons_of_the_end(said, tokens, finish):
    with Hostile(lambda body, number: completion("x", finish=said, tokens=tokens)) as server:
        (answer,) = asked(server.url).answer(["a"], SETTINGS)
    assert (answer.finish, answer.num_tokens) == (finish, tokens)


def test_a_server_that_ignores_the_limit_is_refused():
    with (
        Hostile(lambda body, number: completion("x", tokens=9)) as server,
        pytest.raises(ServerError, match="9 tokens where it was asked for 8 at most"),
    ):
        asked(server.url).answer(["a"], SETTINGS)


@pytest.mark.parametrize("count", [None, -1, 0, "5", True, 2.5])
def test_tokens_that_a_server_does_not_count_are_counted_here(count):
    value = completion("57+36=")
    value["usage"] = {"completion_tokens": count}
    with Hostile(lambda body, number: value) as server:
        (with_tokenizer,) = asked(server.url, build_tokenizer()).answer(["1"], SETTINGS)
        (without,) = asked(server.url).answer(["1"], SETTINGS)
    assert with_tokenizer.num_tokens == without.num_tokens == 7


@pytest.mark.parametrize(
    ("found", "logprobs"),
    [
        ({"token_logprobs": [-0.5, -1]}, (-0.5, -1.0)),
        ({"content": [{"logprob": -0.5}, {"logprob": 0}]}, (-0.5, 0.0)),
        ({"token_logprobs": [-0.5]}, None),
        ({"token_logprobs": [-0.5, 0.5]}, None),
        ({"token_logprobs": [-0.5, None]}, None),
        ({"content": "no"}, None),
        ("no", None),
    ],
)
def test_log_probabilities_are_taken_where_there_is_one_for_each_token(found, logprobs):
    with Hostile(lambda body, number: completion("x", tokens=2, logprobs=found)) as server:
        (answer,) = asked(server.url).answer(["a"], SETTINGS)
    assert answer.logprobs == logprobs


def test_half_characters_do_not_travel():
    content = b'{"choices": [{"text": "a\\ud83d", "finish_reason": "length"}]}'
    with Hostile(lambda body, number: content) as server:
        (answer,) = asked(server.url).answer(["a"], SETTINGS)
    assert answer.text == "a"


def picky(refused, words):
    """A server that refuses requests with certain keys."""

    def answer(body, number):
        found = [key for key in refused if key in body]
        if found or ("tokens" in refused and not isinstance(body.get("prompt", ""), str)):
            return 400, {"error": {"message": words.format(key=(found or ["input"])[0])}}
        return completion("fine") if "prompt" in body else chat_completion("fine")

    return Hostile(answer)


@pytest.mark.parametrize("words", ["unrecognized argument: {key}", "Bad Request"])
@pytest.mark.parametrize(
    "refused", [["logprobs"], ["top_k", "min_p"], ["seed"], ["tokens"], ["logprobs", "seed"]]
)
def test_what_a_server_does_not_take_is_left_out_from_then_on(refused, words):
    warm = GenerationSettings(max_new_tokens=8, sampling_temperature=0.7)
    with picky(refused, words) as server:
        engine = asked(server.url, build_tokenizer())
        answers = engine.answer([[5, 6], [7]], warm)
        tries = len(server.asked)
        answers += engine.answer([[5, 6], [7]], warm)
    assert {answer.text for answer in answers} == {"fine"}
    assert len(server.asked) == tries + 2, "found out once"
    if "tokens" in refused:
        # Requests go side by side, in any order.
        assert {one["prompt"] for one in server.asked[-2:]} == {
            build_tokenizer().decode(tokens) for tokens in ([5, 6], [7])
        }


def test_a_top_k_that_a_server_does_not_take_is_not_left_out():
    with (
        picky(["top_k"], "unknown: {key}") as server,
        pytest.raises(ConfigError, match="does not take `top_k`"),
    ):
        asked(server.url).answer(["a"], SAMPLED)


def test_a_conversation_goes_to_the_chat_api_and_a_text_where_it_is_told():
    with Hostile(lambda body, number: chat_completion("Hi.", tokens=2)) as server:
        (answer,) = asked(server.url).answer([HELLO], SETTINGS)
        asked(server.url, api="chat").answer(["Hello?"], SETTINGS)
        assert set(server.paths) == {"/v1/models", "/v1/chat/completions"}
        with pytest.raises(ConfigError, match="token ids"):
            asked(server.url, api="chat").answer([[1, 2]], SETTINGS)
    assert answer.text == "Hi." and answer.num_tokens == 2
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
    assert [one["messages"] for one in server.asked] == [turns, turns[1:]]


def test_a_conversation_is_written_here_where_only_texts_are_continued():
    tokenizer = build_tokenizer()
    with Hostile(echo) as server:
        for own, error in ((None, ConfigError), (tokenizer, DataError)):
            with pytest.raises(error, match="chat template"):
                asked(server.url, own, api="completions").answer([HELLO], SETTINGS)
        tokenizer.chat_template = "{% for m in messages %}{{ m['content'][:1] }}{% endfor %}="
        one = Chat((Message("system", "5"), Message("user", "7")))
        asked(server.url, tokenizer, api="completions").answer([one], SETTINGS)
    assert server.asked[-1]["prompt"] == tokenizer("57=")["input_ids"]


def test_newer_chat_servers_name_the_limit_otherwise():
    words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    with picky(["max_tokens"], words) as server:
        asked(server.url).answer([HELLO], SETTINGS)
    assert server.asked[-1]["max_completion_tokens"] == 8
    assert server.asked[-1]["logprobs"] is True


def test_a_server_with_other_tokens_is_refused(monkeypatch):
    tokenizer = build_tokenizer()
    with Hostile(echo) as server:
        monkeypatch.setattr(server_calls.Server, "tokens_of", lambda *_: [1, 2, 3])
        with pytest.raises(ModelError, match="another tokenizer"):
            asked(server.url, tokenizer).answer([[5]], SETTINGS)
    assert not server.asked


def test_a_limit_of_the_whole_needs_a_tokenizer_and_may_leave_no_room():
    settings = GenerationSettings(max_new_tokens=8, max_total_tokens=3)
    with Hostile(echo) as server:
        full, short = asked(server.url).answer([[5, 6, 7], [5, 6]], settings)
        with pytest.raises(ConfigError, match="max_total_tokens"):
            asked(server.url).answer(["5 6"], settings)
        for nothing, words in (
            ("", "Prompt 1 has no tokens"),
            (Chat(()), "has no turns"),
            (Chat((Message("user", "a"), Message("assistant", "b"))), "nothing is asked"),
        ):
            with pytest.raises(DataError, match=words):
                asked(server.url).answer(["5", nothing], SETTINGS)
    assert (full.text, full.num_tokens, full.finish) == ("", 0, "length")
    assert [one["max_tokens"] for one in server.asked] == [1] and short.text


@pytest.mark.parametrize(
    ("models", "error", "words"),
    [
        ((), ServerError, "lists no model"),
        (("a", "b"), ConfigError, r"lists 2 models: a, b\. Name the one"),
    ],
)
def test_the_model_is_named_where_the_server_has_not_just_one(models, error, words):
    with Hostile(echo, models) as server, pytest.raises(error, match=words):
        asked(server.url)


def test_the_key_comes_from_the_environment_and_stays_there(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is empty"):
        asked("https://example.invalid/v1", model="m")
    monkeypatch.setenv("MY_KEY", "secret-2")
    engine = asked("https://example.invalid/v1", model="m", key_env="MY_KEY")
    assert "secret-2" not in repr(vars(engine)) + repr(vars(engine.server)["_client"])


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://me:secret-3@127.0.0.1:8000/v1", "holds a name, password or query"),
        ("https://a.invalid/v1?key=secret-3", "holds a name, password or query"),
        ("secret-3", "no address"),
        ("ftp://secret-3/v1", "no address"),
        ("http://[secret-3", "no address"),
    ],
)
def test_an_address_with_a_password_is_refused_and_not_repeated(url, words):
    with pytest.raises(ConfigError, match=words) as caught:
        what_decides("server", {"base_url": url})
    assert "secret-3" not in str(caught.value)


def test_what_costs_time_alone_is_no_part_of_what_answers_are_known_by():
    with Hostile(echo) as server:
        plain = what_decides("server", {"base_url": server.url})
        other = what_decides(
            "server",
            {"base_url": server.url.upper().replace("HTTP", "http").replace("V1", "v1/"),
             "key_env": "X", "concurrency": 2, "timeout": 5.0, "retries": 0},
        )  # fmt: skip
        assert plain == other == {"kind": "server", "base_url": server.url}
        found = what_decides("server", {"base_url": server.url}, ask=True)
    assert found["model"] == "tiny"


def test_ctrl_c_waits_for_nobody():
    go_on = threading.Event()

    def answer(body, number):
        return echo(body, number) if number < 2 else lambda handler: go_on.wait(4)

    came = []

    def interrupt(position, answer):
        came.append(position)
        if len(came) == 2:
            raise KeyboardInterrupt

    with Hostile(answer) as server:
        engine = asked(server.url, timeout=60.0)
        with pytest.raises(KeyboardInterrupt):
            engine.answer([str(i) for i in range(9)], SETTINGS, on_answer=interrupt)
        assert server.at_once > 0, "others are on their way"
        go_on.set()
