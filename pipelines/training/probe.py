"""`mgc train --recipe probe`: a head on embeddings, with an honest score, as a bundle."""

from __future__ import annotations

import io
import json
import platform
import shlex
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich import box
from rich.table import Table

import mgc
from cluster.bundles import save_bundle
from cluster.embeddings.table import EmbeddingsTable
from cluster.embeddings.vectors import Model
from cluster.storage import files
from mgc.bundle import Bundle
from mgc.bundle_facts import describe_model
from mgc.bundle_start import count_as_music, find_taught_sounds, put_head
from mgc.configuration import short_hash
from mgc.datasets.roster import Roster
from mgc.datasets.splits import TRAIN
from mgc.errors import LabelsError
from mgc.evaluation.calibration import calibration
from mgc.evaluation.intervals import Interval, ResamplingGroups
from mgc.evaluation.leakage import TrainedGroups
from mgc.evaluation.report import ReportContent, render_report, report_json
from mgc.evaluation.scores import Scores, score
from mgc.labeling.decide import decide, track_probabilities
from mgc.metrics import DataFacts, EvaluationFacts
from mgc.training.learning_curve import GOAL_F1, Need, needs_of
from mgc.training.probe import FEWEST_TRACKS, CrossFit, cross_fit, learning_curve, train_head
from mgc.units import format_count
from pipelines.catalogs.sources import open_catalog
from pipelines.command.console import plain, show
from pipelines.command.job import Summary, describe, say
from pipelines.models.choice import choose_model
from pipelines.training.answers import TOP_K, answers_of
from pipelines.training.labelled_embeddings import LabelledEmbeddings, read_labelled
from pipelines.training.requests import ProbeRequest
from pipelines.training.trained_before import find_trained

SPLIT: Final = "cross-validation"

HONEST: Final = "answers.parquet"
"""File beside a probe: the answer for each track by a head that was not trained on its artist."""


def train_probe(request: ProbeRequest) -> Summary:
    """Train a head on the embeddings of tracks with a known genre, score it by cross-validation, and save a bundle.

    Raises:
        BundleError: the bundle that made the embeddings is not there, or another bundle is at `out`.
        CatalogError: the catalog has no genres.
        LabelsError: there are no embeddings.
        TrainingError: the labels cannot be learned from.
    """
    table = EmbeddingsTable(request.embeddings)
    named = "" if request.init is None else f" --bundle {shlex.quote(str(request.init))}"
    remedy = f"`mgc embed CATALOG{named} --out EMBEDDINGS` writes them"
    if not table.exists:
        raise LabelsError(f"{request.embeddings}: there are no embeddings here; {remedy}.")
    base = choose_model(request.init, table).bundle
    catalog = open_catalog(request.catalog, request.allow_roots)
    where = str(request.catalog)
    if request.init is not None:
        remedy += ", and without --init the bundle of the table is taken"
    ears = Model(base.embedding_id, base.features_id)
    found = read_labelled(table, ears, catalog.tracks, where, request.seed, remedy)
    genres = sorted(set(found.rows["genre_top"].to_pylist()))
    key = _key(request, found, base)
    counts = {**found.counts, "tracks": found.rows.num_rows, "genres": len(genres)}
    if request.dry_run:
        describe({**counts, "bundle": base.id, "run": key, "would write": str(request.out)})
        return Summary("dry_run", counts)
    outputs = {"bundle": str(request.out)}
    trained = find_trained(request.out, key, request.overwrite)
    if trained is not None and files.exists(request.out / HONEST):
        say(f"{request.out}: this probe is already trained.")
        scores = None if trained.evaluation is None else trained.evaluation.read_scores()
        figures = {} if scores is None else _figures(scores)
        return Summary("up_to_date", {**counts, **figures}, outputs | {"bundle_id": trained.id})
    return _train(request, base, found, genres, tuple(catalog.notices), key, counts, outputs)


