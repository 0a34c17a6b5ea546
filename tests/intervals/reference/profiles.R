# Profile intervals of lme4 for tests/intervals/test_profile.py: confint(method = "profile"), which interpolates a
# profile of about fifteen points, and the same from a profile of ten times as many, whose interpolation is exact to
# more digits.  Run in this folder: Rscript profiles.R > profiles.json
suppressPackageStartupMessages({library(lme4); library(jsonlite)})
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-12, maxfun = 1e5), calc.derivs = FALSE)
read <- function(name) read.csv(file.path("..", "..", "..", "data", paste0(name, ".csv")), stringsAsFactors = TRUE)
models <- list(
  sleepstudy = Reaction ~ Days + (Days | Subject), sleepstudy_uncorrelated = Reaction ~ Days + (Days || Subject),
  dyestuff = Yield ~ 1 + (1 | Batch), penicillin = diameter ~ 1 + (1 | plate) + (1 | sample))
table <- function(m) list(parameter = rownames(m), lower = unname(m[, 1]), upper = unname(m[, 2]))
quiet <- function(x) suppressWarnings(suppressMessages(x))
cases <- lapply(names(models), function(name) {
  fit <- quiet(lmer(models[[name]], read(sub("_.*", "", name)), REML = FALSE, control = tight))
  list(formula = paste(deparse(models[[name]]), collapse = ""), level = 0.95,
       confint = table(quiet(confint(fit, method = "profile", level = 0.95, quiet = TRUE))),
       fine = table(quiet(confint(profile(fit, delta = 0.05, maxpts = 1000, alphamax = 0.04), level = 0.95))))
})
names(cases) <- names(models)
cat(toJSON(list(versions = list(R = R.version.string, lme4 = as.character(packageVersion("lme4"))), cases = cases),
           digits = 12, auto_unbox = TRUE, na = "null", pretty = TRUE), "\n")
