# drop1 of lmerTest (Satterthwaite and, through pbkrtest, Kenward-Roger) and of lme4 (likelihood ratios).
# Rscript tests/results/reference/drop1.R > tests/results/reference/drop1.json   (in the checkout)
suppressMessages({library(lme4); library(lmerTest); library(pbkrtest); library(jsonlite)})
read <- function(name, factors) { d <- read.csv(file.path("data", name)); for (f in factors) d[[f]] <- factor(d[[f]]); d }
oats <- read("oats.csv", c("B","V","N"))
alpha <- read("john_alpha.csv", c("rep","block","gen"))
show <- function(formula, data) {
  environment(formula) <- environment()
  fit <- lmer(formula, data, control = lmerControl(optCtrl = list(xtol_abs=1e-12, ftol_abs=1e-14)))
  kr <- drop1(fit, ddf = "Kenward-Roger"); sa <- drop1(fit)
  ml <- lme4::lmer(formula, data, REML = FALSE, control = lmerControl(optCtrl = list(xtol_abs=1e-12, ftol_abs=1e-14)))
  lr <- drop1(as(ml, "lmerMod"), test = "Chisq")
  list(formula = deparse1(formula), term = rownames(sa),
       kr = list(df_num = kr[["NumDF"]], df_den = kr[["DenDF"]], F = kr[["F value"]], p = kr[["Pr(>F)"]]),
       satterthwaite = list(df_num = sa[["NumDF"]], df_den = sa[["DenDF"]], F = sa[["F value"]], p = sa[["Pr(>F)"]]),
       chisq = list(term = rownames(lr), aic = lr[["AIC"]], chisq = lr[["LRT"]], p = lr[["Pr(Chi)"]]))
}
out <- list(versions = list(R = R.version.string, lme4 = as.character(packageVersion("lme4")), lmerTest = as.character(packageVersion("lmerTest")), pbkrtest = as.character(packageVersion("pbkrtest"))),
  oats = show(Y ~ V * N + (1 | B/V), oats), oats_main = show(Y ~ V + N + (1 | B/V), oats),
  alpha = show(yield ~ rep + gen + (1 | rep:block), alpha))
write(toJSON(out, digits = 12, auto_unbox = TRUE, pretty = TRUE, na = "null"), stdout())
