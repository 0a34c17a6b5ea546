# Reference tables of emmeans for tests/means/test_emmeans.py, from ordinary least squares on one small,
# unbalanced table that is written into the file too.  Run: Rscript emmeans_ols.R > emmeans_ols.json
suppressPackageStartupMessages({library(emmeans); library(jsonlite)})
emm_options(msg.interaction = FALSE)
set.seed(20240229)
d <- expand.grid(r = 1:3, v = c("A", "B-1", "C", "D"), n = c("0", "50", "100"), KEEP.OUT.ATTRS = FALSE,
                 stringsAsFactors = FALSE)
d$x <- round(runif(nrow(d), 0, 10), 2)
d$o <- round(runif(nrow(d), 0, 1), 2)
d$s <- c("p", "q")[1 + (seq_len(nrow(d)) * 7) %% 5 %/% 3]
d$y <- round(20 + 2 * (d$v == "C") + 0.05 * as.numeric(d$n) + 0.4 * d$x - 0.03 * d$x^2 + rnorm(nrow(d)), 2)
d <- d[-c(2, 3, 11, 25), ]
d$v <- factor(d$v); d$n <- factor(d$n, levels = c("0", "50", "100")); d$s <- factor(d$s)
fits <- list(
  full = lm(y ~ v * n + s + x, data = d),
  curve = lm(y ~ v * x + I(x^2) + n, data = d),
  cubic = lm(y ~ v + poly(x, 3), data = d),
  offset = lm(y ~ v + n, offset = o, data = d))
rows <- function(obj, ...) {
  s <- as.data.frame(summary(obj, infer = c(TRUE, TRUE), ...))
  names(s) <- sub("^(emmean|.*\\.trend)$", "estimate", names(s))
  names(s) <- sub("^(lower.CL|asymp.LCL)$", "lower", names(s)); names(s) <- sub("^(upper.CL|asymp.UCL)$", "upper", names(s))
  names(s) <- sub("^(t.ratio|z.ratio)$", "t", names(s)); names(s) <- sub("^p.value$", "p", names(s))
  names(s) <- sub("^SE$", "se", names(s))
  for (k in names(s)) if (is.factor(s[[k]])) s[[k]] <- as.character(s[[k]])
  s
}
cases <- list()
add <- function(id, fit, specs, means, con = NULL, table) cases[[id]] <<- list(fit = fit, means = c(list(specs = specs), means), contrast = con, table = table)
f <- fits$full
for (w in c("equal", "proportional", "outer", "cells", "flat"))
  add(paste0("weights_", w), "full", "~ v", list(weights = w), NULL, rows(emmeans(f, ~ v, weights = w)))
add("weights_numbers", "full", "~ v", list(weights = 1:6), NULL, rows(emmeans(f, ~ v, weights = 1:6)))
add("overall", "full", "~ 1", list(), NULL, rows(emmeans(f, ~ 1)))
add("at", "full", "~ v | n", list(at = list(v = c("A", "D"), x = 3)), NULL, rows(emmeans(f, ~ v | n, at = list(v = c("A", "D"), x = 3))))
add("two_x", "full", "~ x", list(at = list(x = c(2, 5, 8))), list(method = "pairwise"), rows(pairs(emmeans(f, ~ x, at = list(x = c(2, 5, 8))))))
add("offset", "offset", "~ v", list(), NULL, rows(emmeans(fits$offset, ~ v)))
add("offset_contrast", "offset", "~ v", list(), list(method = "pairwise"), rows(pairs(emmeans(fits$offset, ~ v))))
e <- emmeans(f, ~ v); g <- emmeans(f, ~ n); b <- emmeans(f, ~ v | n); vn <- emmeans(f, ~ v * n)
for (a in c("none", "tukey", "sidak", "bonferroni", "scheffe", "holm", "hochberg", "hommel", "fdr", "BY"))
  add(paste0("adjust_", tolower(a)), "full", "~ v", list(), list(method = "pairwise", adjust = tolower(a)), rows(pairs(e, adjust = a)))
