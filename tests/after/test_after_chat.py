"""A conversation asks as training and evaluation asked, and shows what the engine answers."""

import json
import os
import pty
import select
import shutil
import signal
import sys
import time

import pytest
import torch

from conftest_models import tiny_model
from loopback import serving
from tutelage.chatting.conversation import Conversation
from tutelage.chatting.speakers import Speaker, Table
from tutelage.data import Opening, tokenize_examples
from tutelage.data.arithmetic import build_tokenizer
from tutelage.data.asking import PromptFormat
from tutelage.exporting.described import write_description
from tutelage.generation import AskedModel, GenerationSettings, LocalEngine
from tutelage.generation.streaming import stream
from tutelage.types import Example, Message

CHAT = (
    "{% for m in messages %}{% if m.role == 'system' %}={{ m.content }}={% elif m.role == 'user' %}"
    "?{{ m.content }}{% else %}#{{ m.content }}<eos>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}#{% endif %}"
)
# As Qwen 3 does: an answer without thoughts is opened with an empty block of them.
THINKING = CHAT.replace("#{{ m.content }}", "#{% if m.content %}=;{% endif %}{{ m.content }}")


def words(text):
    return (Message("user", text),)


def tokenizer_with(template=None):
    tokenizer = build_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("fields", "template", "chat", "system"),
    [
        ({"prompt": "1+2?"}, "auto", None, None),
        ({"question": "1+2?"}, "plain", None, "12"),
        ({"instruction": "1+2?"}, "auto", None, None),
        ({"instruction": "1+2?", "input": "7"}, "alpaca", None, None),
        ({"question": "1+2?", "answer": "5"}, "#{question}=", None, None),
        ({"question": "1+2?", "hint": "9"}, "{hint}#{question}=", None, "3"),
        ({"prompt": "1+2?"}, "auto", CHAT, None),
        ({"instruction": "1+2?"}, "chat", CHAT, "77"),
        ({"instruction": "1+2?", "input": "7"}, "auto", CHAT, None),
        ({"prompt": "1+2?"}, "auto", THINKING, "77"),
        ({"prompt": "1+2?"}, "plain", CHAT, None),
    ],
)
def test_a_question_becomes_the_tokens_that_evaluation_gives(fields, template, chat, system):
    tokenizer = tokenizer_with(chat)
    example = Example("a", fields, "3")
    made = tokenize_examples([example], tokenizer, template=template, system=system)
    row = made.dataset[0]
    opening = Opening(**made.summary["opening"]) if made.summary["opening"] else None
    form = PromptFormat.of_data(example, template=template, system=system, opening=opening)
    given = {name: fields[name] for name in ("hint", "input") if name in fields}
    form = PromptFormat.from_json(json.loads(json.dumps(form.as_json()))).with_values(given)
    assert form.tokens(words("1+2?"), tokenizer) == row["input_ids"][: row["num_prompt_tokens"]]
    assert form.text(words("1+2?"), tokenizer) == row["prompt"]
    assert (chat is THINKING) == bool(form.opening.more)


def test_what_the_format_lacks_is_said(tutelage, asked):
    form = PromptFormat.of_data(
        Example("a", {"question": "", "hint": ""}, ""), template="{hint}{question}"
    )
    with pytest.raises(Exception, match="--field hint=TEXT"):
        form.example("1")
    with pytest.raises(Exception, match="nothing says which one"):
        PromptFormat.of_data(Example("a", {"x": "", "y": ""}, ""), template="{x}{y}")
    with pytest.raises(Exception, match="knows no character"):
        form.tokens(words("äöü"), tokenizer_with())
    for arguments, says in [
        (["--field", "hint=1"], "Unknown field of the prompt 'hint'"),
        (["--field", "hint"], "has no '='"),
        (["--beside", "x", "--no-teacher"], "--no-teacher wants nobody"),
        (["--beside", asked], "takes one model"),
        (["--arm", "none"], "no arm 'none'"),
        (["--temperature", "-1"], "sampling_temperature"),
    ]:
        code, _, err = tutelage("chat", asked, *arguments, "--prompt", "1")
        assert code == 2 and says in err, err


