"""`QualityModel`: how good each model's answer to a request would be, estimated from correctness data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.choice.correctness import Correctness
from router.choice.features import Features, Featurizer
from router.choice.members import MEMBERS, SEED, Estimator
from router.types import Array, Encoder
from router.vectors import AnyArray

FOLDS = 5
FEW_ROWS = 40
"""Below so many rows nothing is estimated but everybody's mean and the nearest neighbours."""


@dataclass(frozen=True, slots=True)
class Blend:
    """How much each member counts: for telling models apart, and for how hard a request is for all of them."""

    apart: AnyArray
    """(members,) weights of a model's lead over the mean of the models."""
    level: AnyArray
    """(members,) weights of the mean of the models."""

    def of(self, found: AnyArray, mean: AnyArray) -> AnyArray:
        """Blend (members, texts, models) estimates around the models' mean scores."""
        lead, level = _split(found - mean)
        return np.asarray(mean + np.tensordot(self.apart, lead, 1) + np.tensordot(self.level, level, 1)[:, None])


@dataclass(frozen=True, slots=True, eq=False)
class QualityModel:
    """Estimates the quality of every model's answer. Immutable."""

    models: tuple[str, ...]
    featurizer: Featurizer
    mean: AnyArray
    """(models,) mean scores."""
    blend: Blend
    estimators: tuple[Estimator, ...]

    def expected(self, texts: Sequence[str]) -> Array:
        """Return (texts, models) expected scores, 0 to 1."""
        if not texts:
            return np.zeros((0, len(self.models)), dtype=np.float32)
        return self.judge(self.featurizer.of(texts))

    def judge(self, asked: Features) -> Array:
        """Return what `expected` does, of features."""
        found = np.stack([estimate(asked) for estimate in self.estimators])
        return np.asarray(self.blend.of(found, self.mean).clip(0, 1), dtype=np.float32)


def fit_quality(data: Correctness, encoder: Encoder) -> QualityModel:
    """Learn from correctness data. How members are blended is chosen by cross-validation on these rows.

    Members' estimates are weighed together, without negative weights. If the blend is further from the truth than the
    table by kind of request, which is a simple thing and hard to beat, the table is used alone.
    """
    featurizer = Featurizer.fit(data.texts, encoder)
    known, scores = featurizer.of(data.texts), fill_gaps(data.scores)
    names: tuple[str, ...] = ("neighbours",)
    blend = Blend(np.ones(1), np.ones(1))
    if len(data) >= FEW_ROWS:
        blend = choose_blend(held_out(known, scores, tuple(MEMBERS)), scores, tuple(MEMBERS))
        used = [i for i in range(len(MEMBERS)) if blend.apart[i] > 0 or blend.level[i] > 0] or [0]
        names, blend = tuple(tuple(MEMBERS)[i] for i in used), Blend(blend.apart[used], blend.level[used])
    estimators = tuple(MEMBERS[name](known, scores) for name in names)
    return QualityModel(data.models, featurizer, scores.mean(axis=0), blend, estimators)


def held_out(known: Features, scores: AnyArray, names: Sequence[str]) -> AnyArray:
    """Return (members, examples, models) estimates of each example by members that have not seen it."""
    fold = np.random.default_rng(SEED).permutation(len(known)) % FOLDS
    found = np.zeros((len(names), *scores.shape))
    for index in range(FOLDS):
        inside, outside = np.flatnonzero(fold != index), np.flatnonzero(fold == index)
        for member, name in enumerate(names):
            found[member, outside] = MEMBERS[name](known.take(inside), scores[inside])(known.take(outside))
    return found


def choose_blend(found: AnyArray, scores: AnyArray, names: Sequence[str]) -> Blend:
    """Weigh held-out estimates; fall back on the table alone where they are further from the truth than it."""
    mean = scores.mean(axis=0)
    lead, level = _split(found - mean)
    true_lead, true_level = _split(scores - mean)
    blend = Blend(_weigh(lead, true_lead), _weigh(level, true_level))
    # By squared error: an area or an accuracy of some thousand rows is too noisy to overrule the blend by.
    table = list(names).index("table")
    if ((blend.of(found, mean) - scores) ** 2).sum() > ((found[table] - scores) ** 2).sum():
        alone = np.eye(len(names))[table]
        return Blend(alone, alone)
    return blend


def fill_gaps(scores: AnyArray) -> AnyArray:
    """Put in place of untried models what the model's mean and the request's difficulty let expect."""
    mean = np.nan_to_num(np.nanmean(scores, axis=0), nan=0.0)
    hardness = np.nanmean(scores - mean, axis=1, keepdims=True)
    return np.asarray(np.where(np.isnan(scores), np.clip(mean + hardness, 0, 1), scores), dtype=np.float64)


def rank_models(scores: AnyArray) -> AnyArray:
    """Return model indices by falling mean score."""
    return np.argsort(-np.nanmean(scores, axis=0), kind="stable")


def _split(values: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Return each model's lead over the mean of the models, and that mean."""
    level = values.mean(axis=-1)
    return values - level[..., None], level


def _weigh(found: AnyArray, true: AnyArray) -> AnyArray:
    """Return weights half way between the best on these rows and equal ones, which suffer less from few rows."""
    from sklearn.linear_model import LinearRegression

    def fitted(columns: AnyArray) -> AnyArray:
        model = LinearRegression(fit_intercept=False, positive=True)
        return np.asarray(model.fit(columns.T, true.reshape(-1)).coef_)

    columns = found.reshape(len(found), -1)
    return np.asarray((fitted(columns) + fitted(columns.mean(axis=0)[None]) / len(columns)) / 2)
