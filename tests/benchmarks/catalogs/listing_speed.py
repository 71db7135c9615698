"""Listing a bucket of the tests' object store one request after another, and side by side; and what ten million cost.

python -m tests.benchmarks.catalogs.listing_speed [--keys 20000] [--page-keys 100] [--latency-ms 100]

The keys are entered into the store's own listing database, so that 20,000 take a second and not minutes: the store
lists them as any others, but holds no object for them.

The store answers from the same cores that ask, and at once. So the listing is timed with a wait before each request, as
long as a far store takes to answer, and with small pages, so that 20,000 keys are 200 pages. What the same machine
needs to read a page of 1,000 keys is timed apart. The arithmetic for ten million keys follows from both.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.storage import files, s3
from cluster.storage.listing import list_audio
from cluster.storage.listing.parallel import LISTERS, list_in_parts
from cluster.storage.uri import Uri
from tests.support.object_store import ObjectStore, running

MILLIONS = 10_000_000
ANSWER_SECONDS = 0.2
"""Assumed of Amazon S3 in the same region, for a page of 1,000 keys."""
DOLLARS_A_THOUSAND = 0.005
"""Amazon's list price of LIST requests, us-east-1."""


def folders(count: int) -> list[str]:
    """Keys of a tidy catalog: artists of very different sizes, albums, tracks; one key in twenty is a cover."""
    draw = random.Random(1)
    keys: list[str] = []
    while len(keys) < count:
        artist = f"artist {draw.randrange(10**5):05d} {len(keys):08d}"
        for album in range(draw.choice((1, 1, 2, 3, 20))):
            keys += [f"music/{artist}/album {album}/{track:02d}.mp3" for track in range(1, 20)]
            keys.append(f"music/{artist}/album {album}/cover.jpg")
    return sorted(keys[:count])


def flat(count: int) -> list[str]:
    """Keys without any folder, numbered with gaps."""
    return [f"track_{7 * number:09d}.mp3" for number in range(count)]


def enter(store: ObjectStore, bucket: str, keys: list[str], body: str = "", deleted: bool = False) -> None:
    """Enter keys into the store's listing of a bucket, or take them out; another body is another ETag."""
    from swift.common.utils import Timestamp
    from swift.container.backend import ContainerBroker

    for path in store.folder.glob("disk/d0/containers/*/*/*/*.db"):
        broker = ContainerBroker(str(path))
        if broker.get_info()["container"] == bucket:
            facts = {"created_at": Timestamp.now().internal, "size": 8_000_000, "content_type": "audio/mpeg"}
            facts |= {"deleted": int(deleted), "storage_policy_index": 0}
            facts |= {"ctype_timestamp": None, "meta_timestamp": None}
            tags = {key: hashlib.md5(f"{key} {body}".encode()).hexdigest() for key in keys}
            for first in range(0, len(keys), 10_000):
                some = keys[first : first + 10_000]
                broker.merge_items([{"name": key, "etag": tags[key], **facts} for key in some])
            return
    raise LookupError(f"no listing database of {bucket} in {store.folder}")


@contextmanager
def asked(uri: str, latency_seconds: float) -> Iterator[list[str]]:
    """Counts LIST requests as they are sent, and lets each wait as long as a far store would."""
    seen: list[str] = []

    def wait(request: Any, **_: Any) -> None:
        seen.append(request.url)
        time.sleep(latency_seconds)

    events = s3.client(uri).meta.events
    events.register("before-send.s3.ListObjectsV2", wait, unique_id="listing-speed")
    try:
        yield seen
    finally:
        events.unregister("before-send.s3.ListObjectsV2", unique_id="listing-speed")


def timed(uri: str, latency_seconds: float, action: Callable[[], Any]) -> dict[str, Any]:
    """Requests, seconds and CPU seconds of a listing, and what it gave."""
    with asked(uri, latency_seconds) as seen:
        began, worked = time.perf_counter(), time.process_time()
        found = action()
        seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    return {"found": found, "requests": len(seen), "seconds": seconds, "cpu_seconds": cpu}


@contextmanager
def pages_of(keys: int) -> Iterator[None]:
    """Pages of fewer keys than a thousand."""
    usual, files.PAGE_KEYS = files.PAGE_KEYS, keys  # type: ignore[misc]
    try:
        yield
    finally:
        files.PAGE_KEYS = usual  # type: ignore[misc]


def in_parts(uri: str) -> tuple[list[str], dict[str, int]]:
    """The track ids of a bucket listed side by side, and the requests by kind."""
    with tempfile.TemporaryDirectory() as folder:
        listing = list_in_parts(Uri.parse(uri), Uri.parse(folder))
        ids = [track for table in listing.tables() for track in table["track_id"].to_pylist()]
        return ids, dict(listing.requests)


def small_pages(uri: str, keys: int, page_keys: int) -> dict[str, int]:
    """How many requests a listing in many pages takes beyond one a page."""
    with pages_of(page_keys):
        _, by_kind = in_parts(uri)
    pages = math.ceil(keys / page_keys)
    return {"pages_needed": pages, "extra_requests": sum(by_kind.values()) - pages}


