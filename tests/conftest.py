"""Fixtures that the whole test run shares. Each large thing (object store, Ray) starts once, on first use."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from cluster.session.connect import connect
from cluster.session.profiles import Profile
from tests.support import fault_proxy
from tests.support.object_store import ObjectStore, running
from tests.support.ray_head import RayHead
from tests.support.ray_head import running as running_ray

# How long an example takes says how busy the machine is.
settings.register_profile("mgc", deadline=None)
settings.load_profile("mgc")


def pytest_configure() -> None:
    """How wide somebody's terminal is, which xdist tells its processes, is no matter of the tests.

    On cores that the processes and Ray's workers share, each computes in one thread: several wait for each other.
    """
    os.environ.pop("COLUMNS", None)
    os.environ.setdefault("OMP_NUM_THREADS", "1")


class OneRay(LoadScopeScheduling):  # type: ignore[misc]
    """Shares files of tests out among processes; those that run Ray go to one of them: they share a head, and cores."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = nodeid.partition("::")[0]
        text = Path(self.config.rootpath, file).read_text(encoding="utf-8")
        return "Ray" if re.search(r"\bray_(session|head)\b|\blocal_cluster\b|\blocal\.running\b", text) else file

    def _assign_work_unit(self, node: Any) -> None:
        # The longest first, or the other process waits for it at the end.
        if "Ray" in self.workqueue:
            self.workqueue.move_to_end("Ray", last=False)
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneRay:
    """How `make test` shares the tests out."""
    return OneRay(config, log)


@pytest.fixture(scope="session")
def direct_store() -> Iterator[ObjectStore]:
    """A real S3-compatible store."""
    with tempfile.TemporaryDirectory(prefix="mgc-object-store-") as folder, running(Path(folder)) as store:
        yield store


@pytest.fixture(scope="session")
def store_proxy(direct_store: ObjectStore) -> Iterator[fault_proxy.Proxy]:
    """The proxy through which tests and Ray's workers reach the store: counts requests, breaks them where armed."""
    with fault_proxy.running(direct_store.endpoint_url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def object_store(direct_store: ObjectStore, store_proxy: fault_proxy.Proxy) -> ObjectStore:
    """The store as reached through the proxy. Does not touch the environment: see `s3_environment`."""
    return replace(direct_store, endpoint_url=store_proxy.url)


@pytest.fixture(scope="session")
def s3_environment(object_store: ObjectStore) -> Iterator[ObjectStore]:
    """The AWS variables of the store, for the rest of the session.

    Ray's workers inherit the environment as it is at `ray.init`, so a Ray fixture asks for this one first. A test that
    wants other settings changes them with `monkeypatch`, which puts these back.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in object_store.environment().items():
            patch.setenv(name, value)
        # A developer's own ~/.aws, and the metadata service of a cloud machine, have no say in the tests.
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield object_store


@pytest.fixture
def bucket_uri(s3_environment: ObjectStore) -> str:
    """The URI of an empty bucket of the test's own."""
    return f"s3://{s3_environment.make_bucket()}"


@pytest.fixture(scope="session")
def ray_head(s3_environment: ObjectStore) -> Iterator[RayHead]:
    """A real Ray head, whose workers know the object store."""
    with tempfile.TemporaryDirectory(prefix="mgc-ray-") as folder, running_ray(Path(folder)) as head:
        yield head


@pytest.fixture(scope="session")
def ray_session(ray_head: RayHead) -> Iterator[Profile]:
    """This process as a driver of the head: jobs called in it share one Ray session."""
    with connect(ray_head.address) as profile:
        yield profile
