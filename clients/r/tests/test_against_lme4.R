# The two analyses of the README, and others, beside lme4, pbkrtest and emmeans in one session: to 1e-6.
# Run with the package installed: Rscript test_against_lme4.R DATA_FOLDER

folder <- c(commandArgs(TRUE), Sys.getenv("FASTLMM_DATA"))[1]
if (!nzchar(folder)) quit("no")  # no data: R CMD check without FASTLMM_DATA
suppressMessages({library(lme4); library(emmeans); library(fastlmm)})
table_of <- function(name) read.csv(file.path(folder, paste0(name, ".csv")), stringsAsFactors = TRUE)
emm_options(lmer.df = "kenward-roger", pbkrtest.limit = 1e5)
TOLERANCE <- 1e-6

same <- function(ours, theirs, what, tolerance = TOLERANCE) {
  ours <- as.numeric(unlist(ours)); theirs <- as.numeric(unlist(theirs))
  worst <- max(abs(ours - theirs) / pmax(1, abs(theirs)))
  if (length(ours) != length(theirs) || is.na(worst) || worst > tolerance)
    stop(what, ": differs by ", worst, "\n", paste(head(ours), collapse = " "), "\n", paste(head(theirs), collapse = " "))
  cat(sprintf("%-55s %.1e\n", what, worst))
}
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = 0.2, rhoend = 1e-10), calc.derivs = FALSE)
figures <- c("estimate", "emmean", "SE", "df", "t.ratio", "p.value", "lower.CL", "upper.CL")
same_tables <- function(ours, theirs, what) {
  ours <- as.data.frame(ours); theirs <- as.data.frame(theirs)
  labels <- setdiff(names(theirs), figures)
  stopifnot(identical(names(ours), names(theirs)))
  for (name in labels) stopifnot(identical(as.character(ours[[name]]), as.character(theirs[[name]])))
  for (name in intersect(figures, names(theirs))) same(ours[[name]], theirs[[name]], paste(what, name))
}

# potash in complete blocks, and the balanced incomplete blocks
for (case in list(list("cochrancox_kfert", yield ~ K2O_lbac + (1|rep), ~ K2O_lbac, "K2O_lbac"),
                  list("cochran_bib", yield ~ gen + (1|loc), ~ gen, "gen"))) {
  data <- table_of(case[[1]])
  data[[case[[4]]]] <- factor(data[[case[[4]]]])
  ours <- fastlmm(case[[2]], data)
  theirs <- lmer(case[[2]], data, control = tight)
  name <- case[[1]]
  same(logLik(ours), logLik(theirs), paste(name, "logLik"))
  same(attr(logLik(ours), "df"), attr(logLik(theirs), "df"), paste(name, "df of logLik"))
  same(AIC(ours), AIC(theirs), paste(name, "AIC"))
  same(fixef(ours), fixef(theirs), paste(name, "fixef"))
  stopifnot(identical(names(fixef(ours)), names(fixef(theirs))))
  same(vcov(ours), as.matrix(vcov(theirs)), paste(name, "vcov"))
  same(vcov(ours, adjusted = TRUE), as.matrix(pbkrtest::vcovAdj(theirs)), paste(name, "Kenward-Roger vcov"))
  same(as.data.frame(VarCorr(ours))$sdcor, as.data.frame(VarCorr(theirs))$sdcor, paste(name, "VarCorr"))
  same(ranef(ours), ranef(theirs), paste(name, "ranef"))
  stopifnot(identical(rownames(ranef(ours)[[1]]), rownames(ranef(theirs)[[1]])))
  same(fitted(ours), fitted(theirs), paste(name, "fitted"))
  same(residuals(ours), residuals(theirs), paste(name, "residuals"))
  same(predict(ours, data[1:5, ]), predict(theirs, data[1:5, ]), paste(name, "predict"))
  same(predict(ours, data[1:5, ], re.form = NA), predict(theirs, data[1:5, ], re.form = NA), paste(name, "population"))
  same(sigma(ours), sigma(theirs), paste(name, "sigma"))
  same_tables(emmeans(ours, case[[3]]), emmeans(theirs, case[[3]]), paste(name, "emmeans"))
  same_tables(pairs(emmeans(ours, case[[3]])), pairs(emmeans(theirs, case[[3]])), paste(name, "pairs"))
  same_tables(contrast(emmeans(ours, case[[3]]), "eff"), contrast(emmeans(theirs, case[[3]]), "eff"), paste(name, "eff"))
  f <- pbkrtest::KRmodcomp(theirs, update(theirs, as.formula(paste(". ~ . -", case[[4]])), control = tight))
  own <- anova(ours)
  same(c(own[case[[4]], "F value"], own[case[[4]], "DenDF"], own[case[[4]], "Pr(>F)"]),
       c(f$test["Ftest", "stat"], f$test["Ftest", "ddf"], f$test["Ftest", "p.value"]), paste(name, "anova"))
}

