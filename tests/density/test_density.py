"""The Gaussian density against its closed form, rank-deficient case included."""

import numpy as np
import pytest
from scipy import stats
from sklearn.covariance import LedoitWolf

from cutpaste_tf.density import densities
from cutpaste_tf.density.densities import DENSITIES
from cutpaste_tf.density.gaussian import GaussianDensity, LedoitWolfDensity, MixtureDensity
from cutpaste_tf.density.kernel import KernelEstimate
from cutpaste_tf.density.low_rank import LowRankGaussian
from cutpaste_tf.errors import InputError
from cutpaste_tf.settings.config import Config


def closed_form(train, test, ridge):
    covariance = np.cov(train.T, bias=True) + ridge * np.eye(train.shape[1])
    return stats.multivariate_normal(train.mean(0), covariance).logpdf(test)


@pytest.mark.parametrize(("count", "dimensions", "ridge"), [(200, 5, 1e-6), (20, 50, 1e-3), (12, 64, 1e-2)])
def test_equals_the_closed_form(count, dimensions, ridge):
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(count, dimensions)), rng.normal(size=(9, dimensions))
    fitted = GaussianDensity(l2_normalize=False, reg_covar=ridge).fit(train)
    np.testing.assert_allclose(fitted.score_samples(test), closed_form(train, test, ridge), rtol=1e-8)


@pytest.mark.parametrize(("count", "dimensions"), [(200, 5), (20, 50), (60, 512)])
def test_the_low_rank_form_is_the_same_gaussian(count, dimensions):
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(count, dimensions)), rng.normal(size=(9, dimensions))
    full = GaussianDensity(reg_covar=1e-4).fit(train).score_samples(test)
    low = LowRankGaussian(reg_covar=1e-4).fit(train)
    np.testing.assert_allclose(low.score_samples(test), full, rtol=1e-8)
    again = LowRankGaussian(reg_covar=1e-4).restore(low.to_arrays())
    np.testing.assert_array_equal(again.score_samples(test), low.score_samples(test))


def test_l2_normalization_makes_length_irrelevant():
    rng = np.random.default_rng(1)
    train, test = rng.normal(size=(40, 6)), rng.normal(size=(7, 6))
    fitted = GaussianDensity(reg_covar=1e-4).fit(train)
    np.testing.assert_allclose(fitted.score_samples(test), fitted.score_samples(7.5 * test))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test)]
    np.testing.assert_allclose(fitted.score_samples(test), closed_form(*unit, 1e-4), rtol=1e-8)


@pytest.mark.parametrize("kind", [GaussianDensity, LowRankGaussian])
def test_a_feature_of_zeros_is_scored_and_fitted(kind):
    """It has no direction: 0 / 0 would make it NaN, and in training the whole density."""
    train = np.random.default_rng(1).normal(size=(40, 6))
    assert np.isfinite(kind(reg_covar=1e-4).fit(train).score_samples(np.zeros((1, 6)))).all()
    train[3] = 0
    assert np.isfinite(kind(reg_covar=1e-4).fit(train).score_samples(train)).all()


def test_no_feature_is_more_likely_than_the_mean():
    """With factors kept in float32 the two terms of a squared distance cancel to less than 0."""
    train = np.random.default_rng(7).normal(size=(12, 64))
    arrays = LowRankGaussian(l2_normalize=False, reg_covar=1e-9).fit(train).to_arrays()
    arrays["factor"] = arrays["factor"].astype(np.float32)
    restored = LowRankGaussian(l2_normalize=False, reg_covar=1e-9).restore(arrays)
    assert restored.score_samples(train).max() <= arrays["peak"]


def test_survives_saving():
    rng = np.random.default_rng(2)
    train, test = rng.normal(size=(10, 30)), rng.normal(size=(5, 30))
    fitted = GaussianDensity().fit(train)
    again = GaussianDensity().restore(fitted.to_arrays())
    np.testing.assert_array_equal(again.score_samples(test), fitted.score_samples(test))
    np.testing.assert_allclose(again.covariance_, fitted.covariance_, rtol=1e-6, atol=1e-9)


def test_a_singular_covariance_says_what_to_do():
    with pytest.raises(InputError, match=r"cannot be fitted to 5 feature vectors of 8 dimensions .*raise --reg_covar"):
        GaussianDensity(reg_covar=0).fit(np.ones((5, 8)))


def test_ledoit_wolf_is_the_gaussian_of_the_shrunk_covariance():
    rng = np.random.default_rng(3)
    train, test = rng.normal(size=(20, 50)), rng.normal(size=(5, 50))
    shrunk = LedoitWolf().fit(train)
    expected = stats.multivariate_normal(shrunk.location_, shrunk.covariance_).logpdf(test)
    actual = LedoitWolfDensity(l2_normalize=False).fit(train).score_samples(test)
    np.testing.assert_allclose(actual, expected, rtol=1e-8)


@pytest.mark.parametrize("bandwidth", [0.0, 0.3])
def test_kernel_estimate_equals_its_sum(bandwidth):
    """By default DROC's kernel: exp(-gamma d^2) with gamma = 10 / (dimensions * variance)."""
    rng = np.random.default_rng(4)
    train, test = rng.normal(size=(30, 4)), rng.normal(size=(5, 4))
    gamma = 1 / (2 * bandwidth**2) if bandwidth else 10 / (4 * train.var())
    squares = np.sum((test[:, None] - train[None]) ** 2, axis=-1)
    expected = np.log(np.mean(np.exp(-gamma * squares), axis=1)) + 2 * np.log(gamma / np.pi)
    actual = KernelEstimate(bandwidth=bandwidth, l2_normalize=False).fit(train).score_samples(test)
    np.testing.assert_allclose(actual, expected, rtol=1e-8)


def test_a_mixture_finds_its_parts():
    rng = np.random.default_rng(5)
    train = np.concatenate([rng.normal(-4, 0.3, (100, 3)), rng.normal(4, 0.3, (100, 3))])
    fitted = MixtureDensity(components=2, l2_normalize=False).fit(train)
    middle, part = fitted.score_samples(np.array([[0.0, 0, 0], [4, 4, 4]]))
    assert part - middle > 100
    assert GaussianDensity(l2_normalize=False).fit(train).score_samples(np.zeros((1, 3)))[0] > middle


@pytest.mark.parametrize("name", DENSITIES)
def test_the_configuration_chooses_the_density(name):
    """Each is built with its settings, fits fewer vectors than dimensions, and survives saving."""
    rng = np.random.default_rng(6)
    train, test = rng.normal(size=(10, 30)), rng.normal(size=(5, 30))
    config = Config.of(density=name, l2_normalize=False, reg_covar=0.5, kde_bandwidth=2.0, mixture_components=3)
    fitted = densities.build(config.density).fit(train)
    again = densities.build(config.density).restore(fitted.to_arrays())
    np.testing.assert_allclose(again.score_samples(test), fitted.score_samples(test), rtol=1e-9)
    assert not fitted.l2_normalize
    if name == "mixture":
        assert fitted.to_arrays()["means"].shape == (3, 30)
    if name == "kde":
        assert fitted.to_arrays()["bandwidth"] == 2.0
