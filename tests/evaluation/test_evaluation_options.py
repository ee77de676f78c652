"""Questions with options in the ways in which public files write them, and what is refused."""

import json

import pytest

from tutelage.errors import ConfigError, DataError
from tutelage.evaluation import Suite, bound_metrics, make_suite

ASKED = Suite("asked", bound_metrics({"rouge_l": {}}))
Q = {"question": "Which is wet?"}
FORMS = {
    "a list and a number (MMLU)": ({**Q, "choices": ["fire", "water"], "answer": 1}, "B"),
    "a list and a letter": ({**Q, "options": ["fire", "water"], "answer": "B"}, "B"),
    "a list and a letter in brackets": ({**Q, "options": ["fire", "water"], "answer": "(B)"}, "B"),
    "a list and the text": ({**Q, "options": ["fire", "water"], "answer": "water"}, "B"),
    "labels and texts (hub ARC)": (
        {**Q, "choices": {"text": ["fire", "water"], "label": ["A", "B"]}, "answerKey": "B"}, "B",
    ),
    "labels that are numbers (hub ARC)": (
        {**Q, "choices": {"text": ["fire", "water"], "label": ["1", "2"]}, "answerKey": "1"}, "A",
    ),
    "objects with labels (OpenBookQA)": (
        {"question": {"stem": "Which is wet?", "choices": [
            {"text": "fire", "label": "A"}, {"text": "water", "label": "B"}]},
         "answerKey": "B"}, "B",
    ),
    "letters with texts (MedQA)": (
        {**Q, "options": {"A": "fire", "B": "water"}, "answer": "water", "answer_idx": "B"}, "B",
    ),
    "columns of letters (CSV of MMLU)": ({**Q, "A": "fire", "B": "water", "answer": "B"}, "B"),
    "columns opa and opb (MedMCQA)": ({**Q, "opa": "fire", "opb": "water", "cop": 1}, "B"),
    "columns of endings (SWAG)": (
        {"ctx": "Rain is", "ending0": "dry", "ending1": "wet", "label": 1}, "B",
    ),
    "a list of endings (HellaSwag)": (
        {"ctx": "Rain is", "endings": ["dry", "wet"], "label": "1"}, "B",
    ),
    "two solutions (PIQA)": ({"goal": "Dry it", "sol1": "fan", "sol2": "hose", "label": 0}, "A"),
    "numbers as options, and one as text": ({**Q, "options": [3, 4], "answer": "4"}, "B"),
    "numbers as options, and a place": ({**Q, "options": [1, 2], "answer": 1}, "B"),
    "numbers as options, and one beyond them": ({**Q, "options": [3, 4], "answer": 4}, "B"),
    "yes or no with a passage (BoolQ)": (
        {**Q, "passage": "Water is wet.", "answer": False}, "no",
    ),
    "yes or no in words": ({**Q, "answer": "Yes"}, "yes"),
}  # fmt: skip
REFUSED = {
    "no options": ({**Q, "answer": "B"}, "there are no options"),
    "one option": ({**Q, "options": ["fire"], "answer": "A"}, "1 options"),
    "too many": ({**Q, "options": list("abcdefghijk"), "answer": "A"}, "11 options"),
    "an answer beside them": ({**Q, "options": ["x", "y"], "answer": "C"}, "'C' is none of"),
    "a number beyond them": ({**Q, "options": ["x", "y"], "answer": 2}, "'2' is none of"),
    "an empty option": ({**Q, "options": ["x", ""], "answer": "A"}, "an option is empty"),
    "a list as text": ({**Q, "options": "['x', 'y']", "answer": "A"}, "not one as text"),
    "an option that is none": ({**Q, "options": ["x", None], "answer": "A"}, "a text for each"),
    "an unanswered question": ({**Q, "options": ["x", "y"]}, "no column for answer"),
}


def questions(tmp_path, rows, kind="choice", **options):
    path = tmp_path / "dev.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return make_suite(kind, {"data": str(path), **options}, ASKED).questions()


