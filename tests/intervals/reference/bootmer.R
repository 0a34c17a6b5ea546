# Quantiles of lme4's parametric bootstrap of sleepstudy (REML refits) for tests/intervals/test_bootstrap.py.
# Run in this folder: Rscript bootmer.R > bootmer.json
suppressPackageStartupMessages({library(lme4); library(jsonlite)})
data <- read.csv(file.path("..", "..", "..", "data", "sleepstudy.csv"), stringsAsFactors = TRUE)
fit <- lmer(Reaction ~ Days + (Days | Subject), data)
figures <- function(m) c(as.data.frame(VarCorr(m), order = "lower.tri")$sdcor, fixef(m))
n <- 4000
time <- system.time(b <- suppressMessages(suppressWarnings(bootMer(fit, figures, nsim = n, seed = 20240501))))
probs <- c(0.01, 0.025, seq(0.05, 0.95, 0.05), 0.975, 0.99)
cat(toJSON(list(versions = list(R = R.version.string, lme4 = as.character(packageVersion("lme4"))), n = n, probs = probs,
                parameters = c("sd(Subject: (Intercept))", "cor(Subject: (Intercept), Days)", "sd(Subject: Days)", "sigma",
                               "(Intercept)", "Days"),
                quantiles = apply(b$t, 2, quantile, probs = probs, na.rm = TRUE, names = FALSE)), digits = 10, auto_unbox = TRUE, pretty = FALSE), "\n")
