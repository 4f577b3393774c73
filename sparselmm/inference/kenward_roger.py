"""Kenward and Roger's small-sample covariance of the fixed effects and their degrees of freedom.

V = sigma² W^-1 + sum_a gamma_a G_a is linear in its variance parameters: one gamma for every free entry of every
term's covariance matrix, and sigma². In units of sigma², with directions a (and H itself in place of W^-1, which spans
the same space because H = W^-1 + sum_a G_a times its parameter),

    P_a = -X'H^-1 G_a H^-1 X       Q_ab = X'H^-1 G_a H^-1 G_b H^-1 X       Phi = M^-1 = (X'H^-1X)^-1
    I_ab = tr(H^-1 G_a H^-1 G_b) - 2 tr(Phi Q_ab) + tr(Phi P_a Phi P_b)    W = 2 I^-1
    Phi_A = Phi + 2 Phi [ sum_ab W_ab (Q_ab - P_a Phi P_b) ] Phi

and, for L of rank q and Theta = L'(L Phi L')^-1 L, the moments A_1 and A_2 of the Wald statistic give its scale and its
denominator degrees of freedom. All of it comes from per-level quantities (`sparselmm.marginal`).

Kenward & Roger (1997), Biometrics 53, 983-997, section 2 and eq. for A_1, A_2, rho and m; the expected information and
the linear parametrisation are those of Halekoh & Højsgaard (2014), J. Stat. Softw. 59(9), section 3 (pbkrtest).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sparselmm._types import Array
from sparselmm.criterion import fixed_covariance
from sparselmm.errors import InferenceError, MemoryRefusedError
from sparselmm.fit import Fit
from sparselmm.linalg import spectrum
from sparselmm.machine import available_memory, size_text
from sparselmm.marginal import CHUNK, Probes, level_pairs, make_probes, marginal, sandwiches
from sparselmm.remember import remember
from sparselmm.threads import limited_threads

LONGEST = 600.0  # seconds that the traces may be predicted to take
DENSE_RATE, SPARSE_RATE = 1e10, 5e8  # operations a second, orders of magnitude


@dataclass(frozen=True, slots=True)
class KenwardRoger:
    """Adjusted covariance of the fixed effects and what the degrees of freedom need.

    Attributes
    ----------
    cov_beta : ndarray, shape (p, p)
        Phi_A, in the user's coordinates.
    unadjusted : ndarray, shape (p, p)
        Phi.
    spread : ndarray, shape (m, p, p)
        Phi P_a Phi.
    W : ndarray, shape (m, m)
        Covariance of the variance parameters.
    """

    cov_beta: Array
    unadjusted: Array
    spread: Array
    W: Array


@dataclass(frozen=True, slots=True)
class Cost:
    """What the traces of Kenward and Roger's method are predicted to take.

    Attributes
    ----------
    columns : int
        Systems to solve.
    seconds : float
    nbytes : float
    """

    columns: int
    seconds: float
    nbytes: float


@remember
def kenward_roger(fit: Fit) -> KenwardRoger:
    """Adjusted covariance of a REML fit.

    Computed once per fit; exact, by as many solves as the largest connected set of levels has
    coefficients.

    Raises
    ------
    InferenceError
        For a fit by maximum likelihood, and where the predicted time is too long.
    MemoryRefusedError
        Where the predicted memory exceeds what the machine has.

    Examples
    --------
    >>> import sparselmm as slm
    >>> from sparselmm.inference.kenward_roger import kenward_roger
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> kenward_roger(fit.fit).cov_beta.round(3)
    array([[46.575, -1.451],
           [-1.451,  2.389]])
    """
    if not fit.reml:
        raise InferenceError(
            "Found a fit by maximum likelihood; Kenward and Roger's method adjusts the covariance of a "
            "REML fit. Fit with reml=True, or use ddf='satterthwaite'."
        )
    probes = make_probes(fit.gram)
    check_cost(predict_cost(fit, probes))
    with limited_threads(fit.prepared.threads(fit.options)):
        m = marginal(fit.gram, replace(fit.solution, factored=fit.factored()))
        directions = fit.model.directions
        pairs = level_pairs(m, probes)
        XDX, XDDX = sandwiches(m, directions)
        traces, once = pairs.traces(directions), pairs.traces_once(directions)
        Phi = fixed_covariance(m.at) / m.at.s2
        P, Q, K = _with_scale(XDX, XDDX, traces, once, np.linalg.inv(Phi), fit.n)
        adjusted, spread, W = _adjust(Phi, P, Q, K)
        s2, user = m.at.s2, fit.gram.basis.cov_beta
        moved = np.array([s2 * user(own) for own in spread]).reshape(spread.shape)
        return KenwardRoger(s2 * user(adjusted), fit.cov_beta, moved, W)


def _with_scale(
    XDX: Array, XDDX: Array, traces: Array, once: Array, M: Array, n: int
) -> tuple[Array, Array, Array]:
    """P, Q and tr(H^-1 G_a H^-1 G_b) with H appended to the directions."""
    size, p = len(XDX), len(M)
    P = -np.concatenate([XDX, M[None]])
    Q = np.empty((size + 1, size + 1, p, p))
    Q[:size, :size] = XDDX
    Q[size, :size] = Q[:size, size] = XDX
    Q[size, size] = M
    K = np.block([[traces, once[:, None]], [once[None, :], np.array([[float(n)]])]])
    return P, Q, K


def _adjust(Phi: Array, P: Array, Q: Array, K: Array) -> tuple[Array, Array, Array]:
    """Phi_A, Phi P_a Phi and W of the module's formula."""
    scaled = Phi @ P
    information = K - 2.0 * np.einsum("ab,ikab->ik", Phi, Q)
    information += np.einsum("iab,kba->ik", scaled, scaled)
    values = spectrum(0.5 * (information + information.T))
    W = 2.0 * np.column_stack([values.solve(e) for e in np.eye(len(K))])
    U = np.einsum("ik,ikab->ab", W, Q) - np.einsum("ik,iab,kbc->ac", W, P, scaled, optimize=True)
    Phi_A = Phi + 2.0 * Phi @ (0.5 * (U + U.T)) @ Phi
    return Phi_A, scaled @ Phi, W


