import numpy as np
import pytest
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_info

from cutpaste_tf import arrays
from cutpaste_tf.density import patch_density
from cutpaste_tf.density.patch_density import PerLocationGaussian, SharedGaussian
from cutpaste_tf.errors import InputError


def _features(count, locations, dimensions, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dimensions, dimensions)) / dimensions
    return (rng.normal(size=(count, locations, dimensions)) @ mixing + 1).astype(np.float32)


def _by_scikit_learn(train, test, *, l2_normalize=True, reg_covar=1e-4):
    train, test = np.float64(train), np.float64(test)
    if l2_normalize:
        train, test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test))
    return GaussianMixture(1, reg_covar=reg_covar).fit(train).score_samples(test)


@pytest.mark.parametrize("l2_normalize", [True, False])
def test_a_shared_gaussian_is_scikit_learns_on_all_patches(l2_normalize):
    train, test = _features(6, 5, 8), _features(3, 5, 8, seed=1)
    fitted = SharedGaussian(l2_normalize=l2_normalize, reg_covar=1e-4).fit(iter(train), 6)
    expected = _by_scikit_learn(train.reshape(-1, 8), test.reshape(-1, 8), l2_normalize=l2_normalize)
    np.testing.assert_allclose(fitted.score_samples(test).ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize(("count", "dimensions"), [(7, 20), (20, 20), (40, 9)])
def test_gaussians_of_locations_are_scikit_learns_at_each(count, dimensions, monkeypatch):
    monkeypatch.setattr(patch_density, "_LOCATIONS", 2)
    train, test = _features(count, 5, dimensions), _features(3, 5, dimensions, seed=1)
    fitted = PerLocationGaussian(reg_covar=1e-4, dtype=np.float64).fit(iter(train), count)
    actual = fitted.score_samples(test)
    for location in range(5):
        expected = _by_scikit_learn(train[:, location], test[:, location])
        np.testing.assert_allclose(actual[:, location], expected, rtol=1e-6)


@pytest.mark.parametrize("l2_normalize", [True, False])
def test_factors_as_they_are_kept_round_little(l2_normalize):
    train, test = 20 * _features(9, 3, 40), 20 * _features(4, 3, 40, seed=1)
    fitted = PerLocationGaussian(l2_normalize=l2_normalize).fit(iter(train), 9)
    actual = fitted.score_samples(test)
    for location in range(3):
        both = train[:, location], test[:, location]
        expected = _by_scikit_learn(*both, l2_normalize=l2_normalize, reg_covar=1e-6)
        np.testing.assert_allclose(actual[:, location], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", [SharedGaussian, PerLocationGaussian])
def test_what_is_saved_scores_the_same(kind, tmp_path):
    train, test = _features(7, 5, 12), _features(3, 5, 12, seed=1)
    fitted = kind().fit(iter(train), 7)
    fitted.save(tmp_path)
    again = kind().load(tmp_path)
    np.testing.assert_array_equal(again.score_samples(test), fitted.score_samples(test))
    assert again.peak == fitted.peak


@pytest.mark.parametrize("kind", [SharedGaussian, PerLocationGaussian])
def test_the_peak_is_the_density_of_the_mean(kind):
    train = _features(30, 1, 6)
    fitted = kind(l2_normalize=False).fit(iter(train), 30)
    mean = np.float64(train).mean(axis=0, keepdims=True)
    assert fitted.score_samples(mean).item() == pytest.approx(fitted.peak)


def test_more_than_the_memory_s_share_lies_in_a_file(monkeypatch):
    train, test = _features(7, 5, 12), _features(3, 5, 12, seed=1)
    in_memory = PerLocationGaussian().fit(iter(train), 7)
    monkeypatch.setattr(arrays, "MEMORY_LIMIT", 1000)
    filed = PerLocationGaussian().fit(iter(train), 7)
    assert isinstance(filed._factors, np.memmap)
    np.testing.assert_array_equal(filed.score_samples(test), in_memory.score_samples(test))


@pytest.mark.parametrize("kind", [SharedGaussian, PerLocationGaussian])
def test_features_that_are_not_finite_are_refused(kind):
    train = _features(4, 3, 5)
    train[2, 1, 0] = np.nan
    with pytest.raises(InputError, match="training has diverged"):
        kind().fit(iter(train), 4)


def test_a_singular_covariance_is_refused():
    with pytest.raises(InputError, match="raise --reg_covar"):
        SharedGaussian(reg_covar=0.0).fit(iter(np.zeros((2, 3, 5), np.float32)), 2)


def test_small_matrices_are_left_to_one_thread(monkeypatch):
    threads = []

    class Spy(patch_density.LowRankGaussian):
        def _fit(self, features):
            threads.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
            super()._fit(features)

    monkeypatch.setattr(patch_density, "LowRankGaussian", Spy)
    PerLocationGaussian().fit(iter(_features(7, 5, 12)), 7)
    assert threads
    assert set(threads) == {1}
