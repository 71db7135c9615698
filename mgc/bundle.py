"""Bundle: a trained model as a directory that anyone can load. Safetensors and JSON, never pickle.

- `model.safetensors`: weights
- `experiment.json`: the Experiment, the bundle's id and the front end's
- `taxonomy.json`: genres in the order of the logits
- `normalization.json`: what is subtracted from each bin and what it is divided by
- `calibration.json`: the adjustment of its logits to balanced priors, null where there is none; older bundles lack it
- `metrics.json`: scores, training history, what the data was
- `trained_on.safetensors`: hashes of the tracks and artists trained on; older bundles have none
- `report.html`: the evaluation report, once there is one; not read
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
from pyarrow import fs
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from mgc.audio.decode import listen
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.recording import Recording, record
from mgc.audio.source import Held, OpenFile
from mgc.configuration import short_hash, to_json, what_differs
from mgc.credentials import without_credentials
from mgc.errors import AudioError, BundleError, ConfigError, ErrorKind, StorageError
from mgc.evaluation.leakage import Groups
from mgc.experiment import Experiment
from mgc.features.front_end import FrontEnd, build_front_end, features_id
from mgc.features.normalization import Normalization
from mgc.labeling.adjust import PriorAdjustment
from mgc.labeling.decide import decide
from mgc.labeling.file_label import FileLabel
from mgc.labeling.predict import Predict
from mgc.models.architecture import build_model
from mgc.models.blocks import Classifier
from mgc.taxonomy import Taxonomy

DEFAULT: Final = "default"
"""Name of the bundle that is shipped with the program."""

_DEFAULT_DIRECTORY: Final = Path(__file__).parent / "default_bundle"
_WEIGHTS: Final = "model.safetensors"
_CALIBRATION: Final = "calibration.json"
FILES: Final = (_WEIGHTS, "taxonomy.json", "normalization.json", _CALIBRATION, "metrics.json", "experiment.json")
"""What is written of every bundle, in this order: a bundle with experiment.json is whole."""

TRAINED_ON: Final = "trained_on.safetensors"
"""What is written beside these where it is known. It and the calibration may be missing when a bundle is read."""

_WAY_OUT: Final = "Copy it again, or train it again."

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained model with all that determines its answers.

    Attributes:
        experiment: how it was made.
        taxonomy: what it can answer.
        normalization: of the features.
        model: the network, in evaluation mode.
        metrics: JSON-ready facts: `history`, `scores`, `data`, `notices`.
        adjustment: of the logits, after training; None where there is none.
        trained_on: tracks and artists that it was trained on; None where nobody noted them.

    Raises:
        BundleError: the normalization is of another number of bins, the adjustment of another number of genres, or a
            weight is not finite: training went wrong.
    """

    experiment: Experiment
    taxonomy: Taxonomy
    normalization: Normalization
    model: Classifier
    metrics: dict[str, Any] = field(default_factory=dict)
    adjustment: PriorAdjustment | None = None
    trained_on: Groups | None = None

    def __post_init__(self) -> None:
        shape = self._front_end.shape
        bins = shape[-1] if len(shape) == 3 else shape[0]
        if len(self.normalization.offset_F) != bins:
            found = len(self.normalization.offset_F)
            raise BundleError(f"bundle: the normalization is of {found} bins, the front end gives {bins}.")
        if self.adjustment is not None and len(self.adjustment.priors_G) != len(self.taxonomy):
            found = len(self.adjustment.priors_G)
            raise BundleError(f"bundle: the adjustment is of {found} genres, the taxonomy has {len(self.taxonomy)}.")
        for name, tensor in self._weights().items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise BundleError(
                    f"bundle: the weights {name} are not all finite numbers: this model was not trained well."
                )

    @functools.cached_property
    def _front_end(self) -> FrontEnd:
        return build_front_end(self.experiment.front_end)

    @functools.cached_property
    def _predict(self) -> Predict:
        return self.predictor()

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits of a hash of what determines the answers.

        That is weights, network, front end, listening plan, normalization, taxonomy and adjustment. How it was
        trained, on what, metrics and report do not change it.
        """
        experiment = self.experiment
        facts = {
            "weights": _digest(self._weights()),
            "front_end": self.features_id,
            "listening": to_json(experiment.listening),
            "model": what_differs(experiment.model),
            "taxonomy": self.taxonomy.to_json(),
            "normalization": self.normalization.to_json(),
        }
        if self.adjustment is not None:
            # Only then: bundles of before there were adjustments keep their ids.
            facts["adjustment"] = self.adjustment.to_json()
        return short_hash(facts)

    @property
    def features_id(self) -> str:
        """The hash of the front end; features of another hash do not fit."""
        return features_id(self.experiment.front_end)

    def check_features(self, found: str, where: str) -> None:
        """Refuse features of another front end.

        Raises:
            BundleError: naming both.
        """
        if found != self.features_id:
            kind = self.experiment.front_end.kind
            raise BundleError(
                f"{where}: these features are {found}, the bundle's front end ({kind}) computes {self.features_id}; "
                "prepare features with the bundle's recipe, or train a bundle on these."
            )

    def check_taxonomy(self, genres: list[str], where: str) -> None:
        """Refuse true labels that the bundle cannot answer.

        Raises:
            BundleError: naming the genres.
        """
        strange = sorted(set(genres) - set(self.taxonomy.names))
        if strange:
            raise BundleError(
                f"{where}: the genre(s) {', '.join(strange)} are not in the bundle's taxonomy "
                f"({', '.join(self.taxonomy.names)})."
            )

    def predictor(self, device: torch.device | None = None, top_k: int = 3) -> Predict:
        """The stage that labels batches of clips, with a copy of the model on its device.

        Args:
            device: where to compute; the CPU by default.
            top_k: genres listed for a track, at most.
        """
        return Predict(
            self.model,
            self.normalization,
            self.taxonomy,
            self._front_end.shape,
            device,
            top_k,
            dtype=self._front_end.dtype,
            adjustment=self.adjustment,
        )

    def label(self, audio: str | Path | bytes, top_k: int = 3) -> FileLabel:
        """Label one file, in this process.

        Args:
            audio: a path, or the file's bytes.
            top_k: genres listed, at most.

        Raises:
            AudioError: the file holds no audio that can be listened to; says why.
        """
        plan = self.experiment.listening
        recording = record(Held(audio), plan) if isinstance(audio, bytes) else _record(Path(audio), plan)
        heard = listen(recording, plan, self._front_end)
        logits_CG = np.concatenate([self._predict.logits(clips.features) for clips in heard.windows])
        decision = decide(logits_CG, self.taxonomy.names, top_k)
        return FileLabel(
            decision.genre_top,
            decision.confidence,
            decision.top_k,
            heard.duration_seconds,
            heard.seconds,
            heard.decoder,
            heard.damage,
        )

    def save(self, directory: str | Path) -> str:
        """Write the bundle's files into a local directory, replacing what is there; returns the bundle's id.

        Raises:
            StorageError: the directory cannot be written.
        """
        directory = Path(directory)
        bundle_id = self.id
        ids = {"bundle_id": bundle_id, "features_id": self.features_id}
        texts = {
            "taxonomy.json": self.taxonomy.to_json(),
            "normalization.json": self.normalization.to_json(),
            _CALIBRATION: {"adjustment": None if self.adjustment is None else self.adjustment.to_json()},
            "metrics.json": self.metrics,
            "experiment.json": {**ids, **self.experiment.to_json()},
        }
        contents = {name: (json.dumps(value, indent=2) + "\n").encode() for name, value in texts.items()}
        contents[_WEIGHTS] = save_tensors(self._weights())
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if self.trained_on is None:
                (directory / TRAINED_ON).unlink(missing_ok=True)
            else:
                (directory / TRAINED_ON).write_bytes(self.trained_on.to_bytes())
            for name in FILES:
                (directory / name).write_bytes(contents[name])
        except OSError as error:
            raise StorageError(f"bundle {directory} cannot be written: {error.strerror or error}.") from None
        return bundle_id

    def _weights(self) -> dict[str, torch.Tensor]:
        """Contiguous copies in one order, whatever their device and memory layout."""
        return {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(self.model.state_dict().items())}


def load_bundle(uri: str | Path = DEFAULT, filesystem: fs.FileSystem | None = None) -> Bundle:
    """Load a bundle.

    Args:
        uri: a local directory, any URI that pyarrow can open (`s3://bucket/bundle`, with the usual AWS variables), or
            "default" for the bundle shipped with the program.
        filesystem: where `uri` is a path in it; given by callers that have a filesystem of their own.

    Raises:
        BundleError: the directory or a file of it is missing or corrupt, it was changed by hand, its front end computes
            other numbers in this mgc, or it was written by a newer one. One line, without credentials.
    """
    # A URI of pyarrow's may hold credentials.
    where = f"bundle {without_credentials(str(uri))}"
    filesystem, path = _locate(uri, filesystem, where)
    # First, since it says whether the others can be understood.
    fields = _json(_read(filesystem, path, "experiment.json", where), "experiment.json", where, dict)
    stated = {name: fields.pop(name, None) for name in ("bundle_id", "features_id")}
    try:
        experiment = Experiment.from_json(fields, f"{where}, experiment.json")
    except ConfigError as error:
        raise BundleError(str(error)) from None
    needed = [name for name in FILES if name not in ("experiment.json", _CALIBRATION)]
    contents = {name: _read(filesystem, path, name, where) for name in needed}
    computed = features_id(experiment.front_end)
    if stated["features_id"] != computed:
        raise BundleError(
            f"{where}: it was trained on features {stated['features_id']}, the front end {experiment.front_end.kind} "
            f"of this mgc computes {computed}. Use the mgc that wrote it, or train it again."
        )

    genres = _json(contents["taxonomy.json"], "taxonomy.json", where, list)
    taxonomy = _made(lambda: Taxonomy.from_json(genres), "taxonomy.json", where)
    measured = _json(contents["normalization.json"], "normalization.json", where, dict)
    normalization = _made(lambda: Normalization.from_json(measured), "normalization.json", where)
    metrics = _json(contents["metrics.json"], "metrics.json", where, dict)
    model = _made(lambda: _model(experiment, len(taxonomy), contents[_WEIGHTS]), _WEIGHTS, where)
    stored = _read_if_there(filesystem, path, _CALIBRATION, where)
    adjustment = None if stored is None else _adjustment(stored, where)
    hashes = _read_if_there(filesystem, path, TRAINED_ON, where)
    trained_on = None if hashes is None else _made(functools.partial(Groups.from_bytes, hashes), TRAINED_ON, where)
    parts = (experiment, taxonomy, normalization, model, metrics)
    bundle = _made(lambda: Bundle(*parts, adjustment=adjustment, trained_on=trained_on), "its contents", where)
    if stated["bundle_id"] != bundle.id:
        raise BundleError(
            f"{where} is corrupt or was changed by hand: it states id {stated['bundle_id']}, its contents give "
            f"{bundle.id}. {_WAY_OUT}"
        )
    return bundle


def _locate(uri: str | Path, filesystem: fs.FileSystem | None, where: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a bundle and the path of its directory there."""
    try:
        if filesystem is not None:
            path = str(uri)
        elif "://" in str(uri):
            filesystem, path = fs.FileSystem.from_uri(str(uri))
        else:
            directory = _DEFAULT_DIRECTORY if str(uri) == DEFAULT else Path(uri)
            filesystem, path = fs.LocalFileSystem(), str(directory.expanduser().absolute())
        path = path.rstrip("/")
        found = filesystem.get_file_info(path).type
    except (OSError, ValueError, RuntimeError) as error:
        raise BundleError(f"{where} cannot be opened: {_short(error)}.") from None
    if found != fs.FileType.Directory:
        what = "there is no such directory" if found == fs.FileType.NotFound else "this is a file"
        raise BundleError(f"{where}: {what}. A bundle is a directory written by `mgc train --out BUNDLE`.")
    return filesystem, path


