"""Requests to the training jobs. A command line makes these, so this module imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from cluster.storage.selection import ALL, Selection
from mgc.units import MAX_FILE_GIB

if TYPE_CHECKING:
    from cluster.session.profiles import Profile
    from cluster.storage.uri import Uri
    from mgc.bundle_names import BundleName
    from mgc.experiment import Experiment
    from mgc.recipes.space import Space
    from tune.config import SearchConfig


@dataclass(frozen=True)
class PrepareRequest:
    """Compute the features of a catalog's tracks.

    Attributes:
        catalog: catalog, or a source of tracks that is listed now.
        out: folder of the features.
        experiment: front end and listening plan.
        profile: profile of an open Ray session, or the name of a profile; None uses all there is.
        limit: number of tracks to take, the first ones; None for all.
        dry_run: whether only to print what would be done.
        allow_roots: places below which the tracks of a catalog may lie; without any, those of its own SOURCE.
        selection: which files of a source are wanted.
        max_file_gib: size of the largest file to hear.
    """

    catalog: Uri
    out: Uri
    experiment: Experiment
    profile: Profile | str | None = None
    limit: int | None = None
    dry_run: bool = False
    allow_roots: tuple[Uri, ...] = ()
    selection: Selection = ALL
    max_file_gib: int = MAX_FILE_GIB


@dataclass(frozen=True)
class ImportRequest:
    """Turn a Parquet file of FMA-small mels into features.

    Attributes:
        source: the file.
        out: folder of the features.
        limit: number of tracks to take, the first ones; None for all.
        ratio: tracks of the most frequent genre per track of the rarest, after thinning the training tracks; None
            keeps all.
        dry_run: whether only to print what would be done.
    """

    source: Uri
    out: Uri
    limit: int | None = None
    ratio: float | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class TrainRequest:
    """Train a model and save it as a bundle. The training reads `features`, or else `catalog`.

    Attributes:
        experiment: what to train.
        out: folder of the bundle.
        features: prepared features.
        catalog: catalog whose tracks are decoded during the training.
        checkpoints: folder for checkpoints, kept at the end; None for one inside `out`, deleted at the end.
        tensorboard: folder of event files; None for one inside `out`.
        mlflow: URI of an MLflow server; None for none.
        workers: data-parallel workers.
        limit: number of tracks of each split; None for all.
        profile: profile of an open Ray session, or the name of a profile; None uses all there is.
        fewest_workers: fewest workers to continue with when nodes are lost; None keeps the profile's number.
        accumulation: parts in which a worker computes its share of a batch; 1 keeps the profile's number.
        float32: whether to compute in float32, even if the recipe allows bfloat16.
        compile: whether to compile the network.
        prefetch_batches: batches that a worker fetches ahead; None keeps the profile's number.
        overwrite: whether to replace another bundle at `out`.
        dry_run: whether only to print what would be done.
        allow_roots: places below which the tracks of the catalog may lie; without any, those of its own SOURCE.
        init: bundle whose weights the training starts from; None for untrained ones.
        init_network: number of the bundle's network, counted from 1, if it is an ensemble.
    """

    experiment: Experiment
    out: Uri
    features: Uri | None = None
    catalog: Uri | None = None
    checkpoints: Uri | None = None
    tensorboard: Uri | None = None
    mlflow: str | None = None
    workers: int = 1
    limit: int | None = None
    profile: Profile | str | None = None
    fewest_workers: int | None = None
    accumulation: int = 1
    float32: bool = False
    compile: bool = False
    prefetch_batches: int | None = None
    overwrite: bool = False
    dry_run: bool = False
    allow_roots: tuple[Uri, ...] = ()
    init: Uri | BundleName | None = None
    init_network: int | None = None


PROBE: Final = "probe"
"""Name of the recipe of heads on embeddings."""


@dataclass(frozen=True)
class ProbeRequest:
    """Train a head on embeddings and save it, with the network that made them, as a bundle.

    Attributes:
        embeddings: table of embeddings.
        catalog: catalog that knows genres.
        out: folder of the bundle.
        init: bundle that made the embeddings; None for the one that the table names.
        hidden: units of a hidden layer; 0 for a linear head.
        seed: seed of the division into folds.
        overwrite: whether to replace another bundle at `out`.
        dry_run: whether only to print what would be done.
        allow_roots: places below which the tracks of the catalog may lie; without any, those of its own SOURCE.
    """

    embeddings: Uri
    catalog: Uri
    out: Uri
    init: Uri | BundleName | None = None
    hidden: int = 0
    seed: int = 0
    overwrite: bool = False
    dry_run: bool = False
    allow_roots: tuple[Uri, ...] = ()


@dataclass(frozen=True)
class SearchRequest:
    """Search the fields of a recipe and save the best trial as a bundle.

    Attributes:
        experiment: the recipe, with fixed values for the fields outside the space.
        space: fields to search.
        config: how to search.
        features: prepared features.
        out: folder of the report and the trials. The bundle is in `bundle/`, Ray Tune's own files are in `trials/`.
        workers: data-parallel workers of each trial.
        at_once: number of trials to run at the same time; None for as many as fit.
        limit: number of tracks of each split; None for all.
        refit: whether to train the best trial once more, on training and validation tracks together.
        test: whether to score the bundle on the test split.
        profile: profile of an open Ray session, or the name of a profile; None uses all there is.
        overwrite: whether to replace another search at `out`.
        dry_run: whether only to print what would be done.
    """

    experiment: Experiment
    space: Space
    config: SearchConfig
    features: Uri
    out: Uri
    workers: int = 1
    at_once: int | None = None
    limit: int | None = None
    refit: bool = False
    test: bool = False
    profile: Profile | str | None = None
    overwrite: bool = False
    dry_run: bool = False

    @property
    def bundle(self) -> Uri:
        """Folder of the best bundle."""
        return self.out / "bundle"

    @property
    def trials(self) -> Uri:
        """Folder of Ray Tune's own files."""
        return self.out / "trials"

    @property
    def expected_trials(self) -> int | None:
        """Number of trials, or None if the space is infinite."""
        return self.config.trials or self.space.size


@dataclass(frozen=True)
class BalanceRequest:
    """Train one recipe with each balance method, score each, and tabulate them.

    Attributes:
        experiments: what to train, by method and seed.
        features: prepared features.
        out: folder of the bundles, one each, and of the results.
        split: split to score.
        shots: method to group the genres: in `thirds`, or like `liu` by their number of clips.
        workers: data-parallel workers.
        limit: number of tracks of each split; None for all.
        profile: profile of an open Ray session, or the name of a profile; None uses all there is.
        dry_run: whether only to print what would be done.
    """

    experiments: Mapping[tuple[str, int], Experiment]
    features: Uri
    out: Uri
    split: str = "test"
    shots: Literal["thirds", "liu"] = "thirds"
    workers: int = 1
    limit: int | None = None
    profile: Profile | str | None = None
    dry_run: bool = False
