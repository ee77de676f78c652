"""The site in a browser: every page is whole, narrow or wide, light or dark, by eye, ear or key."""

import importlib
import re
from html import unescape
from urllib.parse import unquote, urlsplit

import pytest

KINDS = (
    "index.html",  # words, code, a table and a picture
    "evidence.html",  # a table that is wider than a telephone
    "api/divergences.html",  # signatures, maths, parameters
    "results/studies/states.html",
    "404.html",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            "commands.html",
            "source/studies/methods.yaml.html",
            "results/smollm2_students.html",  # what `tutelage eval` made
        )
    ),
)


ROOMS = (
    "", "curriculum", "data", "difficulty", "divergences", "evaluation", "generation", "models",
    "pipeline", "schedules", "targets", "teachers", "training", "verifiers",
)  # fmt: skip


def pages(site):
    """All HTML files of the site by their place in it."""
    return {path.relative_to(site).as_posix(): path for path in sorted(site.rglob("*.html"))}


@pytest.mark.slow
def test_pages_are_whole_on_a_telephone(site, served, looking):
    # Studies and shown sources are of two kinds, and each kind is looked at below; all: slow.
    many = ("results/studies/", "source/")
    names = [name for name in pages(site) if not name.startswith(many)]
    assert len(names) > 30
    found = {name: looking.faults(served + name, axe=False) for name in names}
    assert {name: faults for name, faults in found.items() if faults} == {}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_page_can_be_used_by_all(name, served, looking):
    assert looking.faults(served + name) == []


@pytest.mark.slow
def test_every_page_can_be_used_by_all(site, served, looking):
    found = {name: looking.faults(served + name) for name in pages(site)}
    assert {name: faults for name, faults in found.items() if faults} == {}


def test_keys_reach_the_text_the_search_and_the_pages_in_order(served, looking):
    stops = looking.stops(served + "evidence.html", 8)
    order = ["md-skip", "md-search__input", "md-tabs__link"]
    places = [next(i for i, stop in enumerate(stops) if name in stop) for name in order]
    assert places[0] == 0 and places == sorted(places)


def test_search_finds_pages(served, looking):
    assert "Temperature from where to where" in looking.search(served + "index.html", "temperature")


def test_links_between_pages_lead_to_pages_and_places_in_them(site):
    texts = {name: path.read_text() for name, path in pages(site).items() if name != "404.html"}
    ids = {name: set(re.findall(r'\bid="?([^"\s>]+)', text)) for name, text in texts.items()}
    broken = []
    for name, text in texts.items():
        links = set(re.findall(r'<(?:a|link|script|img)\b[^>]*?\b(?:href|src)="([^"]*)"', text))
        for link in map(unescape, links):
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "mailto", "data"):
                continue
            path = (site / name).parent.joinpath(unquote(parts.path)).resolve()
            path = site / name if not parts.path else path
            path = path / "index.html" if path.is_dir() else path
            place = path.relative_to(site).as_posix()
            anchor = unquote(parts.fragment)
            if not path.is_file() or (anchor and place in ids and anchor not in ids[place]):
                broken.append((name, link))
    assert not broken


def test_nothing_comes_from_elsewhere(site):
    for name, path in pages(site).items():
        loaded = re.findall(
            r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=\"(https?:[^\"]*)", path.read_text()
        )
        assert loaded == [], name
    style = (site / "site.css").read_text()
    assert "url(" not in style and "@import" not in style


def test_llms_txt_names_every_page_and_what_it_is_about(site):
    text = (site / "llms.txt").read_text()
    assert text.startswith("# Tutelage\n\n> Distil")
    links = re.findall(r"^- \[[^\]]+\]\(([^)]+)\)(: .+)?$", text, re.MULTILINE)
    listed = {link for link, _ in links}
    html = {name for name in pages(site) if not name.startswith("source/")}
    own = {name.removesuffix(".html") + ".md" for name in html}
    assert listed == own - {"404.md", "results/smollm2_students.md"}
    assert all((site / link).is_file() for link in listed)
    assert sum(bool(about) for _, about in links) > 0.9 * len(links)
    assert (site / "llms-full.txt").read_text().count("<!-- ") > 50


def test_every_public_name_has_its_docstring_in_the_reference(site):
    inventory = "".join(path.read_text() for path in (site / "api").glob("*.html"))
    ids = set(re.findall(r'id="(tutelage[\w.]*)"', inventory))
    shown = {name.rpartition(".")[2] for name in ids}
    for room in ROOMS:
        public = importlib.import_module(f"tutelage.{room}".rstrip(".")).__all__
        assert set(public) <= shown, room
    assert "<math" in inventory and ":math:" not in inventory and ".. math::" not in inventory


BAD = """<!doctype html><html><head><title></title></head><body><h1>One</h1><h1>Two</h1>
<img src="nowhere.png"><p style="width: 700px; color: #bbb; background: #fff">Pale and wide.</p>
<a href="#x"></a><script>nothing()</script></body></html>"""


def test_a_page_with_faults_is_told_of_each(tmp_path, looking):
    path = tmp_path / "bad.html"
    path.write_text(BAD)
    found = "\n".join(looking.faults(path))
    for fault in (
        "has no title", "says no language", "has 2 first headings", "does not show", "too wide",
        "says nothing of the picture", "color-contrast", "link-name", "script: nothing",
    ):  # fmt: skip
        assert fault in found, fault


def test_what_is_asked_of_another_place_is_told(tmp_path, looking):
    path = tmp_path / "asks.html"
    path.write_text(BAD.replace("nowhere.png", "http://127.0.0.1:9/picture.png"))
    assert any(fault.startswith("asks http://127.0.0.1:9/") for fault in looking.faults(path))
