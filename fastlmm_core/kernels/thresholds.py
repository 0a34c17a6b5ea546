"""The numbers by which fits are judged, for kernels and for what is written above them."""

# Residual of a fixed column, in units of its spread and of its length, below which it depends on others.
RANK_TOLERANCE = 1e-7
RANK_FLOOR = 1e-13
# An element of a null vector below this is rounding.
NULL_ROUNDING = 1e-11
# Product of a linear function with a null vector, in units of their lengths, that is no rounding any more.
ESTIMABLE = 1e-8
# Mean of a random coefficient's column in units of what varies in it, above which it is centred first.
FAR = 1e3
# Inference forms fourth powers of the response: those of numbers within this and its inverse are far from the
# ends of the number range.
LARGEST_SIZE = 1e40
# Share of the sum of squares that may be left for the fixed part to count as all of it.
EXPLAINED = 1e-28
# A diagonal of Lambda below this (standardized coefficients) may be a boundary; the score decides.
BOUNDARY = 1e-4
# A score at zero variance below minus this (relative to the largest entry) wants the variance to grow.
GROWTH = 1e-6
# Slopes alone of at most so many levels are searched from two starts.
FEW_LEVELS = 12
# A curvature below minus this (relative to the largest entry) belongs to no minimum.
CURVATURE = 1e-6
# Smallest eigenvalue of the curvature below which a term is looked at for confounding with the fixed part.
# What is left of the gradient, at most 1e-5 as a rule, bends a flat direction by as much as itself.
FLAT = 1e-4
# Newton decrement of a certified optimum, and what setting variances to zero may add to its deviance.
LARGEST_DECREMENT = 1e-6
LARGEST_RISE = 1e-7
# Smallest eigenvalue of an information matrix, scaled to unit diagonal, that can be inverted.
SINGULAR = 1e-12
# The same of the observed information, of which directions below it are left out.
UNCURVED = 1e-8
# A correlation, or a share of a variance, nearer to its bound than this is at it: the delta method does not
# hold there, and no standard error is given.
AT_BOUND = 1e-7
# Random combinations of the levels of a coefficient that stand for all of them.
COMBINATIONS = 3
