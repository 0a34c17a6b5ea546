# Reference of tests/means/test_grid_options.py: emmeans with kept covariates, nuisance factors, counterfactuals, submodels.
# Usage: Rscript grid_options.R   (reads ../../design/reference/table.csv, writes grid_options.json beside itself)
suppressMessages({library(jsonlite); library(emmeans)})
d <- read.csv("../../design/reference/table.csv")
d$w <- as.integer(d$x > 0)
d$wt <- 1 + (seq_len(nrow(d)) %% 3)
one <- function(formula, specs, options = list(), wts = FALSE, key = NULL) {
  m <- if (wts) lm(as.formula(formula), d, weights = wt) else lm(as.formula(formula), d)
  r <- suppressMessages(as.data.frame(summary(do.call(emmeans, c(list(m, as.formula(specs)), options)))))
  list(formula = formula, specs = specs, weights = wts, options = key, estimate = as.list(r$emmean), se = as.list(r$SE))
}
cases <- list(
  one("y ~ b*w + x + a", "~ b", list(cov.keep = "w"), key = list(cov_keep = "w")),
  one("y ~ b*w + x + a", "~ w | b", list(cov.keep = "w"), key = list(cov_keep = list("w"))),
  one("y ~ b*w + x + a", "~ b", list(cov.keep = "2"), key = list(cov_keep = 2)),
  one("y ~ b*w + x + a", "~ b", list(cov.keep = character(0)), key = NULL),
  one("y ~ b*w + x + a", "~ b", list(cov.keep = "w", weights = "proportional"), key = list(cov_keep = "w", weights = "proportional")),
  one("y ~ b*w + x*b + a", "~ b", list(cov.keep = character(0), cov.reduce = range), key = list(cov_reduce = "range")),
  one("y ~ b*w + x*b + a", "~ b", list(cov.keep = "w", cov.reduce = max), key = list(cov_keep = "w", cov_reduce = "max")),
  one("y ~ b*w + x*b + a", "~ b", list(cov.keep = "w", cov.reduce = list(x = median)), key = list(cov_keep = "w", cov_reduce = list(x = "median"))),
  one("y ~ a + b + g", "~ a", list(nuisance = "g"), key = list(nuisance = "g")),
  one("y ~ a + b + g", "~ a", list(nuisance = c("g", "b")), key = list(nuisance = list("g", "b"))),
  one("y ~ a + b + g", "~ a", list(nuisance = "g", wt.nuis = "proportional"), key = list(nuisance = "g", wt_nuis = "proportional")),
  one("y ~ a*g + b", "~ b", list(nuisance = "g"), key = list(nuisance = "g")),
  one("y ~ b*g + x", "~ b", list(submodel = ~ b + g + x), key = list(submodel = "~ b + g + x")),
  one("y ~ b*g + x", "~ b", list(submodel = ~ b), key = list(submodel = "~ b")),
  one("y ~ b*g + x", "~ b", list(submodel = "minimal"), key = list(submodel = "minimal")),
  one("y ~ b*g + x", "~ b", list(submodel = "type2"), key = list(submodel = "type2")),
  one("y ~ b*g + x", "~ b", list(submodel = ~ b + g), wts = TRUE, key = list(submodel = "~ b + g")),
  one("y ~ b*x + g", "~ b", list(counterfactuals = "b"), key = list(counterfactuals = "b")),
  one("y ~ b*x + g*b", "~ b", list(counterfactuals = "b"), key = list(counterfactuals = "b")),
  one("y ~ b*x + g + a", "~ a", list(counterfactuals = "a"), key = list(counterfactuals = "a"))
)
write_json(list(versions = list(R = as.character(getRversion()), emmeans = as.character(packageVersion("emmeans"))), cases = cases),
           "grid_options.json", digits = 12, auto_unbox = TRUE, null = "null")
