"""Mathematical answers: right values for what public verifiers got wrong, and hostile ones."""

import threading

import pytest

from tutelage.errors import MissingDependencyError
from tutelage.verifiers import math, mathematics

SAME = [
    (r"\boxed{5\sqrt{3}}", r"5\sqrt3"),
    (r"The answer is 2\sqrt{3}", r"\sqrt{12}"),
    ("1+y^2", "y^2+1"),
    ("so it is 0.5", r"\frac{1}{2}"),
    ("The answer is 1/2.", r"\frac12"),
    (r"\boxed{\dfrac{1}{2}}", r"$\frac{1}{2}$"),
    (r"\boxed{\left(3, \frac{\pi}{2}\right)}", r"\left( 3, \frac{\pi}{2} \right)"),
    (r"$\{2,1\}$", r"\{1,2\}"),
    (r"\boxed{\text{Evelyn}}", r"\text{Evelyn}"),
    (r"$50\%$", r"50\%"),
    (r"\boxed{50}", r"50\%"),
    (r"\boxed{0.5}", r"50\%"),
    ("it grew by 50%", "50"),
    (r"\boxed{\begin{bmatrix} -1\\4 \end{bmatrix}}", r"\begin{pmatrix} -1 \\ 4 \end{pmatrix}"),
    ("Thus it is **73**.\n\nFinal Answer: **73**", "73"),
    (r"<think>\boxed{3}</think> \boxed{4}", "4"),
    ("It costs $1,250.00 in all.", "1250"),
    ("So 40+2=42\n#### 42", "#### 42"),
    ("At $0.2 each that is 70 * $0.2 = $14.\n#### 14", "14"),
    ("#### $1,400\nNote: 3 of them.", "1400"),
    ("#### 2. The sum\nThe answer is 14.", "14"),
    ("5", "x=5"),
    (r"First \boxed{3}, then \boxed{4}", "4"),
    (r"\boxed{3} and \boxed{4}", "3, 4"),
    (r"$1 - \frac{1}{e}$", r"$1 - \frac{1}{\mathrm{e}}$"),
    (r"$\frac{1}{2004!}$", r"\frac{1}{2004!}"),
    (r"$1, 2, \ldots, n$", r"$1, 2, \ldots, n$"),
    # Amounts of MATH-500, whose dollars are no delimiters; and answers that are nothing else.
    (r"\boxed{\$32,\!348}", r"\$32,\!348"),
    ("The answer is $18.90.", r"\$18.90"),
    (r"\$36", r"\$36"),
    ("p - q", "p - q"),
    ("(3,4]", "(3,4]"),
    ("1,-2", "1,-2"),
    (r"\begin{pmatrix} -2 \\ -14 \end{pmatrix}", r"\begin{pmatrix} -2 \\ -14 \end{pmatrix}"),
]
DIFFERENT = [
    (r"\boxed{2\sqrt3}", r"\boxed{5\sqrt3}"),
    (r"\boxed{2\sqrt3}", r"5\sqrt3"),
    ("x^2+1", "y^2+1"),
    (r"\boxed{x^2+1}", "$y^2+1$"),
    (r"$\frac{1}{2006!}$", r"$\frac{1}{2004!}$"),
    (r"$\frac{1}{2^{98}}$", r"$\frac{1}{2^{99}}$"),
    ("$n=1, 2, 3$", "$n=2, 3, 4$"),
    ("$D = (0, 1.5)$", "$D = (0, 1)$"),
    (r"$\frac{1}{3 \cdot 2^{2006}}$", r"$\frac{2^{2005}+1}{3 \cdot 2^{2006}}$"),
    (r"$1 + \frac{1}{\mathrm{e}}$", r"$1 - \frac{1}{\mathrm{e}}$"),
    ("$2021$", r"$\pm 2021$"),
    ("$1:00$", "$12:00$"),
    (r"$1, 3, 5, \ldots, 2n-1$", r"$1, 2, \ldots, n$"),
    ("[0,1]", "[0,1)"),
    (r"$10^{-30}$", "0"),
    (r"First \boxed{4}, then \boxed{3}", "4"),
    (r"\boxed{20\%}", r"10\%"),
    (r"\boxed{50}", "0.5"),
    (r"\begin{pmatrix} -1 \\ 4 \end{pmatrix}", r"\begin{pmatrix} -1 \\ 5 \end{pmatrix}"),
    ("no idea", "5"),
    (r"\boxed{\$32,\!349}", r"\$32,\!348"),
    ("p + q", "p - q"),
    ("(3,4)", "(3,4]"),
]


@pytest.mark.parametrize(("answer", "reference"), SAME)
def test_the_same_in_other_words(answer, reference):
    assert math(answer, [reference]) == 1.0
    assert math(answer, ["999", reference]) == 1.0


@pytest.mark.parametrize(("answer", "reference"), DIFFERENT)
def test_different_whatever_they_share(answer, reference):
    assert math(answer, [reference]) == 0.0


HOSTILE = {
    "brackets": "$" + "(" * 2000 + "1" + ")" * 2000 + "$",
    "boxes": r"\boxed{" * 1500 + "5",
    "digits": "9" * 1_000_000,
    "factorial": r"\boxed{100000000!}",
    "surrogate": "\ud800 \x00 5x",
    "code": r"\boxed{__import__('os').system('false')}",
}
SLOW = {
    "tower": r"\boxed{9^{9^{9^{9^9}}}}",
    "power": "9**9**9**9",
    "integral": r"\boxed{\int_0^{10} e^{x^{x^x}} \sin(x^{x}) dx}",
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_answers_are_wrong_and_harm_nothing(name):
    assert math(HOSTILE[name], ["7"]) == 0.0
    assert math(r"\boxed{6+1}", [f"7.0{'0' * len(name)}"]) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SLOW))
def test_answers_that_never_end_are_given_up(name):
    assert math(SLOW[name], ["7"]) == 0.0
    assert math(r"\boxed{6+1}", [f"7.0{'0' * len(name)}"]) == 1.0


def test_any_thread_may_ask_and_a_worker_that_died_is_replaced():
    mathematics._ASKED.stop()
    found = {}

    def ask(number):
        found[number] = math(rf"\boxed{{{number}}}", [rf"\frac{{{2 * number}}}{{2}}"])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(100, 104)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(100, 104), 1.0)
    mathematics._ASKED._process.kill()
    mathematics._ASKED._process.wait()
    assert math("$104$", ["104.0"]) == 1.0


def test_the_package_is_asked_for(monkeypatch):
    monkeypatch.setattr(mathematics.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'tutelage\[math\]'"):
        math("5", ["5"])
