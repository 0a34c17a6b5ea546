# Rscript measure_trials.R trials.csv: CPU seconds per trial (best of three passes) of lmer, of emmeans with Kenward-Roger and contrasts to a
# check, and of lmer with random genotypes and conditional variances, over all trials of the file, as JSON.
suppressMessages({library(lme4); library(emmeans); library(jsonlite)})
emm_options(lmer.df = "kenward-roger")
d <- read.csv(commandArgs(TRUE)[1], stringsAsFactors = TRUE)
trials <- split(d, d$trial)
trials <- lapply(trials, droplevels)
seconds <- function(f) {
  f(trials[[1]])
  min(replicate(3, sum(system.time(for (t in trials) f(t))[1:2]))) / length(trials)
}
fit <- function(t) suppressMessages(lmer(yield ~ gen + rep + (1 | rep:block), t))
means <- function(t) {
  m <- emmeans(fit(t), "gen")
  list(summary(m, infer = TRUE), summary(contrast(m, "trt.vs.ctrl", ref = "G01"), infer = TRUE))
}
blups <- function(t) ranef(suppressMessages(lmer(yield ~ rep + (1 | gen) + (1 | rep:block), t)), condVar = TRUE)
versions <- paste0("lme4 ", packageVersion("lme4"), ", R ", getRversion())
cat(toJSON(list(versions = versions, fit = seconds(fit), means = seconds(means), blups = seconds(blups)), auto_unbox = TRUE, digits = 8))