def _train(
    request: ProbeRequest,
    base: Bundle,
    found: LabelledEmbeddings,
    genres: list[str],
    notices: tuple[str, ...],
    key: str,
    counts: dict[str, int],
    outputs: dict[str, str],
) -> Summary:
    genre_N = np.array([genres.index(name) for name in found.rows["genre_top"].to_pylist()])
    groups = _group(found.rows)
    say(
        f"{format_count(len(genre_N), 'track')} of {format_count(len(genres), 'genre')}, "
        f"{format_count(groups.count, 'artist') if groups.kind == 'artists' else 'artists unknown'}, embedded by "
        f"bundle {base.id}"
    )
    left = {
        "without an embedding": found.counts["without_embedding"],
        "of the test side": found.counts["test"],
        "more than a head needs": found.counts["left_out"],
    }
    if any(left.values()):
        say("left out: " + ", ".join(f"{format_count(count, 'track')} {why}" for why, count in left.items() if count))
    warnings = _warn(found, genres, genre_N, groups)
    chosen = cross_fit(found.embedding_ND, genre_N, groups.index_N, len(genres), request.hidden, request.seed)
    needs = _find_needs(request, found, genres, genre_N, chosen)
    head = train_head(found.embedding_ND, genre_N, len(genres), chosen, request.hidden, request.seed)
    shares_NG = np.stack([track_probabilities(logits_G[None]) for logits_G in chosen.logits_NG])
    scores = score(genre_N, shares_NG, genres, groups)
    fit = calibration(genre_N, shares_NG, groups)
    description = (
        f"{format_count(len(genre_N), 'track')} of {request.catalog}, each answered by a head that was trained on "
        f"other {'artists' if groups.kind == 'artists' else 'tracks'} ({int(chosen.fold_N.max()) + 1} folds)"
    )
    roster = _roster(found.rows)
    trained_on = TrainedGroups.of(roster)
    if base.trained_on is not None:
        trained_on |= base.trained_on
    bundle = put_head(base, head, genres, "probe")
    taught = find_taught_sounds(bundle, found.embedding_ND, genre_N)
    bundle = count_as_music(bundle, taught)
    tracks = dict(zip(genres, np.bincount(genre_N, minlength=len(genres)).tolist(), strict=True))
    bundle = replace(
        bundle,
        trained_on=trained_on,
        training=bundle.training.updated(
            training_key=key,
            started_from=base.id,
            notices=tuple(dict.fromkeys([*base.training.notices, *notices, *warnings])),
            data=DataFacts(
                features=str(request.embeddings),
                tracks={"train_tracks": len(genre_N)},
                genre_tracks=tracks,
                genre_share={genre: count / len(genre_N) for genre, count in tracks.items()},
                protocol="cross-validation over artists" if groups.kind == "artists" else "cross-validation",
            ),
            made_with=bundle.training.made_with.updated(
                mgc=mgc.__version__, torch=torch.__version__, machine=platform.machine()
            ),
        ),
        evaluation=EvaluationFacts(split=SPLIT, description=description, scores=scores.to_json()),
    )
    content = ReportContent(
        title="Probe: score by cross-validation",
        notices=bundle.training.notices,
        model=describe_model(bundle),
        scores=scores,
        split_name=SPLIT,
        split_description=description,
        calibration=fit,
    )
    report = {
        "report.html": render_report(content).encode(),
        HONEST: _honest(found.rows, chosen, tuple(genres)),
        "report.json": (json.dumps(report_json(content), indent=2, allow_nan=False) + "\n").encode(),
    }
    bundle_id = save_bundle(bundle, request.out, report)
    for warning in warnings:
        say(warning)
    for genre, sounds in taught.items():
        say(f"{plain(genre)}: half or more of its tracks are {', '.join(sounds[:3])} by ear; that counts as music here")
    _show(scores, needs)
    sure = _between(scores.accuracy_interval)
    say(
        f"accuracy {scores.accuracy:.3f}{sure}, macro-F1 {scores.macro_f1:.3f}{_between(scores.macro_f1_interval)}, "
        f"expected calibration error {fit.expected_error:.3f} -> {request.out}"
    )
    figures = {**_figures(scores), "calibration_error": round(fit.expected_error, 4)}
    outputs |= {"bundle_id": bundle_id, "report": str(request.out / "report.html")}
    return Summary("done", {**counts, **figures}, outputs)


def _honest(rows: pa.Table, chosen: CrossFit, genres: tuple[str, ...]) -> bytes:
    """Return the answers of cross-validation as Parquet."""
    decisions = [decide(logits_G[None], genres, TOP_K) for logits_G in chosen.logits_NG]
    answers = answers_of(rows["track_id"].to_pylist(), decisions)
    answers = answers.append_column("genre_top", rows["genre_top"])
    answers = answers.append_column("answerable", pa.array(chosen.answerable_N))
    sink = io.BytesIO()
    pq.write_table(answers.append_column("fold", pa.array(chosen.fold_N)), sink)
    return sink.getvalue()


