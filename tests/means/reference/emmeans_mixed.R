# Reference tables of emmeans for tests/means/test_emmeans_mixed.py: nested factors, back-transformation and tests
# against other values than zero, in mixed models with Kenward-Roger df, on one simulated trial that is written into
# the file too.  Run: Rscript emmeans_mixed.R > emmeans_mixed.json
suppressPackageStartupMessages({library(lme4); library(emmeans); library(jsonlite)})
emm_options(msg.interaction = FALSE, msg.nesting = FALSE, lmer.df = "kenward-roger")
set.seed(20240315)
d <- expand.grid(loc = paste0("L", 1:7), gen = paste0("G", 1:6), irr = c("dry", "full", "half"), stringsAsFactors = FALSE)
d$region <- ifelse(d$loc %in% c("L1", "L2", "L3"), "north", ifelse(d$loc %in% c("L4", "L5"), "west", "east"))
d$type <- ifelse(d$gen %in% c("G1", "G2"), "check", "new")
d$field <- paste0(d$loc, ifelse(d$loc %in% c("L2", "L6") | d$gen %in% c("G1", "G4", "G5"), "a", "b"))
d <- d[sort(sample(nrow(d), 96)), ]
effect <- function(x, sd) setNames(rnorm(length(unique(x)), 0, sd), unique(x))[x]
d$y <- round(30 + 4 * (d$irr == "full") + 2 * (d$irr == "half") + effect(d$loc, 3) + effect(d$gen, 2) + rnorm(nrow(d), 0, 2.5), 2)
d$share <- d$y / 100
rownames(d) <- NULL
for (k in setdiff(names(d), c("y", "share"))) d[[k]] <- factor(d[[k]])
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-11, maxfun = 1e5), calc.derivs = FALSE)
formulas <- list(
  nested = y ~ irr * region + loc + (1 | gen), deep = y ~ irr + region / loc / field + (1 | gen),
  types = y ~ type / gen + irr + (1 | loc), crossed = y ~ irr * region + (1 | loc) + (1 | gen),
  log = log(y) ~ irr * region + (1 | loc) + (1 | gen), log10 = log10(y) ~ irr + (1 | loc) + (1 | gen),
  shifted = log(y + 5) ~ irr + (1 | loc) + (1 | gen), sqrt = sqrt(y) ~ irr + (1 | loc) + (1 | gen),
  twice = 2 * sqrt(y) ~ irr + (1 | loc) + (1 | gen), arcsine = asin(sqrt(share)) ~ irr + (1 | loc) + (1 | gen))
fits <- lapply(formulas, function(f) suppressWarnings(suppressMessages(lmer(f, d, control = tight))))
rows <- function(obj, ...) {
  s <- as.data.frame(suppressMessages(summary(obj, infer = c(TRUE, TRUE), ...)))
  names(s)[which(names(s) == "SE") - 1] <- "estimate"
  names(s) <- sub("^SE$", "se", sub("^t.ratio$", "t", sub("^p.value$", "p", sub("^lower.CL$", "lower", sub("^upper.CL$", "upper", names(s))))))
  s$null <- NULL
  for (k in names(s)) { if (is.factor(s[[k]])) s[[k]] <- as.character(s[[k]]); if (is.numeric(s[[k]])) s[[k]][!is.finite(s[[k]])] <- NA }
  s
}
cases <- list()
add <- function(id, fit, specs, table, means = NULL, contrast = NULL, test = NULL, back = FALSE)
  cases[[id]] <<- list(fit = fit, specs = specs, means = means, contrast = contrast, test = test, back = back, table = table)
