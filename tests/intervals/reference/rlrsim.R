# p values of RLRsim's exact restricted likelihood-ratio test of the one variance component for
# tests/intervals/test_boundary_tests.py, and lmerTest's ranova.  Run in this folder: Rscript rlrsim.R > rlrsim.json
suppressPackageStartupMessages({library(lme4); library(RLRsim); library(lmerTest); library(jsonlite)})
read <- function(name) read.csv(file.path("..", "..", "..", "data", paste0(name, ".csv")), stringsAsFactors = TRUE)
nsim <- 200000
exact <- function(formula, name) {
  d <<- read(name)
  fit <- suppressMessages(lme4::lmer(formula, d))
  X <- getME(fit, "X"); Z <- as.matrix(getME(fit, "Z"))
  sims <- RLRTSim(X, Z, qr(X), diag(ncol(Z)), nsim = nsim, seed = 2)
  statistic <- max(0, 2 * (logLik(fit) - logLik(lm(lme4::nobars(formula), d), REML = TRUE)))
  list(formula = paste(deparse(formula), collapse = ""), statistic = statistic, p = mean(sims >= statistic),
       zero = mean(sims < 1e-8), quantiles = unname(quantile(sims, c(0.8, 0.9, 0.95, 0.99))))
}
ranova_of <- function(formula, name) {
  d <<- read(name)
  t <- as.data.frame(suppressMessages(ranova(eval(bquote(lmerTest::lmer(.(formula), d))))))
  list(formula = paste(deparse(formula), collapse = ""), rows = rownames(t), npar = t$npar, logLik = t$logLik, AIC = t$AIC,
       LRT = t$LRT, df = t$Df, p = t$`Pr(>Chisq)`)
}
cat(toJSON(list(
  versions = list(R = R.version.string, lme4 = as.character(packageVersion("lme4")), RLRsim = as.character(packageVersion("RLRsim")),
                  lmerTest = as.character(packageVersion("lmerTest"))), nsim = nsim,
  exact = list(dyestuff = exact(Yield ~ 1 + (1 | Batch), "dyestuff"), dyestuff2 = exact(Yield ~ 1 + (1 | Batch), "dyestuff2"),
               sleepstudy = exact(Reaction ~ Days + (1 | Subject), "sleepstudy"), cochran_bib = exact(yield ~ gen + (1 | loc), "cochran_bib")),
  ranova = list(sleepstudy = ranova_of(Reaction ~ Days + (Days | Subject), "sleepstudy"),
                penicillin = ranova_of(diameter ~ 1 + (1 | plate) + (1 | sample), "penicillin"),
                oats = ranova_of(Y ~ N + (1 | B) + (1 | B:V), "oats"),
                uncorrelated = ranova_of(Reaction ~ Days + (1 | Subject) + (0 + Days | Subject), "sleepstudy"))),
  digits = 10, auto_unbox = TRUE, na = "null", pretty = TRUE), "\n")
