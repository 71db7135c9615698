"""Fixtures that all tests share. Each process of a run starts its own object store and its own Ray, on first use."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import platformdirs
import pytest
from hypothesis import settings

from cluster.session.connect import connect
from cluster.session.profiles import Profile
from tests.schedule import OneRay
from tests.support import draws, fault_proxy
from tests.support.object_store import ObjectStore, running
from tests.support.ray_head import RayHead
from tests.support.ray_head import running as running_ray
from tests.support.web.http_messages import Keys

# The time that an example takes depends on how busy the machine is.
settings.register_profile("mgc", deadline=None)
settings.load_profile("mgc")


_CACHE_SETTING: Final = "XDG_CACHE_HOME"
_OWN_CACHE: Final = "mgc-test-cache-"


def pytest_configure(config: pytest.Config) -> None:
    """Make the run independent of the terminal and of pulled bundles, and let each process compute in one thread.

    xdist passes the width on to its processes. They share the cores with Ray's workers, where more threads only wait
    for each other.
    """
    draws.draw_all(draws.MARK in config.option.markexpr)
    os.environ.pop("COLUMNS", None)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # The processes of xdist, and all others, inherit the variable.
    if _OWN_CACHE not in os.environ.get(_CACHE_SETTING, ""):
        cache = Path(tempfile.mkdtemp(prefix=_OWN_CACHE))
        config.add_cleanup(lambda: shutil.rmtree(cache))
        _share_caches(cache)
        os.environ[_CACHE_SETTING] = str(cache)


def _share_caches(cache: Path) -> None:
    """Show the user's caches in another folder, but for the one of mgc: matplotlib's takes seconds to make."""
    for real in platformdirs.user_cache_path().glob("*"):
        if real.name != "mgc":
            (cache / real.name).symlink_to(real)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneRay:
    """Share the files out as `make test` does."""
    return OneRay(config, log)


@pytest.fixture(scope="session")
def direct_store() -> Iterator[ObjectStore]:
    """A real S3-compatible store."""
    with tempfile.TemporaryDirectory(prefix="mgc-object-store-") as folder, running(Path(folder)) as store:
        yield store


@pytest.fixture(scope="session")
def store_proxy(direct_store: ObjectStore) -> Iterator[fault_proxy.Proxy]:
    """The proxy between the store and all who use it: it counts requests, and breaks them while it is armed."""
    keys = Keys(direct_store.access_key, direct_store.secret_key, direct_store.region)
    with fault_proxy.running(direct_store.endpoint_url, keys) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def object_store(direct_store: ObjectStore, store_proxy: fault_proxy.Proxy) -> ObjectStore:
    """The store behind the proxy. `s3_environment` also sets the environment variables."""
    return replace(direct_store, endpoint_url=store_proxy.url)


@pytest.fixture(scope="session")
def s3_environment(object_store: ObjectStore) -> Iterator[ObjectStore]:
    """The AWS variables of the store, set for the rest of the session.

    Ray's workers inherit the environment that they find when the head starts, so Ray's fixtures ask for this one
    first. A test that needs other settings changes them with `monkeypatch`, which restores these.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in object_store.environment().items():
            patch.setenv(name, value)
        # Keep a developer's ~/.aws and a cloud machine's metadata service out of the tests.
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
    """A real Ray head. Its workers know the object store."""
    with tempfile.TemporaryDirectory(prefix="mgc-ray-") as folder, running_ray(Path(folder)) as head:
        yield head


@pytest.fixture(scope="session")
def ray_session(ray_head: RayHead) -> Iterator[Profile]:
    """This process as a driver of the head. All jobs that it runs share one Ray session."""
    with connect(ray_head.address) as profile:
        yield profile