def _read(filesystem: fs.FileSystem, path: str, name: str, where: str) -> bytes:
    data = _read_if_there(filesystem, path, name, where)
    if data is None:
        raise BundleError(f"{where}: {name} is missing. {_WAY_OUT}")
    return data


def _read_if_there(filesystem: fs.FileSystem, path: str, name: str, where: str) -> bytes | None:
    try:
        with filesystem.open_input_stream(f"{path}/{name}") as stream:
            data: bytes = stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(f"{where}: {name} cannot be read: {_short(error)}.") from None
    return data


def _adjustment(data: bytes, where: str) -> PriorAdjustment | None:
    value = _json(data, _CALIBRATION, where, dict).get("adjustment")
    return None if value is None else _made(lambda: PriorAdjustment.from_json(value), _CALIBRATION, where)


def _json(data: bytes, name: str, where: str, kind: type) -> Any:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: {name} is not JSON ({_short(error)}). {_WAY_OUT}") from None
    if not isinstance(value, kind):
        raise BundleError(f"{where}: {name} holds no JSON {'object' if kind is dict else 'list'}. {_WAY_OUT}")
    return value


def _made(make: Callable[[], Made], name: str, where: str) -> Made:
    """What `make` returns; an error that names the bundle and the file where it does not."""
    try:
        return make()
    except BundleError as error:
        raise BundleError(f"{where}: {str(error).removeprefix('bundle: ')}") from None
    except (ConfigError, ValueError) as error:
        raise BundleError(f"{where}: {name} is corrupt: {_short(error)}. {_WAY_OUT}") from None


def _model(experiment: Experiment, genres: int, weights: bytes) -> Classifier:
    model = build_model(experiment.model, build_front_end(experiment.front_end).shape, genres)
    try:
        model.load_state_dict(load_tensors(weights))
    except SafetensorError as error:
        raise ValueError(f"no safetensors ({_short(error)})") from None
    except RuntimeError:
        raise ValueError(f"not the weights of this {experiment.model.kind} with {genres} genres") from None
    return model.eval()


def _digest(weights: dict[str, torch.Tensor]) -> str:
    """SHA-256 of names, types, shapes and numbers: of the weights, not of the way in which a library writes them."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(f"{name}:{tensor.dtype}:{list(tensor.shape)}:".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _record(path: Path, plan: ListeningPlan) -> Recording:
    try:
        with path.expanduser().open("rb") as file:
            return record(OpenFile(file.fileno(), path.expanduser().stat().st_size), plan)
    except OSError as error:
        raise AudioError(ErrorKind.FETCH_FAILED, f"{path}: {error.strerror or error}") from None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
