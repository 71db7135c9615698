"""`make sbom`, and the licences that `make check` looks at."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from infra import licences, lock, sbom
from mgc.version import __version__

AT = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def pins() -> list[lock.Pin]:
    return lock.read(lock.LOCK.read_text())


@pytest.fixture(scope="module")
def bill(pins: list[lock.Pin]) -> str:
    return sbom.bill(pins, lock.needs(lock.DEV_EXTRA), AT)


@pytest.mark.filterwarnings("default")
def test_the_bill_is_cyclonedx(bill: str) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(bill) is None
    assert validator.validate_str(bill.replace('"required"', '"wanted"')) is not None


def test_the_bill_has_all_packages_with_hashes_and_licences(bill: str, pins: list[lock.Pin]) -> None:
    read = json.loads(bill)
    parts = {part["name"]: part for part in read["components"]}
    assert read["specVersion"] == "1.6"
    assert {name: part["version"] for name, part in parts.items()} == {pin.name: pin.version for pin in pins}
    for pin in pins:
        part = parts[pin.name]
        assert part["purl"] == f"pkg:pypi/{pin.name}@{pin.version}"
        assert part["scope"] == ("excluded" if pin.dev else "required")
        assert part["licenses"][0]["expression"]
        assert {each["content"] for each in part["externalReferences"][0]["hashes"]} == set(pin.hashes)
    assert parts["mutagen"]["licenses"] == [{"expression": "GPL-2.0-or-later", "acknowledgement": "declared"}]
    assert parts["av"]["licenses"][0]["acknowledgement"] == "concluded"
    product = read["metadata"]["component"]
    assert (product["name"], product["version"]) == ("mgc", __version__)
    needed = {each["ref"]: each.get("dependsOn", []) for each in read["dependencies"]}
    assert parts["torch"]["bom-ref"] in needed["mgc"]
    assert parts["botocore"]["bom-ref"] in needed[parts["boto3"]["bom-ref"]]


def test_the_same_packages_give_the_same_bill(bill: str, pins: list[lock.Pin]) -> None:
    assert sbom.bill(pins, lock.needs(lock.DEV_EXTRA), AT) == bill
    fewer = [pin for pin in pins if not pin.dev]
    other = sbom.bill(fewer, lock.needs(lock.RUN_EXTRA), AT)
    assert json.loads(other)["serialNumber"] != json.loads(bill)["serialNumber"]


def test_licence_texts_are_those_of_an_image(pins: list[lock.Pin]) -> None:
    chosen = [pin for pin in pins if pin.name in ("mutagen", "numpy", "yamllint", "obstore")]
    text = sbom.texts(chosen)
    assert re.search(r"^mutagen [\d.]+\nGPL-2\.0-or-later$", text, re.MULTILINE)
    assert "GNU GENERAL PUBLIC LICENSE" in text
    assert "Name: libquadmath" in text
    assert "obstore" in text.split("The wheel of this package has no licence text.")[0]
    assert "yamllint" not in text


def test_all_licences_are_known_and_named(pins: list[lock.Pin]) -> None:
    assert licences.faults(pins, licences.PAGE.read_text()) == []


def test_a_licence_that_asks_for_more_must_be_named(pins: list[lock.Pin]) -> None:
    unnamed = {line.split()[0] for line in licences.faults(pins, "")}
    assert {"mutagen", "av", "soundfile", "soxr", "certifi", "nvidia-cublas", "numpy"} <= unnamed
    # Under the GPL, but only a check.
    assert "yamllint" not in unnamed


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "nothing says its licence"),
        ("MIT AND (", "is no SPDX expression"),
        ("AGPL-3.0-only", "AGPL-3.0-only is on no list"),
        ("MIT AND SSPL-1.0", "SSPL-1.0 is on no list"),
        ("MIT OR SSPL-1.0", ""),
        ("GPL-2.0-or-later OR Apache-2.0", ""),
        ("Apache-2.0 WITH LLVM-exception", ""),
    ],
)
def test_which_expressions_are_refused(
    expression: str, said: str, pins: list[lock.Pin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(licences.CONCLUDED, "click", expression)
    wrong = licences.faults([pin for pin in pins if pin.name == "click"], "")
    assert (said in wrong[0]) if said else wrong == []
