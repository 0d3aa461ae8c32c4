"""How much each simple forecast is worth trusting, and how wide intervals are.

Written by ``python -m benchmarks.fit`` from generated series of seeds 0 to 25; not by hand.
"""

from __future__ import annotations

import numpy as np

# log weight: always, for each unit of horizon, of length of history, of age of the regime (blend.situation)
TRUST = {
    "stays": (-0.75, 0.60, -0.99, -0.09),
    "drift": (-0.76, 0.12, -0.14, -0.25),
    "drift_calm": (1.58, 1.13, -2.28, -1.22),
    "median_week": (-0.16, -0.68, 0.15, -0.42),
    "median_month": (0.42, 1.13, 0.69, -0.39),
    "line": (3.24, 0.95, 0.37, 0.52),
    "line_rate": (-0.63, 0.24, -0.10, -0.23),
    "line_raw": (0.14, -0.03, 0.06, 0.02),
    "line_60": (0.20, -0.40, -0.03, 0.01),
    "line_28": (-1.68, -0.67, 0.52, -0.00),
    "holt": (-1.98, -0.93, 1.20, 0.01),
    "holt_slow": (-0.56, -1.02, -0.30, -0.03),
    "regime_rate": (-0.47, 0.10, 0.55, 0.25),
    "mean": (2.48, 0.42, -0.37, -0.00),
    "bending": (0.17, -0.15, 0.54, 1.95),
    "bending_recent": (-1.24, -0.81, 0.15, -0.13),
}
PRIOR = np.array(list(TRUST.values())).T
# how steeply weights fall with relative error: near and far view, each always and for each unit of horizon
POWER = np.array([[2.758, -6.305], [7.517, 8.501]])
# log factors of past errors, disagreement, noise and scatter: always, for each unit of horizon, of extrapolation
WIDTH = np.array([[-0.056, -0.192, -0.097], [-0.060, 0.108, 0.124], [-0.729, -0.289, 0.665], [0.217, -0.014, 0.012]])