def wald_moments(kr: KenwardRoger, L: Array) -> tuple[float, float]:
    """Denominator degrees of freedom and scale of the F statistic of L beta = c.

    Parameters
    ----------
    L : ndarray, shape (q, p)
        Of full row rank.

    Returns
    -------
    df, scale : float
        scale times the Wald statistic over q is compared with F(q, df).
    """
    q = len(L)
    whiten = np.linalg.inv(np.linalg.cholesky(L @ kr.unadjusted @ L.T)) @ L
    u = whiten @ kr.spread @ whiten.T
    traces = np.einsum("iaa->i", u)
    A1 = float(traces @ kr.W @ traces)
    A2 = float(np.einsum("ik,iab,kba->", kr.W, u, u, optimize=True))
    if A2 <= 0.0:
        return np.inf, 1.0
    B = (A1 + 6.0 * A2) / (2.0 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    c1, c2, c3 = (np.array([g, q - g, q + 2 - g]) / (3 * q + 2 * (1 - g))).tolist()
    V0, V1, V2 = 1.0 + c1 * B, 1.0 - c2 * B, 1.0 - c3 * B
    V0 = 0.0 if abs(V0) < 1e-10 else V0
    mean = 1.0 - A2 / q
    ratio = 1.0 if abs(mean) < 1e-14 and abs(V1) < 1e-14 else mean / V1
    rho = ratio**2 * V0 / (q * V2)
    df = 4.0 + (q + 2) / (q * rho - 1.0)
    return float(df), 1.0 if abs(df - 2.0) < 1e-2 else float(df * mean / (df - 2.0))


def predict_cost(fit: Fit, probes: Probes) -> Cost:
    """Time and memory of `kenward_roger`, from block sizes and the chosen path."""
    gram = fit.gram
    columns = probes.columns(gram.shapes)
    entries = sum(own.size for own in gram.ZtZ) + 2 * sum(
        c.values.size for c in gram.cross.values()
    )
    dense = fit.prepared.choice.cost.nbytes / 8.0
    seconds = columns * (dense / DENSE_RATE + 8.0 * entries / SPARSE_RATE)
    widest = max(s for _, s in gram.shapes) * gram.q
    nbytes = 8.0 * (6 * max(CHUNK, widest) + 6 * gram.q * (gram.p + 1)) + 12.0 * entries
    return Cost(columns, seconds, nbytes)


def check_cost(cost: Cost) -> None:
    """Refuse what would take too long or too much memory.

    Raises
    ------
    InferenceError, MemoryRefusedError
    """
    if cost.seconds > LONGEST:
        raise InferenceError(
            f"Kenward and Roger's method needs {cost.columns:,} solves here, about "
            f"{cost.seconds / 60:,.0f} minutes; expected at most {LONGEST / 60:.0f}. Use "
            "ddf='satterthwaite', which agrees with it where there are that many levels."
        )
    free = available_memory(cost.nbytes)
    if cost.nbytes > free:
        raise MemoryRefusedError(
            f"Kenward and Roger's method needs about {size_text(cost.nbytes)} here; found "
            f"{size_text(free)} free. Use ddf='satterthwaite'."
        )