# slopes, several factors, a covariate, missing values, text columns
sleep <- table_of("sleepstudy")
ours <- fastlmm(Reaction ~ Days + (Days | Subject), sleep)
theirs <- lmer(Reaction ~ Days + (Days | Subject), sleep, control = tight)
same(as.data.frame(VarCorr(ours))$sdcor, as.data.frame(VarCorr(theirs))$sdcor, "sleepstudy VarCorr", 1e-5)  # lme4's own search
same(ranef(ours), ranef(theirs), "sleepstudy ranef", 1e-4)
same_tables(emtrends(ours, ~ 1, "Days"), emtrends(theirs, ~ 1, "Days"), "sleepstudy emtrends")
same(predict(ours, data.frame(Days = 12, Subject = "new"), allow.new.levels = TRUE),
     predict(theirs, data.frame(Days = 12, Subject = "new"), allow.new.levels = TRUE), "sleepstudy new level")

# what lme4's users ask of a fit, in lme4's shapes
for (g in names(coef(theirs))) {
  stopifnot(identical(names(coef(ours)[[g]]), names(coef(theirs)[[g]])), identical(rownames(coef(ours)[[g]]), rownames(coef(theirs)[[g]])))
  same(coef(ours)[[g]], coef(theirs)[[g]], "sleepstudy coef", 1e-5)
}
T4 <- VarCorr(theirs)$Subject
stopifnot(identical(names(VarCorr(ours)), "Subject"), identical(dimnames(VarCorr(ours)$Subject), dimnames(T4)))
same(VarCorr(ours)$Subject, T4, "sleepstudy VarCorr matrix", 1e-4)
same(attr(VarCorr(ours)$Subject, "stddev"), attr(T4, "stddev"), "its standard deviations", 1e-5)
same(attr(VarCorr(ours)$Subject, "correlation"), attr(T4, "correlation"), "its correlation", 1e-5)
same(attr(VarCorr(ours), "sc"), attr(VarCorr(theirs), "sc"), "sigma of VarCorr")
effects <- as.data.frame(ranef(ours)); effects4 <- as.data.frame(ranef(theirs))
stopifnot(identical(names(effects), names(effects4)), identical(as.character(effects$term), as.character(effects4$term)))
at <- match(paste(effects$term, effects$grp), paste(effects4$term, effects4$grp))
same(effects$condval, effects4$condval[at], "as.data.frame(ranef), values", 1e-4)
same(effects$condsd, effects4$condsd[at], "as.data.frame(ranef), deviations", 1e-4)
same(predict(ours, sleep[1:5, ], re.form = ~ (Days | Subject)), predict(theirs, sleep[1:5, ], re.form = ~ (Days | Subject)), "re.form", 1e-5)
same(predict(ours, sleep[1:5, ], re.form = ~ 0), predict(theirs, sleep[1:5, ], re.form = ~ 0), "re.form = ~ 0")
gaps <- data.frame(Days = c(1, NA, 3), Subject = "S308")
stopifnot(identical(is.na(predict(ours, gaps)), is.na(predict(theirs, gaps))))
same(predict(ours, gaps)[-2], predict(theirs, gaps)[-2], "rows with missing values", 1e-5)
same(hatvalues(ours), hatvalues(theirs), "leverage", 1e-5)
same(extractAIC(ours), extractAIC(theirs), "extractAIC", 1e-5)
same(drop1(ours)$AIC, drop1(theirs)$AIC, "drop1", 1e-5)
same(ngrps(ours), ngrps(theirs), "ngrps")
stopifnot(isREML(ours), isLMM(ours), identical(names(ngrps(ours)), names(ngrps(theirs))))
limits <- confint(ours, method = "profile"); limits4 <- suppressMessages(confint(theirs))
same(limits[c("sd(Subject: (Intercept))", "cor(Subject: (Intercept), Days)", "sd(Subject: Days)", "sigma", "(Intercept)", "Days"), ],
     limits4, "profile intervals", 5e-4)  # lme4 interpolates its profile
same(confint(ours, "Days", method = "profile"), limits4["Days", ], "one of them", 5e-4)
fewer <- update(ours, . ~ . - Days)
same(fixef(fewer), fixef(update(theirs, . ~ . - Days)), "update")
lr <- anova(fastlmm(Reaction ~ Days + (1 | Subject), sleep), ours, refit = FALSE)
lr4 <- anova(lmer(Reaction ~ Days + (1 | Subject), sleep, control = tight), theirs, refit = FALSE)
same(lr$Chisq[2], lr4$Chisq[2], "likelihood ratio of REML fits", 1e-5)

