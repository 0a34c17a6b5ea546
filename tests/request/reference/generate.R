# Reference answers for tests/request/test_run.py. Run from the repository root: Rscript tests/request/reference/generate.R
suppressMessages({library(lme4); library(pbkrtest); library(emmeans); library(jsonlite)})
emm_options(lmerTest.limit = 1e5, pbkrtest.limit = 1e5)
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhobeg = 0.02, rhoend = 1e-10, maxfun = 1e5))
table_of <- function(grid) { s <- as.data.frame(summary(grid, infer = c(TRUE, TRUE))); names(s) <- sub("lower.CL", "lower", sub("upper.CL", "upper", names(s))); s }
components <- function(m) { v <- as.data.frame(VarCorr(m)); v$grp <- sub("\\.1$", "", v$grp); v }

sleep <- read.csv("data/sleepstudy.csv", stringsAsFactors = TRUE)
m <- lmer(Reaction ~ Days + (Days || Subject), sleep, control = tight)
re <- ranef(m, condVar = TRUE)$Subject
pv <- attr(re, "postVar")
slope <- list(criterion = REMLcrit(m), sigma = sigma(m), theta = getME(m, "theta"), varcomp = components(m),
  levels = rownames(re), modes = as.matrix(re),
  condvar = if (is.list(pv)) sapply(pv, function(a) a[1, 1, ]) else t(apply(pv, 3, diag)),
  kr_se = sqrt(diag(as.matrix(vcovAdj(m)))), kr_df = sapply(1:2, function(i) Lb_ddf(as.numeric(1:2 == i), vcov(m), vcovAdj(m))))

oats <- read.csv("data/oats.csv", stringsAsFactors = TRUE)
oats$nitro <- as.numeric(gsub("[N.]|cwt", "", as.character(oats$N))) / 10
empty <- subset(oats, !(V == "Marvellous" & N == "N0.4cwt"))
m <- suppressMessages(lmer(Y ~ V * N + (1 | B), empty, control = tight))
grid <- emmeans(m, ~ V * N, lmer.df = "kenward-roger")
cell <- list(dropped = "VMarvellous:NN0.4cwt", means = table_of(grid),
  contrasts = table_of(contrast(emmeans(m, ~ V | N, lmer.df = "kenward-roger"), "pairwise", adjust = "tukey")))

m <- lmer(Y ~ V * nitro + (1 | B / V), oats, control = tight)
trends <- emtrends(m, ~ V, var = "nitro", lmer.df = "satterthwaite")
slopes <- list(trends = table_of(trends), contrasts = table_of(contrast(trends, "trt.vs.ctrl", adjust = "dunnettx")),
  at = table_of(emmeans(m, ~ V, at = list(nitro = 0.6), lmer.df = "satterthwaite")),
  interaction = table_of(contrast(emmeans(m, ~ V * nitro, at = list(nitro = c(0, 0.6)), lmer.df = "satterthwaite"),
                                  interaction = c("pairwise", "consec"))))

m <- lm(Y ~ V + B, oats)
linear <- list(criterion = -2 * as.numeric(logLik(m)), sigma = sigma(m), means = table_of(emmeans(m, ~ V)),
  type3 = as.data.frame(drop1(m, . ~ ., test = "F"))[-1, ])
packages <- c("lme4", "pbkrtest", "emmeans")
versions <- c(list(R = paste(R.version$major, R.version$minor, sep = ".")), lapply(setNames(packages, packages), function(p) as.character(packageVersion(p))))
write_json(list(versions = versions, slope = slope, empty_cell = cell, slopes = slopes, linear = linear),
  "tests/request/reference/reference.json", digits = 12, auto_unbox = TRUE, pretty = TRUE, na = "null")
