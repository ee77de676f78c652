r"""Where the hidden states of two models meet: moments of both, and the best linear maps.

At a response token let x be the state from which the student's head predicts it and y that of the
teacher, of any two widths, each coordinate centred and divided by its standard deviation. With
their correlations R and a small floor f,

.. math:: S = \frac{1}{k} \| Q^\top (L^{-1} y - B^\top x) \|^2, \quad L L^\top = R_{yy} + f I,
   \quad B = (R_{xx} + r I)^{-1} R_{xy} L^{-\top}

where Q spans what B can reach, min(H, G) directions of the whitened teacher, whose variance is k.
S is the share of these directions, all of them counted alike, that no linear map reads from the
student: about 1 where nothing can be read, 0 where all can. Without r and f its mean is 1 minus the
mean squared canonical correlation; to both is added what few tokens leave unsure. As B is the best
map, the gradient with B held fixed is the gradient with B following; and outside of Q the distance
does not depend on the student.

The distances that published work matches states by (a projection's squared error, cosines, CKA:
Sanh et al. 2019; Dasgupta and Cohn 2025; Bhattarai et al. 2025) follow the few directions along
which the teacher's states vary most. Whitening is ours.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Shape suffixes: N response tokens, H width of the student, G of the teacher, K directions; A and B
# stand for either width.

EVERY = 4
"""Steps from one whose tokens go into the teacher's own moments to the next: it does not move."""

RIDGE = 1e-3
"""Added to the correlations of the student's states."""

_STILL = 1e-10
"""A coordinate with less than this share of the mean variance does not move."""


def flops_of_token(student: int, teacher: int) -> int:
    """Floating-point operations of a response token: its moments, both maps, and the way back.

    Args:
        student: width of the student.
        teacher: width of the teacher.
    """
    moments = 2 * student * (student + teacher) + 2 * teacher**2 // EVERY
    directions = min(student, teacher)
    return moments + 2 * teacher * directions + 4 * student * directions


@dataclass(frozen=True)
class Moments:
    """Moments of two vectors, of tokens that count less the older they are.

    Attributes:
        count: how many tokens, as they count.
        left_A: mean of the one.
        right_B: mean of the other, which may be the same.
        product_AB: sum of the products of their centred coordinates.
    """

    count: Tensor
    left_A: Tensor
    right_B: Tensor
    product_AB: Tensor

    @classmethod
    def none(cls, left: int, right: int, device: torch.device) -> "Moments":
        """Those of no token at all."""
        # Apple's devices have no float64.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        zeros = torch.zeros(left, right, dtype=dtype, device=device)
        return cls(zeros.new_zeros(()), zeros.new_zeros(left), zeros.new_zeros(right), zeros)

    @property
    def sizes(self) -> list[int]:
        """Elements of the parts that ``sums`` puts one after another."""
        return [1, len(self.left_A), len(self.right_B), self.product_AB.numel()]

    def sums(self, left_NA: Tensor, right_NB: Tensor) -> Tensor:
        """What tokens add, as one array that processes can add up.

        Args:
            left_NA: the one vector of each token; it is the mean here that is subtracted from it.
            right_NB: the other, likewise.
        """
        left_NA = left_NA - self.left_A.to(left_NA.dtype)
        right_NB = right_NB - self.right_B.to(right_NB.dtype)
        count = left_NA.new_full((1,), len(left_NA))
        parts = (count, left_NA.sum(0), right_NB.sum(0), (left_NA.T @ right_NB).flatten())
        return torch.cat(parts).to(self.product_AB.dtype)

    def with_sums(self, sums: Tensor, memory: float) -> "Moments":
        """Moments with tokens that came in.

        Args:
            sums: of all of them, from ``sums`` of these moments.
            memory: how many tokens are remembered.
        """
        tokens, left_A, right_B, products = sums.split(self.sizes)
        kept = torch.exp(-tokens.squeeze() / memory)
        count = kept * self.count + tokens.squeeze()
        # The same tokens about another mean.
        left_A, right_B = left_A / count, right_B / count
        product_AB = kept * self.product_AB + products.view_as(self.product_AB)
        product_AB = product_AB - count * torch.outer(left_A, right_B)
        return Moments(count, self.left_A + left_A, self.right_B + right_B, product_AB)

    @property
    def covariance(self) -> Tensor:
        """Shape ``[A, B]``."""
        return self.product_AB / self.count


