"""Distances between two sets of images in the space of a feature extractor: Fréchet's, and a kernel's.

    moments = FeatureMoments.of(features)                  # sums: those of parts add up
    frechet_distance(moments, other)
    kernel_distance(features, other_features)              # features themselves, of some thousands of images

The extractor is the caller's, and belongs to the name of the result: these are FID and KID with Inception-v3's features
alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from condgen.errors import ConfigError, DatasetError

__all__ = ["FeatureMoments", "FrechetReference", "frechet_distance", "kernel_distance"]


@dataclass(frozen=True, slots=True)
class FeatureMoments:
    """Sums over the features of a set: parts of it add up with ``+``, in an order that the caller fixes.

    Attributes:
        count: N, images.
        total: ``[D]`` float64, the sum of features.
        products: ``[D (D + 1) / 2]`` float64, the sum of their outer products, the upper triangle row by row.
    """

    count: int
    total: NDArray[np.float64]
    products: NDArray[np.float64]

    @classmethod
    def of(cls, features: NDArray[np.floating]) -> FeatureMoments:
        """Sum the features ``[N, D]`` of N images."""
        wide = _double(features)
        products = (wide.T @ wide).numpy()
        return cls(len(wide), wide.sum(dim=0).numpy(), products[np.triu_indices(wide.shape[1])])

    def __add__(self, other: FeatureMoments) -> FeatureMoments:
        return FeatureMoments(self.count + other.count, self.total + other.total, self.products + other.products)

    def mean_and_covariance(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean ``[D]`` and the covariance ``[D, D]``, with N - 1 in its denominator.

        Raises:
            DatasetError: fewer than two images.
        """
        if self.count < 2:
            raise DatasetError(f"a covariance of {self.count} images: name a set of two or more")
        size = len(self.total)
        products = np.zeros((size, size))
        products[np.triu_indices(size)] = self.products
        products += np.triu(products, 1).T
        mean = self.total / self.count
        return mean, (products - self.count * np.outer(mean, mean)) / (self.count - 1)


class FrechetReference:
    """A set that others are compared with; what of the distance depends on it alone is computed once."""

    def __init__(self, moments: FeatureMoments) -> None:
        self._mean, self._covariance = moments.mean_and_covariance()
        values, vectors = torch.linalg.eigh(_double(self._covariance))
        self._root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T

    def distance(self, moments: FeatureMoments) -> float:
        """Return ``frechet_distance`` to another set."""
        mean, covariance = moments.mean_and_covariance()
        # tr (S1 S2)^(1/2) is that of (S1^(1/2) S2 S1^(1/2))^(1/2), which is symmetric: no complex numbers arise.
        values = torch.linalg.eigvalsh(self._root @ _double(covariance) @ self._root)
        cross = float(values.clamp_min(0).sqrt().sum())
        squared = float(np.square(self._mean - mean).sum())
        return squared + float(np.trace(self._covariance)) + float(np.trace(covariance)) - 2 * cross


def frechet_distance(first: FeatureMoments, second: FeatureMoments) -> float:
    """Return the Fréchet distance of two Gaussians with the sets' means and covariances.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)): Dowson and Landau 1982; Heusel et al., "GANs Trained by a Two
    Time-Scale Update Rule", 2017, eq. 6. It is biased upwards for small sets: compare sets of the same size alone.

    Raises:
        DatasetError: a set of fewer than two images.
    """
    return FrechetReference(first).distance(second)


def kernel_distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Return the squared maximum mean discrepancy under the kernel (x . y / D + 1)^3, without bias.

    Binkowski et al., "Demystifying MMD GANs", 2018, section 4 (the distance, there between Inception features, and the
    kernel); Gretton et al., "A Kernel Two-Sample Test", 2012, eq. 3 (the estimator). It can be negative.

    Args:
        first, second: features of two sets, ``[N, D]`` and ``[M, D]`` with N, M >= 2.

    Raises:
        ConfigError: fewer than two images.
    """
    if min(len(first), len(second)) < 2:
        raise ConfigError("features", [len(first), len(second)], "two images or more in each set")
    x, y = _double(first), _double(second)
    within = [float(gram.sum() - gram.trace()) / (len(gram) * (len(gram) - 1)) for gram in (_gram(x, x), _gram(y, y))]
    return sum(within) - 2 * float(_gram(x, y).mean())


def _gram(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _double(array: NDArray[np.floating]) -> Tensor:
    # torch's linear algebra: numpy's threads wait for each other busily, forty times as long on a machine that is used.
    return torch.from_numpy(array).double()
