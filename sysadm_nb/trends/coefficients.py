"""How much each simple forecast is worth trusting, and how wide intervals are.

Written by ``python -m benchmarks.fit``, not by hand, from series of seeds 0 to 79.
"""

from __future__ import annotations

import numpy as np

# log weight: always, for each unit of horizon, of length of history, of age of the regime, of plainness
TRUST = {
    "stays": (-1.21, -0.30, 0.08, -0.01, -0.39),
    "drift": (-0.30, 0.09, -0.20, -0.11, -0.08),
    "drift_calm": (0.74, 0.86, -0.61, -0.91, 1.03),
    "median_week": (-0.48, -1.26, 0.35, -0.11, 0.30),
    "median_month": (0.74, 0.91, 0.07, 0.57, 0.74),
    "line": (3.52, 0.51, 0.45, -0.16, -0.15),
    "line_rate": (-0.13, 0.29, -0.08, -0.08, -0.02),
    "line_raw": (0.08, 0.02, 0.02, -0.01, -0.04),
    "line_60": (0.61, -0.31, 0.16, -0.06, 0.59),
    "line_28": (-1.03, -0.40, 0.11, 0.06, -0.98),
    "holt": (-1.21, -0.39, 0.24, 0.21, -0.85),
    "holt_slow": (-0.82, -0.28, -0.13, -0.01, -0.52),
    "regime_rate": (0.19, 0.05, 0.07, 0.46, 0.12),
    "mean": (1.08, 0.75, -0.22, -0.01, -1.40),
    "bending": (-0.81, -0.16, -0.38, 0.19, 2.07),
    "bending_recent": (-0.96, -0.37, 0.08, -0.01, -0.43),
}
PRIOR = np.array(list(TRUST.values())).T
# how steeply weights fall with relative error: near and far view, each always and for each unit of horizon
POWER = np.array(
    [
        [2.527, -6.191],
        [7.639, 10.464],
    ]
)
# log factors of past errors, disagreement, noise, scatter: always, by horizon, by extrapolation
WIDTH = np.array(
    [
        [-0.061, -0.258, -0.069],
        [0.081, 0.135, 0.265],
        [-0.641, -0.386, 0.619],
        [0.098, 0.026, -0.034],
    ]
)
