"""`make sbom`: what an image redistributes, as a CycloneDX file and as one text of all licences.

build/sbom.cdx.json lists mgc and all packages of requirements.lock; those that only checks and tests need are marked
`excluded`. build/third-party-licenses.txt has the licence texts of the packages in an image. The same commit and the
same packages give the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import distribution
from typing import Final

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import LicenseAcknowledgement, LicenseExpression
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from infra import dist, licences, lock
from mgc.version import __version__

OUT: Final = lock.ROOT / "build"
SBOM: Final = "sbom.cdx.json"
TEXTS: Final = "third-party-licenses.txt"


def main() -> None:
    """Write both files, and print where they are."""
    try:
        pins, needs = lock.read(lock.LOCK.read_text(encoding="utf-8")), lock.needs(lock.DEV_EXTRA)
        lacking = [f"{pin.name} {pin.version}" for pin in pins if distribution(pin.name).version != pin.version]
    except (lock.LockError, ImportError) as error:
        sys.exit(f"sbom: requirements.lock: {error}; run `make setup`.")
    if lacking:
        sys.exit(f"sbom: {', '.join(lacking[:5])}: another version is installed than the lock has; run `make setup`.")
    OUT.mkdir(exist_ok=True)
    for name, text in ((SBOM, bill(pins, needs, _time())), (TEXTS, texts(pins))):
        (OUT / name).write_text(text, encoding="utf-8")
        print(f"{OUT / name}  {len(text.encode()) / 2**20:.1f} MiB")


def bill(pins: list[lock.Pin], needs: Mapping[str, set[str]], at: datetime) -> str:
    """Return the bill of materials, CycloneDX 1.6 in JSON.

    Args:
        pins: packages, which must be installed.
        needs: which packages each needs, as `lock.needs`.
        at: the time that it bears.
    """
    bom = Bom()
    bom.metadata.timestamp = at
    product = Component(
        name="mgc",
        version=__version__,
        type=ComponentType.APPLICATION,
        bom_ref="mgc",
        licenses=[LicenseExpression("Apache-2.0", acknowledgement=LicenseAcknowledgement.DECLARED)],
    )
    bom.metadata.component = product
    parts = {pin.name: _component(pin) for pin in pins}
    for part in parts.values():
        bom.components.add(part)
    for name, needed in needs.items():
        bom.register_dependency(product if name == lock.PROJECT else parts[name], [parts[each] for each in needed])
    # The number follows from the contents: twice the same bill is one bill.
    bom.serial_number = uuid.UUID(int=0)
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(_json(bom).encode()).hexdigest())
    return _json(bom) + "\n"


def texts(pins: list[lock.Pin]) -> str:
    """Return name, version, licence and licence texts of each package that an image has."""
    parts = [f"Third-party packages in an image of mgc {__version__}, with their licences.\n"]
    for pin in pins:
        if pin.dev:
            continue
        found = licences.texts(pin.name)
        parts.append(f"{'=' * 120}\n{pin.name} {pin.version}\n{licences.licence(pin.name).expression}\n")
        parts += [f"{'-' * 120}\n{path}\n\n{text}\n" for path, text in found]
        if not found:
            parts.append("The wheel of this package has no licence text.\n")
    return "\n".join(parts)


def _component(pin: lock.Pin) -> Component:
    address = PackageURL("pypi", name=pin.name, version=pin.version)
    found = licences.licence(pin.name)
    said = LicenseAcknowledgement.DECLARED if found.declared else LicenseAcknowledgement.CONCLUDED
    wheels = [HashType(alg=HashAlgorithm.SHA_256, content=each) for each in pin.hashes]
    return Component(
        name=pin.name,
        version=pin.version,
        type=ComponentType.LIBRARY,
        bom_ref=str(address),
        purl=address,
        scope=ComponentScope.EXCLUDED if pin.dev else ComponentScope.REQUIRED,
        licenses=[LicenseExpression(found.expression, acknowledgement=said)],
        # These are the wheels for all platforms. A component's own hashes would be those of one file.
        external_references=[
            ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(str(address)), hashes=wheels)
        ],
    )


def _json(bom: Bom) -> str:
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)


def _time() -> datetime:
    said = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.fromtimestamp(int(said) if said else dist.commit_time(), UTC)


if __name__ == "__main__":
    main()
