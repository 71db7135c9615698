"""Reads event files of TensorBoard: records of TensorFlow's, with checksums of their lengths and bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.record_writer import masked_crc32c

from cluster.storage import files
from cluster.storage.uri import Uri


@dataclass
class Events:
    """What a folder of event files holds.

    Attributes:
        scalars: tag → (step, value), in the order in which they were written; what was purged is left out.
        images: tag → (step, PNG).
        parameters: of HParams.
        metrics: tags that HParams shows.
        purged: steps from which on the run was done again.
        files: how many there are.
    """

    scalars: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    images: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    metrics: list[str] = field(default_factory=list)
    purged: list[int] = field(default_factory=list)
    files: int = 0

    def steps(self, tag: str) -> list[int]:
        return [step for step, _ in self.scalars[tag]]


def records(data: bytes) -> list[bytes]:
    """The records of a file, their checksums compared."""
    found = []
    while data:
        header, check = data[:8], data[8:12]
        (length,) = struct.unpack("<Q", header)
        body = data[12 : 12 + length]
        assert struct.unpack("<I", check) == (masked_crc32c(header),)
        assert struct.unpack("<I", data[12 + length : 16 + length]) == (masked_crc32c(body),)
        found.append(body)
        data = data[16 + length :]
    return found


def read(uri: str) -> Events:
    """All event files of a folder, in the order in which TensorBoard reads them."""
    events = Events()
    for file in files.list_uris(Uri.parse(uri)):
        assert ".out.tfevents." in file.name
        events.files += 1
        for record in records(files.read_bytes(file)):
            event = Event.FromString(record)
            if event.session_log.status == SessionLog.START:
                events.purged.append(event.step)
                for points in events.scalars.values():
                    points[:] = [point for point in points if point[0] < event.step]
            for value in event.summary.value:
                _read(events, event.step, value)
    return events


def _read(events: Events, step: int, value: Any) -> None:
    if value.metadata.plugin_data.plugin_name == "hparams":
        data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for name, setting in data.session_start_info.hparams.items():
            events.parameters[name] = getattr(setting, setting.WhichOneof("kind"))
        events.metrics += [each.name.tag for each in data.experiment.metric_infos]
    elif value.HasField("image"):
        events.images[value.tag] = (step, value.image.encoded_image_string)
    else:
        events.scalars.setdefault(value.tag, []).append((step, value.simple_value))