def _key(request: ProbeRequest, found: LabelledEmbeddings, base: Bundle) -> str:
    """Return a name for the training. The same labels and embeddings always have the same name."""
    labels = found.rows.to_pydict()
    numbers = found.embedding_ND.sum(axis=1, dtype=np.float64).round(3).tolist()
    facts = [labels, numbers, base.embedding_id, request.hidden, request.seed]
    # Bases of the same ears may differ in whether they know what is no music.
    sounds = base.known_sounds
    return short_hash(facts if sounds is None else [*facts, sounds.to_json()])


def _figures(scores: Scores) -> dict[str, float]:
    """Return the scores of a summary."""
    return {"accuracy": round(scores.accuracy, 4), "macro_f1": round(scores.macro_f1, 4)}


def _group(rows: pa.Table) -> ResamplingGroups:
    """Return the artists of the tracks. A track of an unknown artist is a group of its own."""
    names = [
        (1, artist) if artist is not None else (0, track)
        for artist, track in zip(rows["artist_id"].to_pylist(), rows["track_id"].to_pylist(), strict=True)
    ]
    return ResamplingGroups.of(names, "artists" if any(known for known, _ in names) else "tracks")


def _roster(rows: pa.Table) -> Roster:
    side = pa.array([TRAIN] * rows.num_rows, pa.string())
    return Roster(rows.append_column("split", side).append_column("clips", pa.array([1] * rows.num_rows, pa.int64())))


def _warn(found: LabelledEmbeddings, genres: list[str], genre_N: np.ndarray, groups: ResamplingGroups) -> list[str]:
    """Return what a reader of the scores must know."""
    warnings = []
    if groups.kind == "tracks":
        warnings.append(
            "No artist is known, so tracks of one artist may be on both sides: the score is too high by an unknown "
            "amount. Artists come with `mgc catalog SOURCE --tags`, or with --metadata."
        )
    elif found.counts["without_artist"]:
        warnings.append(
            f"{format_count(found.counts['without_artist'], 'track')} of unknown artists: each counts as an artist, "
            "and the score may be too high."
        )
    few = [genre for place, genre in enumerate(genres) if (genre_N == place).sum() < FEWEST_TRACKS]
    if few:
        warnings.append(f"With one track only, {', '.join(few)} cannot be scored and counts as wrong; add tracks.")
    alone = [
        genre
        for place, genre in enumerate(genres)
        if genre not in few and len(np.unique(groups.index_N[genre_N == place])) == 1
    ]
    if alone and groups.kind == "artists":
        warnings.append(
            f"All tracks of {', '.join(alone)} are by one artist, so they count as wrong; add other artists."
        )
    return warnings


def _find_needs(
    request: ProbeRequest, found: LabelledEmbeddings, genres: list[str], genre_N: np.ndarray, chosen: CrossFit
) -> list[Need]:
    """Return for each genre how many more labels it would need."""
    points = learning_curve(found.embedding_ND, genre_N, chosen, len(genres), request.hidden, request.seed)
    scored = [score(genre_N, point.logits_NG, genres) for point in points]
    needs = []
    for place, genre in enumerate(genres):
        reached = [
            (float(point.labels_G[place]), each.per_genre[place].f1 or 0.0)
            for point, each in zip(points, scored, strict=True)
        ]
        needs.append(needs_of(genre, int((genre_N == place).sum()), reached))
    return needs


def _show(scores: Scores, needs: list[Need]) -> None:
    table = Table(box=box.SIMPLE, pad_edge=False, title="By cross-validation", title_justify="left")
    for name in ("genre", "tracks", "artists", "F1", "95 %", f"more for F1 {GOAL_F1:g}"):
        table.add_column(name, justify="left" if name == "genre" else "right")
    for each, need in zip(scores.per_genre, needs, strict=True):
        more = "-" if need.more == 0 else "unclear" if need.more is None else f"about {need.more}"
        sure = "" if each.f1_interval is None else f"{each.f1_interval.low:.2f} to {each.f1_interval.high:.2f}"
        table.add_row(
            plain(each.genre),
            str(each.support),
            str(each.groups) if scores.group_kind == "artists" else "?",
            f"{each.f1 or 0:.2f}",
            sure,
            more,
        )
    show(table)


def _between(found: Interval | None) -> str:
    return "" if found is None else f" ({found.low:.3f} to {found.high:.3f})"
