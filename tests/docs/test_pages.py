"""The pages of the docs: their links, the references made from the code, the page of errors."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

import mgc
from infra.docs import api, cli, recipes, site
from mgc import errors
from mgc.errors import ErrorKind, MgcError
from mgc.evaluation.alarms import THRESHOLDS, Thresholds
from mgc.labeling.guard import ACCEPTABLE
from mgc.labeling.retries import worth_another_try
from mgc.recipes.catalogue import RECIPES
from pipelines.cli import JOBS, find
from pipelines.command import job

ROOT = Path(__file__).parents[2]
TEXTS = [*site.ELSEWHERE.values(), *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", read(page)):
        path, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / path if path else ROOT / page
        assert linked.exists(), target
        if anchor and linked.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, target


@pytest.mark.parametrize("page", TEXTS)
def test_files_that_a_page_names_are_there(page: str) -> None:
    # Results and the changelog speak of the files of their time.
    if page in ("RESULTS.md", "CHANGELOG.md", "docs/log.md"):
        return
    for path in re.findall(r"`((?:mgc|cluster|tune|pipelines|tests|infra|docs)/[\w./-]+(?:\.\w+|/))`", read(page)):
        # Names in capitals are the reader's to choose.
        if not re.search("[A-Z]{4}", path):
            assert (ROOT / path).exists(), path


def test_the_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) <= 110


def options_of(command: click.Command) -> list[str]:
    """The long options of a command and of its subcommands."""
    own = [option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)]
    names = [option for option in own if option.startswith("--")]
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return names + [name for subcommand in below for name in options_of(subcommand)]


@pytest.mark.parametrize("page", TEXTS)
def test_commands_that_a_page_shows_have_such_options(page: str) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL)
    # What the text names, in code, counts too.
    spans = [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", read(page))]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in lines + spans:
        words = re.split(r"\s+#\s|\s-- ", line.strip())[0].split()
        if words[:1] != ["mgc"] or len(words) < 2 or words[1] in ("JOB", "--help", "--version"):
            continue
        assert words[1] in JOBS, line
        for word in words[2:]:
            option = word.partition("=")[0]
            if option.startswith("--") and "." not in option:
                assert option in (*options_of(find(words[1])), "--help"), line


def test_the_command_line_page_has_every_option_of_every_job() -> None:
    page = cli.page()
    for word in JOBS:
        section = page.partition(f"\n## mgc {word}\n")[2].partition("\n## ")[0]
        assert section, word
        for option in options_of(find(word)):
            assert option in section, f"{word} {option}"


def test_the_python_page_has_every_public_name() -> None:
    names = api.public_names(read("docs/python-api.md"))
    page = api.page(names)
    assert {f"mgc.{name}" for name in mgc.__all__ if name != "__version__"} <= set(names)
    for name in names:
        assert f"\n## {name}\n" in page
    assert "### Bundle.label\n" in page
    assert "- `top_k`: " in page


def test_a_public_name_that_is_gone_is_an_error() -> None:
    with pytest.raises(LookupError, match=r"mgc\.nothing"):
        api.page(["mgc.nothing"])


def test_the_recipes_page_has_every_recipe() -> None:
    page = recipes.page()
    for name in RECIPES:
        assert f"| `{name}` |" in page


def test_the_page_of_errors_has_every_kind_with_what_to_do() -> None:
    page = read("docs/errors.md")
    rows = re.findall(r"^\| \[`(\w+)`\].*\| (yes|no) \|$", page, re.MULTILINE)
    assert [kind for kind, _ in rows] == [kind.value for kind in ErrorKind]
    assert [kind for kind, again in rows if again == "yes"] == worth_another_try()
    for kind in ErrorKind:
        assert len(page.partition(f"\n## {kind}\n")[2].partition("\n## ")[0].split()) > 15, kind


def test_the_page_of_errors_has_every_class_and_exit_code() -> None:
    page = read("docs/errors.md")
    classes = {
        found.__name__ for found in vars(errors).values() if isinstance(found, type) and MgcError in found.__bases__
    }
    assert set(re.findall(r"^\| `(\w+Error)` \|", page, re.MULTILINE)) == classes
    codes = {0, job.FAILED, job.MISUSED, job.ALARMED, job.REFUSED, job.INTERRUPTED}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == codes


def test_the_page_of_nights_has_every_alarm_with_its_default() -> None:
    page = read("docs/nights.md")
    for name, value in vars(Thresholds()).items():
        if isinstance(value, float):
            assert re.search(rf"^\| `{name}` \| .* \| {value:g} \|$", page, re.MULTILINE), name
        else:
            assert f"`{name}`" in page
            assert f"{value:,}" in page


def test_the_page_of_troubles_has_every_alarm_and_every_check_of_the_guard() -> None:
    page = read("docs/trouble.md")
    alarms, checks = (page.partition(f"\n## {name}\n")[2].partition("\n## ")[0] for name in ("Alarms", "The guard"))
    for name, section in (*((name, alarms) for name in THRESHOLDS), *((name, checks) for name in ACCEPTABLE)):
        if not name.endswith("_tracks"):
            assert re.search(rf"^\| `{name}` \| .+ \| .+ \|$", section, re.MULTILINE), name


def test_links_become_links_between_pages() -> None:
    text = (
        "[nights](docs/nights.md) [adr](infra/adr/0004-rooms.md) [code](mgc/schema.py) [there](https://example.org/x)"
    )
    assert site.mend(text, "index.md") == (
        "[nights](nights.md) [adr](adr/0004-rooms.md) code [there](https://example.org/x)"
    )
    assert site.mend("[figures](../RESULTS.md#a-search)", "training.md") == "[figures](results.md#a-search)"
    assert site.mend("[house](../../ARCHITECTURE.md)", "adr/0004-rooms.md") == "[house](../architecture.md)"
    assert site.mend("```sh\n[a](docs/nights.md)\n```", "index.md") == "```sh\n[a](docs/nights.md)\n```"
    assert site.mend("[![a](docs/images/a.png)](docs/nights.md)", "index.md") == "[![a](images/a.png)](nights.md)"
    assert site.mend("[gone](docs/none.md)", "index.md") == "[gone](none.md)"
