"""The README is true: its blocks run, its numbers are those of the tests."""

from __future__ import annotations

import inspect
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kvdict
from tests.test_house import imports

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
UNLINKED = {"docs/index.md", "docs/changelog.md"}
"""Pages of the documentation alone."""
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def block(words: str) -> str:
    """Return the one block that holds these words."""
    (found,) = [text for text in BLOCKS if words in text]
    return str(found)


@pytest.fixture
def sigterm_as_it_was() -> Iterator[None]:
    """Take back what the README's line does to SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("sigterm_as_it_was")
def test_the_python_blocks_run_in_order(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KVDICT_OFFLINE", "memory://readme")
    assert len(BLOCKS) >= 3
    names: dict[str, Any] = {}
    for text in BLOCKS:
        exec(compile(text, "README.md", "exec"), names)  # the README's own code
    assert (tmp_path / "app.db").exists()
    names["kv"].close()
    assert capsys.readouterr().out == ""  # none of the errors that are caught came


def test_what_the_first_block_says_in_comments_is_what_comes_back(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for line in BLOCKS[0].splitlines():
        code, _, comment = line.partition("  # ")
        said = re.match(r"'.*?'|True", comment.strip())
        if said and "=" not in code:
            assert repr(eval(code, names)) == said[0]
        else:
            exec(code, names)
    names["kv"].close()


def test_what_the_other_blocks_say_in_comments_is_what_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KVDICT_OFFLINE", "memory://readme-too")
    flushed = block("links.flush()").replace("links.flush()", "result = links.flush()")
    names: dict[str, Any] = {"kvdict": kvdict}
    exec(flushed.replace("max_age=0.5", "max_age=60"), names)  # or a slow machine's thread is first
    assert f"# {names['result']!r}: it is stored" in flushed
    with kvdict.open("memory://") as kv:
        names["kv"] = kv
        text = block('kv.entry("photo")')
        exec(text.partition("kv.touch")[0], names)
        assert f"# {kv.entry('photo')!r}\n" in text


def test_the_example_of_a_fixture_passes(kvdict_offline: kvdict.Account) -> None:
    names: dict[str, Any] = {"kvdict": kvdict}
    exec(block("def test_"), names)
    names["test_a_visit_is_counted"](kvdict_offline)


@pytest.mark.parametrize(
    ("page", "kind", "count"),
    [("writing", kvdict.WriteBuffer, 15), ("caching", kvdict.ReadCache, 6)],
    ids=["buffer", "cache"],
)
def test_the_options_have_the_defaults_that_the_table_names(
    page: str, kind: type, count: int
) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    table = text.partition(f"| option of `{kind.__name__}` |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (.+?) \|.*\|.*\|$", table, re.MULTILINE)
    parameters = inspect.signature(kind).parameters
    known = {name: parameter.default for name, parameter in parameters.items()}
    told = {}
    for options, defaults in rows:
        values = re.findall(r'`"?(\w+)"?`|([\d,.]*\d)', defaults.partition(":")[0])
        for place, name in enumerate(re.findall(r"\w+", options)):
            word, number = values[min(place, len(values) - 1)]
            told[name] = (
                {"None": None, "False": False}.get(word, word)
                if word
                else float(number.replace(",", ""))
            )
    assert len(told) >= count
    assert told == {name: known[name] for name in told}


def test_links_within_lead_to_headings() -> None:
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(#(.+?)\)", README)
    assert links
    assert set(links) <= anchors


def test_links_to_pages_lead_to_files() -> None:
    pages = set(re.findall(r"\]\((docs/[^)#]+)", README))
    assert pages == {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} - UNLINKED
    assert all((ROOT / page).is_file() for page in pages)


def test_the_architecture_names_modules_in_the_order_of_their_imports() -> None:
    (drawing,) = re.findall(r"^    errors, models.*?\n\n", README, re.DOTALL | re.MULTILINE)
    drawing = re.sub(r"\(.*?\)|imports run one way.*", "", drawing)
    groups = [re.findall(r"\w+", group) for group in drawing.split("·")]
    order = [name for group in groups for name in group]
    assert len(order) == len(set(order)) >= 25
    for position, name in enumerate(order):
        later = imports(ROOT / "kvdict" / f"{name}.py") & set(order[position:])
        assert not later, (name, later)


def test_the_tour_prints_its_requests() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "tour.py")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert re.search(r"in all \d+ requests", done.stdout)
    assert "   1 request  users.update(10,000 pairs)" in done.stdout


def test_the_set_up_commands_are_one_line_each_and_make_their_own_environment() -> None:
    commands = [line for line in README.splitlines() if "venv .venv" in line]
    assert len(commands) == 2
    assert all(command.startswith("python3 -m venv .venv && ") for command in commands)
    assert "pytest" in commands[1]