@dataclass(frozen=True)
class Maps:
    """Where the states of both models meet; nothing of it has a graph.

    Attributes:
        teacher_GK: from the teacher's centred states.
        student_HK: from the student's.
        teacher_mean_G: subtracted before.
        student_mean_H: likewise.
        directions: k.
    """

    teacher_GK: Tensor
    student_HK: Tensor
    teacher_mean_G: Tensor
    student_mean_H: Tensor
    directions: float

    def gap(self, student_NH: Tensor, teacher_NG: Tensor) -> Tensor:
        """S of each token, shape ``[N]``."""
        wanted_NK = _mapped(teacher_NG, self.teacher_mean_G, self.teacher_GK)
        error_NK = wanted_NK - _mapped(student_NH, self.student_mean_H, self.student_HK)
        return error_NK.square().sum(-1) / self.directions


def _mapped(states_NA: Tensor, mean_A: Tensor, map_AK: Tensor) -> Tensor:
    return (states_NA - mean_A.to(states_NA.dtype)) @ map_AK.to(states_NA.dtype)


def best_maps(own: Moments, cross: Moments, teacher: Moments, floor: float) -> Maps:
    """The maps of the states that moments are of.

    Args:
        own: of the student's states with themselves, of more tokens than coordinates.
        cross: of the student's states with the teacher's, of the same tokens.
        teacher: of the teacher's states with themselves.
        floor: f; directions that vary less count less.
    """
    x, y = _moving(own.covariance), _moving(teacher.covariance)
    to_x, to_y = (one.covariance.diagonal().rsqrt() for one in (own, teacher))
    r_xx = _correlations(own, to_x, to_x, x, x)
    r_xy = _correlations(cross, to_x, to_y, x, y)
    r_yy = _correlations(teacher, to_y, to_y, y, y)
    white_GG = torch.linalg.solve_triangular(
        torch.linalg.cholesky(r_yy + (floor + _unsure(teacher)) * torch.eye(len(y)).to(r_yy)),
        torch.eye(len(y)).to(r_yy),
        upper=False,
    ).T
    lower_HH = torch.linalg.cholesky(r_xx + (RIDGE + _unsure(own)) * torch.eye(len(x)).to(r_xx))
    map_HG = torch.cholesky_solve(r_xy @ white_GG, lower_HH)
    reach_GK, map_KH = torch.linalg.qr(map_HG.T)
    wanted_GK = white_GG @ reach_GK
    # Coordinates that do not move have no row of their own; theirs stay 0.
    teacher_GK = wanted_GK.new_zeros(len(to_y), wanted_GK.shape[1])
    teacher_GK[y] = to_y[y, None] * wanted_GK
    student_HK = wanted_GK.new_zeros(len(to_x), wanted_GK.shape[1])
    student_HK[x] = to_x[x, None] * map_KH.T
    directions = float((wanted_GK * (r_yy @ wanted_GK)).sum())
    return Maps(teacher_GK, student_HK, cross.right_B, cross.left_A, directions)


def _unsure(moments: Moments) -> float:
    """What is added to correlations of few tokens: coordinates for each token.

    With few tokens for each coordinate the least directions come out too small, and a map that
    divides by them says more of those tokens than of others; so it says less until there are more.
    """
    return len(moments.left_A) / float(moments.count)


def _moving(covariance_AA: Tensor) -> Tensor:
    """The coordinates that move at all."""
    variance_A = covariance_AA.diagonal()
    return torch.nonzero(variance_A > _STILL * variance_A.mean()).squeeze(-1)


def _correlations(of: Moments, to_a: Tensor, to_b: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Correlations of some coordinates with others."""
    return of.covariance[a][:, b] * torch.outer(to_a[a], to_b[b])