def measure(uri: str, keys: int, page_keys: int, latency_seconds: float) -> dict[str, Any]:
    """List both ways, check that they agree, and compare."""

    with pages_of(page_keys):
        one = timed(uri, latency_seconds, lambda: [fact.track_id for fact in list_audio(Uri.parse(uri))])
        many = timed(uri, latency_seconds, lambda: in_parts(uri))
    ids, by_kind = many["found"]
    if ids != one["found"]:
        raise ValueError("the two listings differ")
    pages = math.ceil(keys / page_keys)
    return {
        "keys": keys,
        "tracks": len(ids),
        "pages_needed": pages,
        "one_by_one": {"requests": one["requests"], "seconds": one["seconds"], "keys_a_second": keys / one["seconds"]},
        "side_by_side": {
            "requests": many["requests"],
            **{f"requests_{kind}": count for kind, count in sorted(by_kind.items())},
            "seconds": many["seconds"],
            "keys_a_second": keys / many["seconds"],
        },
        "times_faster": one["seconds"] / many["seconds"],
        "extra_requests": many["requests"] - pages,
    }


def ten_million(extra_share: float, page_cpu_seconds: float) -> dict[str, float]:
    """Requests, hours and dollars for ten million keys.

    Args:
        extra_share: requests beyond one a page, as a share of the pages; of a smaller bucket, hence rather too much.
        page_cpu_seconds: this process's CPU time for a page of 1,000 keys, which threads do not share out.
    """
    pages = MILLIONS / 1000
    requests = pages * (1 + extra_share)
    return {
        "pages": pages,
        "requests": requests,
        "store_seconds": requests * ANSWER_SECONDS / LISTERS,
        "cpu_seconds": pages * page_cpu_seconds,
        "one_by_one_seconds": pages * (ANSWER_SECONDS + page_cpu_seconds),
        "side_by_side_seconds": max(requests * ANSWER_SECONDS / LISTERS, pages * page_cpu_seconds),
        "dollars": requests / 1000 * DOLLARS_A_THOUSAND,
    }


def shown(uri: str, keys: int, page_keys: int, latency_seconds: float) -> dict[str, Any]:
    """Measure a bucket and print what was found."""
    whole = timed(uri, 0.0, lambda: in_parts(uri))
    page_cpu = whole["cpu_seconds"] / whole["found"][1]["page"]
    found = measure(uri, keys, page_keys, latency_seconds)
    for way in ("one_by_one", "side_by_side"):
        print(f"  {way:<12}  " + "  ".join(f"{fact} {value:.6g}" for fact, value in found[way].items()))
    print(
        f"  {found['times_faster']:.1f} times faster at {1000 * latency_seconds:.0f} ms a request, {LISTERS} at a "
        f"time; {found['extra_requests']} requests beyond the {found['pages_needed']} pages"
    )
    # The search for places to halve grows much more slowly than the pages, so more of them say more of ten million.
    many = small_pages(uri, keys, max(1, page_keys // 10))
    share = many["extra_requests"] / many["pages_needed"]
    far = ten_million(share, page_cpu)
    print(
        f"  with {many['pages_needed']} pages: {many['extra_requests']} beyond them ({share:.1%})\n"
        f"  ten million keys, 10,000 pages of 1,000: at most {1 + share:.3f} x 10,000 = {far['requests']:.0f} "
        f"requests, ${far['dollars']:.3f} at ${DOLLARS_A_THOUSAND} a thousand;\n"
        f"    the store: {far['requests']:.0f} x {ANSWER_SECONDS} s / {LISTERS} = {far['store_seconds']:.0f} s; this "
        f"process: 10,000 x {1000 * page_cpu:.0f} ms of CPU = {far['cpu_seconds']:.0f} s; the greater counts: "
        f"{far['side_by_side_seconds']:.0f} s; one by one {far['one_by_one_seconds']:.0f} s"
    )
    return {**found, "page_cpu_seconds": page_cpu, "small_pages": many, "ten_million": far}


def main() -> None:
    """Measure a bucket with folders and one without, print both and the arithmetic, JSON last."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.catalogs.listing_speed")
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--page-keys", type=int, default=100)
    parser.add_argument("--latency-ms", type=float, default=100.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as store:
        os.environ.update(store.environment())
        outcome: dict[str, Any] = {"page_keys": arguments.page_keys, "latency_ms": arguments.latency_ms}
        for name, keys in (("folders", folders(arguments.keys)), ("flat", flat(arguments.keys))):
            bucket = store.make_bucket()
            began = time.perf_counter()
            enter(store, bucket, keys)
            print(
                f"{name}: {len(keys)} keys entered in {time.perf_counter() - began:.1f} s, e.g. {keys[len(keys) // 2]}"
            )
            outcome[name] = shown(f"s3://{bucket}", len(keys), arguments.page_keys, arguments.latency_ms / 1000)
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
