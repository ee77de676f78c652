"""Which number an answer gives: forms that public graders read wrongly, and all of GSM8K."""

import json

import pytest

from conftest_data import public_data
from tutelage.verifiers import math, number

GIVEN = [
    # After the number comes more text.
    ("The total is 72 clips, altogether.", "72"),
    ("The answer is 42. I checked it in 2 ways.", "42"),
    ("The answer is 18 eggs per day, or 126 eggs per week.", "18"),
    ("Final Answer: 18\n\nExplanation: 16-3=13, then 13-4=9.", "18"),
    ("Final Answer: Janet makes $18 a day.\n\nExplanation: 16-3=13, then 13-4=9.", "18"),
    ("**Final Answer:** $\\$18$\n\nStep 1: 16 - 3", "18"),
    ("#### 42\nNote: 3 of them are red.", "42"),
    ("\\boxed{18}\n\nCheck: 3+4=7", "18"),
    ("Answer: 18\nAnswer: 20", "20"),
    ("**Answer: \\$18 per day.**", "18"),
    ("The answer is: **18**.", "18"),
    # What looks like an announcement and is a calculation, or a heading.
    ("The answer is 3 + 4 = 7.", "7"),
    ("The answer is 3 apples + 4 apples = 7.", "7"),
    ("The answer is not 5 but 6", "6"),
    ("Answer: First, 16 - 3 = 13. So she sells 9 eggs.", "9"),
    ("Answer:\n16 - 3 - 4 = 9 eggs\n9 * 2 = 18 dollars", "18"),
    ("#### Step 2: sum\nThe total is 20.", "20"),
    ("#### 2. Compute the total\n4*5=20, so it is 20.", "20"),
    # Marks, currencies, units, thousands.
    ("####70,000", "70000"),
    ("#### $70,000.00", "70000"),
    ("#### -3", "-3"),
    ("#### 70000 dollars", "70000"),
    ("-\u00a35", "-5"),
    ("\u20ac1,250.50", "1250.5"),
    ("The answer is $18.00.", "18"),
    ("The area is 42 m^2.", "42"),
    (r"$42 \text{ cm}^2$", "42"),
    (r"The answer is $1\,000$.", "1000"),
    (r"so $1{,}250$ people", "1250"),
    ("1\u202f250 people", "1250"),
    (r"\boxed{18 \text{ dollars}}", "18"),
    (r"\boxed{x = 18}", "18"),
    # Mixed numbers.
    ("It takes 2 1/2 hours.", "2.5"),
    (r"It takes $2\frac{1}{2}$ hours", "2.5"),
    ("-2 1/2", "-2.5"),
    ("In step 12, 1/2 of it", "0.5"),
    # Thoughts are no answer.
    ("<think>The answer is 3.</think>It is 18.", "18"),
]


@pytest.mark.parametrize(("answer", "value"), GIVEN)
def test_the_number_that_an_answer_gives(answer, value):
    assert number(answer, [value]) == 1.0
    assert number(answer, ["999"]) == 0.0


def test_an_answer_that_never_leaves_its_thoughts_gives_none():
    for verify in (number, math):
        assert verify("<think>The answer is 18", ["18"]) == 0.0
        assert verify("so it is 3</think> so it is 18", ["18"]) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_solution_of_gsm8k(split):
    """7,473 and 1,319 solutions: the value is read here in another way, by cutting the text."""
    with public_data(f"gsm8k/{split}.jsonl").open(encoding="utf-8") as file:
        answers = [json.loads(line)["answer"] for line in file]
    assert len(answers) == {"train": 7473, "test": 1319}[split]
    for place, solution in enumerate(answers):
        rationale, _, written = solution.rpartition("\n#### ")
        value = float(written.replace(",", ""))
        plain = f"{value:.0f}"
        forms = [solution, f"{rationale}\nThe answer is {written}.", f"So \\boxed{{{written}}}"]
        forms += [f"Answer: ${value:,.2f}", f"{rationale}\n#### {plain} in all"]
        for form in forms:
            assert number(form, [solution]) == number(form, [plain]) == 1.0, (form, written)
            assert number(form, [f"{value + 1:.0f}"]) == 0.0, form
        if place % 25 == 0:  # a process compares: all of them would take minutes
            assert math(solution, [plain]) == math(plain, [solution]) == 1.0, solution
            assert math(solution, [f"{value + 1:.0f}"]) == 0.0, solution