oats <- table_of("oats")
oats$N <- factor(oats$N)
oats$Y[c(3, 40)] <- NA
ours <- fastlmm(Y ~ V * N + (1 | B / V), oats)
theirs <- lmer(Y ~ V * N + (1 | B / V), oats, control = tight)
same(fitted(ours), fitted(theirs), "oats fitted", 1e-5)
same(predict(ours, oats[1:9, ], re.form = ~ (1 | B)), predict(theirs, oats[1:9, ], re.form = ~ (1 | B)), "oats, some terms", 1e-5)
same_tables(emmeans(ours, ~ V | N), emmeans(theirs, ~ V | N), "oats emmeans V|N")
same_tables(emmeans(ours, pairwise ~ V, weights = "proportional")$contrasts,
            emmeans(theirs, pairwise ~ V, weights = "proportional")$contrasts, "oats pairs")
joint <- list(as.data.frame(joint_tests(ours)), as.data.frame(joint_tests(theirs)))
same(joint[[1]]$F.ratio, joint[[2]]$F.ratio, "oats joint tests, F", 1.001e-3)  # emmeans rounds to 3 decimals
same(joint[[1]]$p.value, joint[[2]]$p.value, "oats joint tests, p")

# likelihood ratio tests; ML; weights; coding
less <- fastlmm(Y ~ V + N + (1 | B / V), oats)
lr <- anova(less, ours)
lr4 <- anova(update(theirs, . ~ V + N + (1 | B / V)), theirs, refit = TRUE)
same(lr$Chisq[2], lr4$Chisq[2], "likelihood ratio", 1e-4)
same(lr[["Pr(>Chisq)"]][2], lr4[["Pr(>Chisq)"]][2], "its p value", 1e-4)
sleep$w <- seq(0.5, 2, length.out = nrow(sleep))
ours <- fastlmm(Reaction ~ Days + (1 | Subject), sleep, REML = FALSE, weights = "w")
theirs <- lmer(Reaction ~ Days + (1 | Subject), sleep, REML = FALSE, weights = w, control = tight)
same(logLik(ours), logLik(theirs), "ML with weights, logLik")
same(deviance(ours), deviance(theirs), "ML with weights, deviance")
same(weights(ours), weights(theirs), "prior weights")
same(residuals(ours, "pearson"), residuals(theirs, "pearson"), "Pearson residuals", 1e-5)
same(fixef(fastlmm(Reaction ~ Days + (1 | Subject), sleep, REML = FALSE, weights = w)), fixef(ours), "weights as a name")
same(fixef(ours), fixef(theirs), "ML with weights, fixef")
ours <- fastlmm(yield ~ gen + (1 | loc), data, contrasts = list(gen = "contr.sum"))
theirs <- lmer(yield ~ gen + (1 | loc), data, contrasts = list(gen = "contr.sum"), control = tight)
same(fixef(ours), fixef(theirs), "contr.sum fixef")
same_tables(emmeans(ours, ~ gen), emmeans(theirs, ~ gen), "contr.sum emmeans")

# offsets, bases of a covariate, transformed responses
sleep$sex <- factor(ifelse(as.integer(sleep$Subject) %% 2, "f", "m")); sleep$o <- 2 * sleep$Days + 1
offsets <- lmer(Reaction ~ sex + offset(o) + (1 | Subject), sleep, control = tight)
same_tables(emmeans(fastlmm(Reaction ~ sex + offset(o) + (1 | Subject), sleep), ~ sex), emmeans(offsets, ~ sex), "offset in the formula, emmeans")
ours <- fastlmm(Reaction ~ sex + (1 | Subject), sleep, offset = o)
same_tables(emmeans(ours, ~ sex), emmeans(offsets, ~ sex), "offset as an argument, emmeans")
same(predict(ours, sleep[1:9, ]), predict(offsets, sleep[1:9, ]), "offset of new rows")
curves <- list(fastlmm(Reaction ~ sex * poly(Days, 2) + (1 | Subject), sleep),
               lmer(Reaction ~ sex * poly(Days, 2) + (1 | Subject), sleep, control = tight))
same_tables(emmeans(curves[[1]], ~ sex, at = list(Days = 3)), emmeans(curves[[2]], ~ sex, at = list(Days = 3)), "polynomial, emmeans")
same_tables(emtrends(curves[[1]], ~ sex, "Days"), emtrends(curves[[2]], ~ sex, "Days"), "polynomial, emtrends")
same_tables(emmeans(fastlmm(log(Reaction) ~ sex + (1 | Subject), sleep), ~ sex),
            emmeans(lmer(log(Reaction) ~ sex + (1 | Subject), sleep, control = tight), ~ sex), "logarithm, emmeans")

# dependent columns: what cannot be estimated is not
data$same <- data$gen
data$gap <- factor(ifelse(data$gen == levels(data$gen)[1], "a", "b"))
ours <- suppressWarnings(fastlmm(yield ~ gap + gen + (1 | loc), data))
theirs <- suppressMessages(lmer(yield ~ gap + gen + (1 | loc), data, control = tight))
same(fixef(ours), fixef(theirs), "dependent columns, fixef")
stopifnot(identical(is.na(as.data.frame(emmeans(ours, ~ gap))$emmean), is.na(as.data.frame(emmeans(theirs, ~ gap))$emmean)))
cat("done\n")
