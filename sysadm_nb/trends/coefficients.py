"""How much each simple forecast is worth trusting, and how wide intervals are.

Written by ``python -m benchmarks.fit``, not by hand, from series of seeds 0 to 79.
"""

from __future__ import annotations

import numpy as np

# log weight: always, for each unit of horizon, of length of history, of age of the regime (blend.situation)
TRUST = {
    "stays": (-1.28, -0.24, 0.26, 0.08),
    "drift": (-0.34, 0.09, -0.13, -0.23),
    "drift_calm": (1.23, 1.25, -0.83, -1.00),
    "median_week": (-0.47, -1.13, 0.30, -0.13),
    "median_month": (0.63, 0.81, 0.21, 0.72),
    "line": (3.28, 0.83, 0.10, -0.34),
    "line_rate": (-0.18, 0.38, -0.07, -0.14),
    "line_raw": (0.14, 0.01, 0.02, -0.02),
    "line_60": (0.46, -0.23, 0.08, -0.06),
    "line_28": (-1.66, -0.89, 0.21, 0.07),
    "holt": (-2.15, -0.88, 0.41, 0.08),
    "holt_slow": (-1.18, -0.62, -0.13, -0.03),
    "regime_rate": (-0.25, 0.12, 0.21, 0.15),
    "mean": (1.99, 0.80, -0.09, -0.00),
    "bending": (0.95, 0.23, -0.55, 0.47),
    "bending_recent": (-1.17, -0.53, -0.01, 0.39),
}
PRIOR = np.array(list(TRUST.values())).T
# how steeply weights fall with relative error: near and far view, each always and for each unit of horizon
POWER = np.array(
    [
        [2.876, -6.563],
        [8.089, 9.643],
    ]
)
# log factors of past errors, disagreement, noise, scatter: always, by horizon, by extrapolation
WIDTH = np.array(
    [
        [-0.093, -0.256, -0.083],
        [0.114, 0.134, 0.241],
        [-0.605, -0.384, 0.636],
        [0.099, 0.028, -0.035],
    ]
)
