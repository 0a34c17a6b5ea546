# Quantiles of lme4's parametric bootstrap of sleepstudy and Dyestuff (REML refits) for
# tests/intervals/test_bootstrap_of_a_fit.py, with the share of draws whose variance is estimated as zero.
# Run in this folder: Rscript bootmer.R > bootmer.json
suppressPackageStartupMessages({library(lme4); library(jsonlite)})
read <- function(name) read.csv(file.path("..", "..", "..", "data", paste0(name, ".csv")), stringsAsFactors = TRUE)
figures <- function(m) c(as.data.frame(VarCorr(m), order = "lower.tri")$sdcor, fixef(m))
probs <- c(0.01, 0.025, seq(0.05, 0.95, 0.05), 0.975, 0.99)
cases <- list(
  sleepstudy = list(formula = "Reaction ~ Days + (Days | Subject)", n = 4000,
                    parameters = c("sd(Subject: (Intercept))", "cor(Subject: (Intercept), Days)", "sd(Subject: Days)",
                                   "sigma", "(Intercept)", "Days")),
  dyestuff = list(formula = "Yield ~ 1 + (1 | Batch)", n = 8000,
                  parameters = c("sd(Batch: (Intercept))", "sigma", "(Intercept)")))
answer <- lapply(names(cases), function(name) {
  own <- cases[[name]]
  fit <- lmer(as.formula(own$formula), read(name))
  b <- suppressMessages(suppressWarnings(bootMer(fit, figures, nsim = own$n, seed = 20240501)))
  c(own, list(probs = probs, zero = mean(b$t[, 1] < 1e-4 * b$t0[1]),
              quantiles = apply(b$t, 2, quantile, probs = probs, na.rm = TRUE, names = FALSE)))
})
names(answer) <- names(cases)
cat(toJSON(list(versions = list(R = R.version.string, lme4 = as.character(packageVersion("lme4"))), cases = answer),
           digits = 10, auto_unbox = TRUE, pretty = FALSE), "\n")
