"""The Gaussian density against its closed form, rank-deficient case included."""

import numpy as np
import pytest
from scipy import stats

from cutpaste_tf import density
from cutpaste_tf.config import CHOICES, Config
from cutpaste_tf.density import GaussianDensity
from cutpaste_tf.errors import InputError


def closed_form(train, test, ridge):
    covariance = np.cov(train.T, bias=True) + ridge * np.eye(train.shape[1])
    return stats.multivariate_normal(train.mean(0), covariance).logpdf(test)


@pytest.mark.parametrize(("count", "dimensions", "ridge"), [(200, 5, 1e-6), (20, 50, 1e-3), (12, 64, 1e-2)])
def test_equals_the_closed_form(count, dimensions, ridge):
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(count, dimensions)), rng.normal(size=(9, dimensions))
    fitted = GaussianDensity(l2_normalize=False, reg_covar=ridge).fit(train)
    np.testing.assert_allclose(fitted.score_samples(test), closed_form(train, test, ridge), rtol=1e-8)


def test_l2_normalization_makes_length_irrelevant():
    rng = np.random.default_rng(1)
    train, test = rng.normal(size=(40, 6)), rng.normal(size=(7, 6))
    fitted = GaussianDensity(reg_covar=1e-4).fit(train)
    np.testing.assert_allclose(fitted.score_samples(test), fitted.score_samples(7.5 * test))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test)]
    np.testing.assert_allclose(fitted.score_samples(test), closed_form(*unit, 1e-4), rtol=1e-8)
    assert fitted.score_samples(np.zeros((1, 6))).shape == (1,)  # a feature of zeros is scored, not NaN


def test_survives_saving():
    rng = np.random.default_rng(2)
    train, test = rng.normal(size=(10, 30)), rng.normal(size=(5, 30))
    fitted = GaussianDensity().fit(train)
    again = GaussianDensity.from_arrays(fitted.to_arrays(), l2_normalize=True, reg_covar=1e-6)
    np.testing.assert_array_equal(again.score_samples(test), fitted.score_samples(test))
    np.testing.assert_allclose(again.covariance_, fitted.covariance_, rtol=1e-6, atol=1e-9)


def test_a_singular_covariance_says_what_to_do():
    with pytest.raises(InputError, match=r"--reg_covar=0; raise it"):
        GaussianDensity(reg_covar=0).fit(np.ones((5, 8)))


def test_the_configuration_chooses_the_density():
    assert set(density.DENSITIES) == set(CHOICES["density"])
    built = density.build(Config(l2_normalize=False, reg_covar=0.5))
    assert (built.l2_normalize, built.reg_covar) == (False, 0.5)
