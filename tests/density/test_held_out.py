"""Log densities of training images by densities that do not know them: closed forms against refits."""

import numpy as np
import pytest

from cutpaste_tf.density import densities, held_out, patch_density
from cutpaste_tf.density.densities import DENSITIES
from cutpaste_tf.density.gaussian import GaussianDensity
from cutpaste_tf.density.kernel import KernelEstimate
from cutpaste_tf.density.patch_density import PerLocationGaussian, SharedGaussian
from cutpaste_tf.errors import InputError
from cutpaste_tf.settings.config import Config


def _features(*shape, seed=0):
    """Correlated, not centered."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) @ rng.normal(size=(shape[-1], shape[-1])) / shape[-1] + 0.3


def _without_each(density, features):
    scores = [
        density().fit(np.delete(features, i, axis=0)).score_samples(features[i : i + 1]) for i in range(len(features))
    ]
    return np.concatenate(scores)


@pytest.mark.parametrize(("count", "dimensions"), [(60, 5), (30, 30), (31, 30), (20, 50), (12, 512), (3, 4)])
@pytest.mark.parametrize("reg_covar", [1e-6, 1e-2])
@pytest.mark.parametrize("l2_normalize", [True, False])
def test_the_closed_form_equals_a_fit_without_each_image(count, dimensions, reg_covar, l2_normalize):
    features = _features(count, dimensions)

    def density():
        return GaussianDensity(reg_covar=reg_covar, l2_normalize=l2_normalize)

    expected = _without_each(density, features)
    np.testing.assert_allclose(density().fit(features).held_out(features), expected, rtol=1e-8, atol=1e-8)
    assert np.mean(expected < density().fit(features).score_samples(features)) > 0.9  # it is not what it says in-sample


def test_many_features_are_left_out_in_parts(monkeypatch):
    features = _features(90, 7)
    expected = GaussianDensity(reg_covar=1e-3).fit(features).held_out(features)
    for module in ("density", "gaussian"):
        monkeypatch.setattr(f"cutpaste_tf.density.{module}.ROWS", 20)
    actual = GaussianDensity(reg_covar=1e-3).fit(features).held_out(features)
    np.testing.assert_allclose(actual, expected, rtol=1e-9)


def test_the_closed_form_needs_no_ridge_where_images_are_many():
    features = _features(40, 6)
    density = GaussianDensity(reg_covar=0.0)
    expected = _without_each(lambda: GaussianDensity(reg_covar=0.0), features)
    np.testing.assert_allclose(density.fit(features).held_out(features), expected, rtol=1e-8)
    fitted = GaussianDensity(reg_covar=0.0, l2_normalize=False).fit(features[:7])  # without one they span too little
    with pytest.raises(
        InputError, match=r"7 feature vectors of 6 dim.* \(.* singular without one of them\); raise --reg"
    ):
        fitted.held_out(features[:7])


@pytest.mark.parametrize("bandwidth", [0.0, 0.05, 2.0])
def test_kernels_leave_out_an_image_with_the_bandwidth_of_all(bandwidth, monkeypatch):
    monkeypatch.setattr("cutpaste_tf.density.kernel._PAIRS", 70)  # a few images at a time
    features = _features(30, 4)
    fitted = KernelEstimate(bandwidth=bandwidth).fit(features)
    fitted_bandwidth = float(fitted.to_arrays()["bandwidth"])
    expected = _without_each(lambda: KernelEstimate(bandwidth=fitted_bandwidth), features)
    np.testing.assert_allclose(fitted.held_out(features), expected, rtol=1e-8)


@pytest.mark.parametrize("name", DENSITIES)
@pytest.mark.parametrize("grouped", [False, True])
def test_every_density_judges_an_image_by_others(name, grouped):
    """Groups, and what has no closed form, are left out in parts: by a fit to the other parts."""
    features = _features(44, 3)
    groups = np.arange(44) // 4 if grouped else None
    settings = Config.of(density=name, mixture_components=2, reg_covar=1e-3).density
    actual = densities.build(settings).fit(features).held_out(features, groups)
    if groups is not None or name in ("ledoit_wolf", "mixture"):
        for part in held_out.folds(44, groups):
            others = densities.build(settings).fit(np.delete(features, part, axis=0))
            np.testing.assert_allclose(actual[part], others.score_samples(features[part]), rtol=1e-10)
    assert actual.shape == (44,)
    assert densities.build(settings).held_out(features[:1]).shape == (0,)


@pytest.mark.parametrize(
    ("count", "groups"), [(9, None), (64, None), (60, np.arange(60) % 7), (200, np.arange(200) // 2)]
)
def test_parts_are_disjoint_complete_and_do_not_cut_groups(count, groups):
    parts = list(held_out.folds(count, groups))
    assert sorted(np.concatenate(parts)) == list(range(count))
    assert len(parts) == min(20, count if groups is None else len(set(groups)))
    for part in parts if groups is not None else ():
        assert not set(groups[part]) & set(np.delete(groups, part))


def _patches_without(density, features, retained):
    others = density().fit(iter(features[retained]), len(retained))
    return others, others.peak


@pytest.mark.parametrize("groups", [None, np.array([0, 0, 1, 1, 2, 3, 3])])
@pytest.mark.parametrize(
    "density", [lambda: SharedGaussian(reg_covar=1e-3), lambda: PerLocationGaussian(reg_covar=1e-3, dtype=np.float64)]
)
def test_patches_of_an_image_are_judged_by_the_density_of_the_others(density, groups, monkeypatch):
    monkeypatch.setattr(patch_density, "_LOCATIONS", 2)
    features = _features(7, 5, 9).astype(np.float32)
    actual = density().fit(iter(features), 7, groups).held_out
    alone = np.arange(7) if groups is None else groups
    for image in range(7):
        retained = np.flatnonzero(alone != alone[image])
        others = density().fit(iter(features[retained]), len(retained))
        expected = others.peak - others.score_samples(features[image : image + 1])[0]
        np.testing.assert_allclose(actual[image], expected, rtol=1e-5, atol=1e-4)


def test_more_patches_than_can_be_held_are_judged_of_some_images(monkeypatch):
    features = _features(30, 5, 4).astype(np.float32)
    every = SharedGaussian().fit(iter(features), 30).held_out
    monkeypatch.setattr(patch_density, "_HELD_OUT", 10 * features[0].nbytes)
    some = SharedGaussian().fit(iter(features), 30).held_out
    np.testing.assert_allclose(some, every[::3], rtol=1e-5)
    assert SharedGaussian().fit(iter(features[:1]), 1).held_out.shape == (0, 5)