@pytest.mark.parametrize(
    "changes", [{}, {"sampling_temperature": 2.0}, {"stop_strings": ("1", "7")}]
)
def test_what_is_shown_is_what_the_engine_answers(changes):
    model = tiny_model(vocab=19, seed=5)
    with torch.no_grad():
        model.lm_head.weight[:3] = 0  # so that answers have a length
    engine = LocalEngine(model, build_tokenizer())
    settings = GenerationSettings(max_new_tokens=24, **changes)
    for seed in range(4):
        pieces = []
        answer = stream(engine, [3, 4, 5 + seed], settings, seed=seed, on_text=pieces.append)
        (wanted,) = engine.answer([[3, 4, 5 + seed]], settings, seed=seed)
        assert answer == wanted and "".join(pieces) == wanted.text
    count = iter(range(100))
    answer = stream(
        engine,
        [3, 4],
        GenerationSettings(24),
        on_text=pieces.append,
        stopped=lambda: next(count) == 3,
    )
    assert answer.truncated and answer.num_tokens == 3


@pytest.fixture
def spoken():
    """A conversation with a model of a chat template, and what was said beside the answers."""
    model, tokenizer = tiny_model(vocab=19, seed=3), tokenizer_with(CHAT)
    asked = [AskedModel("", lambda: model, tokenizer) for _ in range(2)]
    student, teacher = (Speaker(n, PromptFormat(), a) for n, a in zip("st", asked, strict=True))
    settings, said = GenerationSettings(max_new_tokens=4), []
    return Conversation(Table(student, teacher, settings), settings, 0, said.append), said


def test_turns_follow_each_other_until_they_are_forgotten(spoken, capsys):
    conversation, said = spoken
    student = conversation.table.student
    lines = iter(["12", "", "34", "/teacher", "56", None])
    conversation.hold(lambda: next(lines))
    asked = [turn.content for turn in student.turns[::2]]
    assert asked == ["12", "34", "56"] and len(conversation.table.teacher.turns) == 4
    first, second = student.turns[1].content, student.turns[3].content
    form, tokenizer = student.format, student.asked.tokenizer
    assert form.text([*student.turns[:4], *words("5")], tokenizer) == (
        f"?12#{first}<eos>?34#{second}<eos>?5#"
    )
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(f"s: {first}") and shown[1].startswith(f"t: {first}")
    assert "(t is silent)" in said[0]

    commands = ["/temperature 0.5", "/temperature", "/temperature -1", "/temperature hot", "/what"]
    lines = iter([*commands, "/system 99", "/system", "/help", "/quit", "7"])
    conversation.hold(lambda: next(lines))
    assert next(lines) == "7", "nothing is asked after /quit"
    assert student.turns == [] and student.format.system == "99"
    text = "\n".join(said)
    for one in ("temperature: 0.5", "error: ", "'hot' is no temperature", "There is no command"):
        assert one in text
    assert form.text(words("5"), tokenizer) == "?5#"
    assert student.format.text(words("5"), tokenizer) == "=99=?5#"


def test_a_conversation_that_fills_the_model_says_so(spoken, capsys):
    conversation, _ = spoken
    lines = iter(["1" * 60, "2", None])
    conversation.hold(lambda: next(lines))
    assert "no room left in the model: /reset" in capsys.readouterr().out


def test_pipes_ask_every_line_alone_as_evaluation_did(asked, tutelage, tmp_path):
    folder = asked / "arms" / "kld" / "evaluation" / "answers.jsonl"
    rows = [json.loads(line) for line in folder.read_text().splitlines()]
    questions = [row["prompt"].removeprefix("#").removesuffix("=?") for row in rows]
    assert len(rows) == 4
    code, out, err = tutelage("chat", asked, "--json", stdin="\n\n".join(questions) + "\n")
    assert code == 0, err
    found = [json.loads(line) for line in out.splitlines()]
    assert [row["prompt"] for row in found] == questions
    assert [row["answers"][0]["text"] for row in found] == [row["answer"] for row in rows]
    place = asked / "references" / "teacher" / "evaluation" / "answers.jsonl"
    taught = [json.loads(line)["answer"] for line in place.read_text().splitlines()]
    assert [row["answers"][1]["text"] for row in found] == taught
    # The student's own folder and an export of it are asked alike.
    place = asked / "arms" / "kld" / "student"
    code, out, err = tutelage("chat", place, "--no-teacher", "--prompt", questions[0], "-q")
    assert code == 0 and out.strip("\n") == rows[0]["answer"], err
    exported = shutil.copytree(place, tmp_path / "exported")
    form = PromptFormat("#{question}=?", "question")
    write_description(exported, {"dtype": "float32", "prompt": form.as_json()})
    code, out, err = tutelage("chat", exported, "--prompt", questions[0], "--max-new-tokens", "6")
    assert code == 0 and out.strip("\n") == rows[0]["answer"], err
    code, out, err = tutelage("chat", asked, "--arm", "lora", "--prompt", questions[0], "-q")
    assert code == 0 and out.startswith("lora: ") and "\nthe teacher: " in out, err