@pytest.mark.parametrize("form", FORMS)
def test_forms(form, tmp_path):
    row, right = FORMS[form]
    for way in ("generate", "likelihood"):
        (question,) = questions(tmp_path, [row], way=way)
        assert question.references == (right,)
        place = question.extra["right"]
        assert place == (0 if right in ("A", "yes") else 1)
        if right in ("yes", "no"):
            assert question.options == ("yes", "no") and "A." not in question.prompt
        elif way == "generate":
            assert question.options == ("A", "B")
            assert "\nA. " in question.prompt and "\n\nA. " in question.chat.messages[0].content
        else:
            assert set("AB").isdisjoint(question.options) and "\nA. " not in question.prompt


def test_a_number_is_a_place_in_a_whole_file_or_a_value_in_all_of_it(tmp_path):
    path, rows = tmp_path / "sums.jsonl", [
        {"question": "2+1?", "options": [1, 2, 3], "answer": 2},
        {"question": "2+3?", "options": [4, 5, 6], "answer": 1},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = make_suite("choice", {"data": str(path)}, ASKED)
    assert [question.references for question in suite.questions()] == [("C",), ("B",)]
    rows[1]["answer"] = 5  # no place, so a value: then 2 was none either
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"line 1: the answer 2 .* line 2: .* 5 .*letter"):
        make_suite("choice", {"data": str(path)}, ASKED).questions()
    rows[0]["options"] = [2, 4, 8]
    rows[0]["answer"] = "2"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = make_suite("choice", {"data": str(path)}, ASKED)
    assert [question.references for question in suite.questions()] == [("A",), ("B",)]


@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_asked_is_told_with_its_place(fault, tmp_path):
    row, message = REFUSED[fault]
    with pytest.raises(DataError, match=message) as caught:
        questions(tmp_path, [FORMS["yes or no in words"][0], row])
    assert "dev.jsonl', line 2" in str(caught.value)


def test_letters_can_be_scored_by_likelihood_and_passages_are_clusters(tmp_path):
    rows = [
        {"question": f"{n}?", "context": "Water is wet.", "options": ["x", "y"], "answer": 0}
        for n in range(2)
    ]
    found = questions(tmp_path, rows, way="likelihood", scored="letter")
    assert found[0].options == ("A", "B") and found[0].prompt.endswith("B. y\nAnswer:")
    assert found[0].cluster == found[1].cluster != ""
    assert found[0].id != found[1].id


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("The most abundant one is carbon dioxide.", 1),
        ("The answer is **Carbon Dioxide**!", 1),
        ("Plants need carbon, of course.", 0),
        ("Either carbon dioxide or water vapor.", None),
        ("The answer is C, not carbon dioxide.", 2),
        ("It is 41\u00b0F.", 3),
        ("Decarbonized air", None),
        ("<think>carbon dioxide</think> water vapor", 2),
    ],
)
def test_an_answer_may_name_an_option_by_its_text(answer, right, tmp_path):
    row = {**Q, "options": ["carbon", "carbon dioxide", "water vapor", "41\u00b0F"], "answer": "A"}
    for place in range(4):
        path = tmp_path / f"{place}.jsonl"
        path.write_text(json.dumps({**row, "answer": "ABCD"[place]}) + "\n")
        suite = make_suite("choice", {"data": str(path)}, ASKED)
        found = suite.metrics["choice"].score(suite.questions(), [answer])
        assert found == [float(place == right)]


def solved(count, **more):
    return [{"question": f"{n} + 1?", "answer": f"So.\n#### {n + 1}", **more} for n in range(count)]


def test_solved_problems_stand_before_a_question_and_never_its_own(tmp_path):
    train = tmp_path / "train.jsonl"
    train.write_text("".join(json.dumps(row) + "\n" for row in solved(9)))
    asked = questions(tmp_path, solved(9), "gsm8k", shots=8)
    assert asked == questions(tmp_path, solved(9), "gsm8k", shots=8, examples=str(train))
    for question in asked:
        *before, own = question.prompt.split("\n\n")
        assert len(before) == 8 and own not in [shot.split(" So.")[0] for shot in before]
        assert all(
            shot.startswith("Question: ") and "\nAnswer: So.\n#### " in shot for shot in before
        )
    assert asked != questions(tmp_path, solved(9), "gsm8k", shots=8, shots_seed=1)
    train.write_text("".join(json.dumps(row) + "\n" for row in solved(9)[::-1]))
    assert asked == questions(tmp_path, solved(9), "gsm8k", shots=8), "in any order of the file"
    with pytest.raises(ConfigError, match=r"has 9 solved problems, and 12.*shots=9"):
        questions(tmp_path, solved(9), "gsm8k", shots=12)


