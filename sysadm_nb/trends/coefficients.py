"""How much each simple forecast is worth trusting, and how wide intervals are.

Written by ``python -m benchmarks.fit`` from generated series of seeds 0 to 25; not by hand.
"""

from __future__ import annotations

import numpy as np

# log weight: always, for each unit of horizon, of length of history, of age of the regime (blend.situation)
TRUST = {
    "stays": (-1.89, 0.63, -0.88, -0.24),
    "drift": (-0.55, 0.20, -0.14, -0.17),
    "drift_calm": (1.43, 1.56, -1.03, -0.02),
    "median_week": (-0.50, -0.78, 0.29, -0.45),
    "median_month": (0.71, 1.17, 0.40, -0.50),
    "line": (3.33, 0.77, 0.19, -0.07),
    "line_rate": (0.29, 0.63, -0.71, -0.40),
    "line_raw": (0.14, 0.02, 0.06, -0.00),
    "line_60": (0.81, 0.41, 0.16, -0.03),
    "line_28": (-1.00, -0.62, 0.39, 0.42),
    "holt": (-2.69, -1.39, 1.37, -0.49),
    "holt_slow": (-1.11, -0.80, -0.08, -0.02),
    "regime_rate": (-0.55, -0.20, 1.25, 0.94),
    "mean": (3.10, -0.13, -1.29, -0.03),
    "bending": (-0.38, -0.76, 0.41, 1.45),
    "bending_recent": (-1.15, -0.71, -0.38, -0.40),
}
PRIOR = np.array(list(TRUST.values())).T
# how steeply weights fall with relative error: near and far view, each always and for each unit of horizon
POWER = np.array([[2.685, -5.750], [8.402, 9.346]])
# log factors of past errors, disagreement, noise and scatter: always, for each unit of horizon, of extrapolation
WIDTH = np.array([[0.057, -0.248, -0.030], [-0.076, 0.072, 0.076], [-0.613, -0.382, 0.757], [0.060, 0.101, -0.081]])