def test_models_of_a_server_are_asked_there(asked, tutelage):
    with serving(tiny_model(vocab=19, seed=3), tokenizer_with(CHAT)) as server:
        arguments = ["--server", server.url, "--beside", "tiny", "--prompt", "12", "--json"]
        code, out, err = tutelage("chat", asked, *arguments)
        assert code == 0, err
        answers = json.loads(out)["answers"]
        assert [one["model"] for one in answers] == ["kld", "tiny"] and answers[1]["num_tokens"]
        assert [turn["content"] for turn in server.asked[-1]["messages"]] == ["12"]
    code, _, err = tutelage("chat", "tiny", "--server", server.url, "--prompt", "12")
    assert code == 2 and "error: " in err and "Traceback" not in err


def until(terminal, mark):
    """What a terminal shows up to a mark."""
    shown = b""
    while mark not in shown:
        ready, _, _ = select.select([terminal], [], [], 120)
        assert ready, f"nothing came after {shown!r}"
        shown += os.read(terminal, 1000)
    return shown.decode().replace("\r", "")


def interrupted(terminal, child):
    """The exit code of a process whose terminal gets Ctrl-C until it has ended.

    One that comes between the prompt and the reading is taken for a stop of the answer before.
    """
    for _ in range(4):
        os.write(terminal, b"\x03")
        for _ in range(300):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.1)
    raise AssertionError("Ctrl-C did not end it")


@pytest.mark.slow
def test_at_a_terminal_it_is_a_conversation_that_ctrl_c_stops_and_leaves(asked):
    child, terminal = pty.fork()
    if child == 0:
        # Another program at once: a fork of this one would have locks that nobody gives back.
        command = ["-m", "tutelage", "chat", str(asked), "--temperature", "1", "-q"]
        os.execve(sys.executable, [sys.executable, *command], {**os.environ, "TERM": "dumb"})
    try:
        until(terminal, b"> ")
        os.write(terminal, b"1+2\n")
        shown = until(terminal, b"\n> ")
        assert "\nkld: " in shown and "\nthe teacher: " in shown
        os.write(terminal, b"/temperature\n")
        assert "temperature: 1\n" in until(terminal, b"\n> ")
        code = interrupted(terminal, child)
        child = 0
        assert code == 130
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(terminal)


def test_ctrl_c_stops_an_answer_and_a_second_one_leaves(spoken, capsys):
    conversation, _ = spoken
    stopping = conversation.stopping
    tell = conversation.table.student.answer

    def interrupted(*arguments, on_text, **more):
        def told(piece):
            os.kill(os.getpid(), signal.SIGINT)
            on_text(piece)

        return tell(*arguments, on_text=told, **more)

    conversation.table.student.answer = interrupted
    before = signal.getsignal(signal.SIGINT)
    lines = iter(["12", None])
    with pytest.raises(KeyboardInterrupt):
        conversation.settings = GenerationSettings(max_new_tokens=40)
        stopping.waits = True
        conversation.hold(_then(lines, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert "[stopped]" in capsys.readouterr().out
    assert conversation.table.teacher.turns == [], "nobody else answers what was stopped"
    assert signal.getsignal(signal.SIGINT) is before


def _then(lines, last):
    """Lines, and at their end an act."""

    def read():
        line = next(lines)
        if line is None:
            last()
        return line

    return read
