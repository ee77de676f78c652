"""The page of error messages is that of the source, and its templates can be read."""

import re
import runpy

import pytest
from document_blocks import ROOT

from tutelage import errors


@pytest.fixture(scope="module")
def generator():
    return runpy.run_path(str(ROOT / ".ci" / "errors.py"))


def test_the_page_is_current(generator):
    page = (ROOT / "docs" / "errors.md").read_text()
    assert page == generator["page"](), "run: python .ci/errors.py > docs/errors.md"


def test_it_has_every_class_and_what_messages_really_say(generator):
    page = (ROOT / "docs" / "errors.md").read_text()
    classes = [c.__name__ for c in errors.TutelageError.__subclasses__()]
    assert [name for name in classes if f"| `{name}` |" not in page] == []
    said = {message.text for message in generator["messages"]()}
    assert "Unknown divergence '{name}'." not in said  # the family is filled in
    assert "Unknown {family} '{name}'. Did you mean '{near}'? Known: {known}." in said
    assert any(text.startswith("No response tokens left: all {total} examples") for text in said)
    # Chosen among texts, and made by a function beside it.
    assert any("signal: live. Leave it out" in text for text in said)
    assert any("damaged or cut: its header cannot be read" in text for text in said)


def test_no_message_holds_code_or_breaks_its_line(generator):
    for message in generator["messages"]():
        assert "``" not in message.text and "\n" not in message.text
        assert not re.search(r"\{[^{}]*[()=]", message.text.replace("{data_files: ...}", ""))
