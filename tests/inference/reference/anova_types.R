# Reference for tests/inference/test_anova_types.py: F tests of type I, II and III with Satterthwaite and Kenward-Roger
# df, random effects with their conditional variances and predictions, on unbalanced parts of the tables in data/.
# Run in this directory: Rscript anova_types.R > anova_types.json
Sys.setlocale("LC_COLLATE", "C")
suppressPackageStartupMessages({library(lmerTest); library(pbkrtest); library(jsonlite)})
tight <- lmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-12, xtol_rel = 1e-12, ftol_abs = 1e-13,
                     ftol_rel = 1e-15, maxeval = 1e5), check.conv.singular = "ignore")
cases <- list(
  alpha = list(file = "john_alpha", out = c(3, 20, 21, 50), formula = "yield ~ rep + gen + (1|rep:block)"),
  split = list(file = "oats", out = c(5, 17, 40, 41, 63), formula = "Y ~ V*N + (1|B/V)"),
  strips = list(file = "oats", out = c(5, 17, 40, 41, 63), formula = "Y ~ V + N + (1|B) + (1|B:V) + (1|B:N)"),
  slopes = list(file = "machines", out = c(2, 30, 31), formula = "score ~ Machine + (0 + Machine|Worker)"),
  curve = list(file = "sleepstudy", out = c(4, 90, 91), formula = "Reaction ~ poly(Days, 2) + (Days||Subject)"))
tests <- function(fit, type, ddf) {
  a <- suppressMessages(anova(fit, type = type, ddf = ddf))
  data.frame(term = rownames(a), df_num = a$NumDF, df_den = a$DenDF, F = a[["F value"]], p = a[["Pr(>F)"]])
}
modes <- function(fit) {
  out <- as.data.frame(ranef(fit, condVar = TRUE))
  data.frame(group = as.character(out$grpvar), term = as.character(out$term), level = as.character(out$grp),
             estimate = out$condval, condvar = out$condsd^2)
}
answers <- lapply(cases, function(case) {
  d <- read.csv(file.path("..", "..", "..", "data", paste0(case$file, ".csv")), stringsAsFactors = TRUE)[-case$out, ]
  fit <- suppressMessages(lmer(as.formula(case$formula), d, control = tight))
  c(case, list(criterion = -2 * as.numeric(logLik(fit)), sigma = sigma(fit), theta = unname(getME(fit, "theta")),
    satterthwaite = lapply(1:3, function(type) tests(fit, type, "Satterthwaite")),
    kenward_roger = lapply(c(1, 3), function(type) tests(fit, type, "Kenward-Roger")),
    modes = modes(fit), population = unname(predict(fit, re.form = NA)))) 
})
versions <- paste(R.version.string, paste(sapply(c("lme4", "lmerTest", "pbkrtest"), function(p) paste(p, packageVersion(p))), collapse = ", "), sep = ", ")
cat(toJSON(list(versions = versions, cases = answers), digits = NA, auto_unbox = TRUE), "\n")
