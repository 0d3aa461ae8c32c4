"""How much each simple forecast is worth trusting, and how wide intervals are.

Written by ``python -m benchmarks.fit``, not by hand, from series of seeds 0 to 79.
"""

from __future__ import annotations

import numpy as np

# log weight: always, for each unit of horizon, of length of history, of age of the regime, of plainness
TRUST = {
    "stays": (-3.45, -1.27, 0.61, -0.19, -1.36, -0.63),
    "drift": (-0.62, -0.13, -0.30, -0.16, -0.19, -0.10),
    "drift_calm": (-0.02, 1.22, -0.40, -1.83, 2.36, -0.64),
    "median_week": (-0.71, -2.74, 0.81, -0.19, -0.24, -0.35),
    "median_month": (0.76, 1.73, 0.44, 1.30, 0.87, 0.02),
    "line": (4.77, 1.24, 0.32, -0.03, -0.31, -0.13),
    "line_rate": (-0.47, 0.25, -0.22, -0.14, -0.20, -0.03),
    "line_raw": (0.10, -0.01, 0.01, -0.01, 0.02, -0.01),
    "line_60": (1.86, -0.03, 0.22, -0.39, 0.64, 0.02),
    "line_28": (-0.68, -0.48, 0.50, 0.12, -0.42, -0.11),
    "holt": (-1.18, -0.16, -0.03, -0.05, -1.59, -0.21),
    "holt_slow": (-0.97, -0.26, -0.01, -0.02, -0.47, -0.06),
    "regime_rate": (0.72, -0.09, -0.41, 1.45, -0.41, -0.33),
    "mean": (2.63, 1.41, 0.28, -0.14, -1.12, 2.18),
    "bending": (-1.22, -0.41, -2.14, 0.30, 2.74, 0.71),
    "bending_recent": (-1.50, -0.28, 0.33, -0.03, -0.32, -0.34),
}
PRIOR = np.array(list(TRUST.values())).T
# how steeply weights fall with relative error: near and far view, each always and for each unit of horizon
POWER = np.array(
    [
        [3.212, -4.023],
        [7.707, 8.146],
    ]
)
# log factors of past errors, disagreement, noise, scatter: always, by horizon, by extrapolation
WIDTH = np.array(
    [
        [-0.011, -0.256, -0.043],
        [0.059, 0.121, 0.229],
        [-0.587, -0.378, 0.637],
        [0.043, 0.039, -0.058],
    ]
)