for (w in c("equal", "proportional", "cells")) for (f in c("nested", "deep")) if (f == "nested" || w != "proportional") {
  add(paste(f, "irr", w), f, "~ irr", rows(emmeans(fits[[f]], ~ irr, weights = w)), list(weights = w))
  if (f == "nested") add(paste(f, "region", w), f, "~ region", rows(emmeans(fits[[f]], ~ region, weights = w)), list(weights = w))
  if (f == "nested") add(paste(f, "loc", w), f, "~ loc", rows(emmeans(fits[[f]], ~ loc, weights = w)), list(weights = w))
}
m <- fits$nested
add("nested pairs", "nested", "~ region", rows(pairs(emmeans(m, ~ region))), contrast = list(method = "pairwise"))
add("nested loc pairs", "nested", "~ loc", rows(pairs(emmeans(m, ~ loc))), contrast = list(method = "pairwise"))
add("nested cells", "nested", "~ irr | region", rows(emmeans(m, ~ irr | region)))
add("nested at", "nested", "~ region", rows(emmeans(m, ~ region, at = list(irr = c("dry", "half")))), list(at = list(irr = c("dry", "half"))))
m <- fits$types
add("types type", "types", "~ type", rows(emmeans(m, ~ type)))
add("types type pairs", "types", "~ type", rows(pairs(emmeans(m, ~ type))), contrast = list(method = "pairwise"))
add("types gen", "types", "~ gen", rows(emmeans(m, ~ gen)))
add("types gen by type", "types", "~ gen | type", rows(emmeans(m, ~ gen | type)))
add("types control", "types", "~ gen", rows(contrast(emmeans(m, ~ gen), "trt.vs.ctrl", ref = 1)), contrast = list(method = "trt.vs.ctrl", ref = 1))
add("types within", "types", "~ gen | type", rows(pairs(emmeans(m, ~ gen | type))), contrast = list(method = "pairwise"))
add("types within eff", "types", "~ gen | type", rows(contrast(emmeans(m, ~ gen | type), "eff")), contrast = list(method = "eff"))
add("types within sidak", "types", "~ gen | type", rows(pairs(emmeans(m, ~ gen | type), adjust = "sidak")), contrast = list(method = "pairwise", adjust = "sidak"))
add("types within holm", "types", "~ gen | type", rows(pairs(emmeans(m, ~ gen | type), adjust = "holm")), contrast = list(method = "pairwise", adjust = "holm"))
add("nested within", "nested", "~ loc | region", rows(pairs(emmeans(fits$nested, ~ loc | region))), contrast = list(method = "pairwise"))
joint <- list()
for (f in c("nested", "types")) joint[[f]] <- as.data.frame(suppressMessages(joint_tests(fits[[f]])))
for (f in names(joint)) joint[[f]][["note"]] <- NULL
for (f in c("log", "log10", "shifted", "sqrt", "twice", "arcsine"))
  add(paste("back", f), f, "~ irr", rows(emmeans(fits[[f]], ~ irr, type = "response")), back = TRUE)
for (f in c("log", "log10", "shifted"))
  add(paste("ratio", f), f, "~ irr", rows(pairs(emmeans(fits[[f]], ~ irr, type = "response"))), contrast = list(method = "pairwise"), back = TRUE)
add("back by", "log", "~ irr | region", rows(emmeans(fits$log, ~ irr | region, type = "response", level = 0.9)), list(level = 0.9), back = TRUE)
add("ratio eff", "log", "~ irr | region", rows(contrast(emmeans(fits$log, ~ irr | region, type = "response"), "eff")), contrast = list(method = "eff"), back = TRUE)
add("ratio control", "log", "~ irr", rows(contrast(emmeans(fits$log, ~ irr, type = "response"), "trt.vs.ctrl")), contrast = list(method = "trt.vs.ctrl"), back = TRUE)
e <- emmeans(fits$crossed, ~ irr)
for (side in c("two-sided", ">", "<")) {
  add(paste("null", side), "crossed", "~ irr", rows(e, null = 33, side = side), test = list(null = 33, side = side))
  for (adjust in c("none", "tukey", "sidak", "bonferroni", "holm", "fdr")) for (delta in c(0, 1.5))
    add(paste("pairs", side, adjust, delta), "crossed", "~ irr", rows(pairs(e, adjust = adjust), side = side, delta = delta),
        contrast = list(method = "pairwise", adjust = adjust), test = list(side = side, delta = delta))
  add(paste("control", side), "crossed", "~ irr", rows(contrast(e, "trt.vs.ctrl"), side = side), contrast = list(method = "trt.vs.ctrl"), test = list(side = side))
  add(paste("by", side), "crossed", "~ irr | region", rows(pairs(emmeans(fits$crossed, ~ irr | region)), side = side, delta = 1),
      contrast = list(method = "pairwise"), test = list(side = side, delta = 1))
}
as_rows <- function(t) lapply(seq_len(nrow(t)), function(i) as.list(t[i, , drop = FALSE]))
for (k in names(cases)) cases[[k]]$table <- as_rows(cases[[k]]$table)
for (k in names(joint)) { for (j in names(joint[[k]])) if (is.factor(joint[[k]][[j]])) joint[[k]][[j]] <- as.character(joint[[k]][[j]]); joint[[k]] <- as_rows(joint[[k]]) }
cat(toJSON(list(versions = list(R = R.version.string, emmeans = as.character(packageVersion("emmeans")), lme4 = as.character(packageVersion("lme4")),
  pbkrtest = as.character(packageVersion("pbkrtest"))), formulas = lapply(formulas, deparse1),
  data = as.list(lapply(d, function(z) if (is.factor(z)) as.character(z) else z)), cases = cases, joint = joint),
  auto_unbox = TRUE, digits = 12, pretty = FALSE, na = "null", null = "null"), "\n")