def test_without_solved_problems_there_is_a_way_out(tmp_path):
    with pytest.raises(ConfigError, match=r"gsm8k\.examples=.*gsm8k\.shots=0.*gsm8k\.prompt=chat"):
        questions(tmp_path, solved(3), "gsm8k")
    (question, *_) = questions(tmp_path, solved(3), "gsm8k", prompt="chat")
    assert question.prompt == "Question: 0 + 1?\nAnswer:"
    assert "\\boxed{}" in question.chat.messages[0].content


def test_reasons_are_told_where_they_are_solved(tmp_path):
    rows = [
        {"qid": f"q{n}", "question": f"Is {n} even?", "answer": n % 2 == 0, "facts": ["Two", "is."]}
        for n in range(3)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (first, *_) = questions(tmp_path, rows, "strategyqa", shots=2)
    assert first.prompt.count("Two. is. So the answer is ") == 2
    (first, *_) = questions(tmp_path, rows, "strategyqa", facts=True)
    assert first.prompt.startswith("Passage: Two. is.\nQuestion: Is 0 even?")


def test_several_answers_need_a_temperature():
    with pytest.raises(ConfigError, match="all be the same at temperature 0"):
        make_suite("gsm8k", {"data": "x", "shots": 0, "samples": 4, "ks": [1, 4]}, ASKED)
    sampled = {"data": "x", "shots": 0, "samples": 4, "ks": [1, 4], "sampling_temperature": 0.8}
    suite = make_suite("gsm8k", sampled, ASKED)
    assert suite.seeds == (10, 20, 30, 40) and suite.ks == (1, 4)


@pytest.mark.parametrize(("counts", "total"), [("prompt_and_answer", 512), ("answer", None)])
def test_both_readings_of_the_length_of_instructions(counts, total):
    suite = make_suite("instruct", {"data": "x", "counts": counts}, ASKED)
    assert suite.generation.max_new_tokens == 512 and suite.generation.max_total_tokens == total
    assert suite.seeds == (10, 20, 30, 40, 50) and suite.generation.sampling_temperature == 1.0


def test_math_reads_its_folders(tmp_path):
    for subject in ("algebra", "geometry"):
        (tmp_path / "test" / subject).mkdir(parents=True)
        row = {
            "problem": f"{subject}?",
            "level": "Level 1",
            "type": subject,
            "solution": r"$\boxed{2}$",
        }
        (tmp_path / "test" / subject / "1.json").write_text(json.dumps(row))
    folder = str(tmp_path / "test")
    found = make_suite("math", {"data": folder, "shots": 0}, ASKED).questions()
    assert [(question.id, question.group) for question in found] == [
        ("algebra/1", "algebra"), ("geometry/1", "geometry")
    ]  # fmt: skip
    by_level = make_suite("math", {"data": folder, "shots": 0, "group": "level"}, ASKED).questions()
    assert {question.group for question in by_level} == {"Level 1"}
    with pytest.raises(DataError, match=r"no column 'levle'.*Did you mean"):
        make_suite("math", {"data": folder, "shots": 0, "group": "levle"}, ASKED).questions()
    (tmp_path / "test" / "algebra" / "1.json").write_text('{"problem": "?", "solution": "2"}')
    with pytest.raises(DataError, match="nothing says what is right"):
        make_suite("math", {"data": folder, "shots": 0}, ASKED).questions()


@pytest.mark.parametrize(("kind", "word"), [("gsm8k", "Question"), ("math", "Problem")])
def test_an_answer_in_a_conversation_may_quote_the_question(tmp_path, kind, word):
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"problem": "1+1?", "answer": "2"}) + "\n")
    suite = make_suite(kind, {"data": str(data), "shots": 0}, ASKED)
    (question,) = suite.questions()
    assert suite.generation_of([question.prompt]).stop_strings == (f"\n{word}:",)
    assert suite.generation_of([question.chat]).stop_strings == ()