add("scheffe_by", "full", "~ v | n", list(), list(method = "eff", adjust = "scheffe"), rows(contrast(b, "eff", adjust = "scheffe")))
add("tukey_on_control", "full", "~ v", list(), list(method = "trt.vs.ctrl", adjust = "tukey"), suppressMessages(rows(contrast(e, "trt.vs.ctrl", adjust = "tukey"))))
add("revpairwise_number_levels", "full", "~ n", list(), list(method = "revpairwise"), rows(contrast(g, "revpairwise")))
add("control_by_label", "full", "~ v", list(), list(method = "trt.vs.ctrl", ref = "C"), rows(contrast(e, "trt.vs.ctrl", ref = "C")))
add("control_two", "full", "~ v", list(), list(method = "trt.vs.ctrl", ref = c(1, 2)), rows(contrast(e, "trt.vs.ctrl", ref = c(1, 2))))
add("control_last", "full", "~ v | n", list(), list(method = "trt.vs.ctrlk"), rows(contrast(b, "trt.vs.ctrlk")))
add("control_reverse", "full", "~ v", list(), list(method = "trt.vs.ctrl", reverse = TRUE), rows(contrast(e, "trt.vs.ctrl", reverse = TRUE)))
for (m in c("eff", "del.eff", "poly")) add(paste0("family_", m), "full", "~ v", list(), list(method = m), rows(contrast(e, m)))
for (m in c("consec", "mean_chg")) add(paste0("family_", m), "full", "~ v", list(), list(method = m, adjust = "none"), rows(contrast(e, m, adjust = "none")))
add("custom", "full", "~ v", list(), list(method = list(`A vs rest` = c(1, -1/3, -1/3, -1/3), sum = c(1, 1, 0, 0)), adjust = "sidak"),
    rows(contrast(e, list(`A vs rest` = c(1, -1/3, -1/3, -1/3), sum = c(1, 1, 0, 0)), adjust = "sidak")))
add("two_factor_pairs", "full", "~ v * n", list(), list(method = "pairwise"), rows(pairs(vn)))
add("two_factor_by", "full", "~ v * n", list(), list(method = "pairwise", by = "v"), rows(pairs(vn, by = "v")))
add("simple", "full", "~ v * n", list(), list(method = "consec", simple = "n", adjust = "none"), rows(contrast(vn, "consec", simple = "n", adjust = "none")))
add("interaction", "full", "~ v * n", list(), list(interaction = c("pairwise", "poly")), rows(contrast(vn, interaction = c("pairwise", "poly"))))
add("interaction_one", "full", "~ v * n", list(), list(interaction = c("consec"), adjust = "holm"), rows(contrast(vn, interaction = "consec", adjust = "holm")))
add("interaction_by", "full", "~ v * n | s", list(), list(interaction = c("eff", "consec")), rows(contrast(emmeans(f, ~ v * n | s), interaction = c("eff", "consec"))))
add("contrast_of_contrasts", "full", "~ v | n", list(), list(list(method = "pairwise"), list(method = "consec", by = "contrast", adjust = "none")),
    rows(contrast(pairs(b), "consec", by = "contrast", adjust = "none")))
add("trends_linear", "curve", "~ v", list(var = "x"), NULL, rows(emtrends(fits$curve, ~ v, var = "x", delta.var = 1e-5)))
add("trends_pairs", "curve", "~ v", list(var = "x"), list(method = "pairwise"), rows(pairs(emtrends(fits$curve, ~ v, var = "x", delta.var = 1e-5))))
add("trends_at", "curve", "~ x", list(var = "x", at = list(x = c(1, 9))), NULL, rows(emtrends(fits$curve, ~ x, var = "x", at = list(x = c(1, 9)), delta.var = 1e-5)))
add("trends_cubic", "cubic", "~ 1", list(var = "x"), NULL, rows(emtrends(fits$cubic, ~ 1, var = "x", delta.var = 1e-5)))
add("joint", "full", "", list(), NULL, as.data.frame(joint_tests(f)))
add("joint_by", "full", "", list(by = "n"), NULL, as.data.frame(joint_tests(f, by = "n")))
for (k in names(cases)) cases[[k]]$table <- lapply(seq_len(nrow(cases[[k]]$table)), function(i) as.list(cases[[k]]$table[i, , drop = FALSE]))
cat(toJSON(list(versions = list(R = R.version.string, emmeans = as.character(packageVersion("emmeans"))),
  formulas = lapply(fits, function(m) sub(" *$", "", paste(deparse(formula(m)), collapse = ""))), data = as.list(lapply(d, function(z) if (is.factor(z)) as.character(z) else z)),
  cases = cases), auto_unbox = TRUE, digits = 15, pretty = FALSE, na = "null"), "\n")
