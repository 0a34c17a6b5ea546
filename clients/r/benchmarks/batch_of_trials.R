# 200 trials of an alpha design: means by Kenward-Roger and all pairwise differences, here and by lme4, pbkrtest and
# emmeans. Prints the seconds of both and the largest difference of the means, their standard errors and df.
# Rscript batch_of_trials.R [TRIALS] [ENTRIES]
suppressMessages({library(lme4); library(emmeans); library(fastlmm)})
given <- as.numeric(commandArgs(TRUE))
trials <- if (length(given) > 0) given[1] else 200
entries <- if (length(given) > 1) given[2] else 24
emm_options(lmer.df = "kenward-roger", pbkrtest.limit = 1e5)
set.seed(1)
one <- function(k) {
  plots <- expand.grid(block = seq_len(entries / 4), plot = 1:4, rep = 1:3)
  plots$gen <- unlist(lapply(1:3, function(r) sample(entries)))
  effects <- rnorm(entries); blocks <- rnorm(3 * entries / 4)
  plots$yield <- 8 + effects[plots$gen] + blocks[plots$block + (plots$rep - 1) * entries / 4] + rnorm(nrow(plots))
  data.frame(trial = sprintf("T%03d", k), plots)
}
data <- do.call(rbind, lapply(seq_len(trials), one))
for (name in c("gen", "rep", "block")) data[[name]] <- factor(data[[name]])

invisible(fastlmm_batch(yield ~ gen + rep + (1 | rep:block), data[data$trial == "T001", ], by = "trial", emmeans = "gen",
                        contrasts = "pairwise"))  # the process is started, its kernels loaded
ours <- system.time(batch <- fastlmm_batch(yield ~ gen + rep + (1 | rep:block), data, by = "trial", emmeans = "gen",
                                           contrasts = "pairwise"))[["elapsed"]]
theirs <- system.time(tables <- lapply(split(data, data$trial), function(own) {
  fit <- lmer(yield ~ gen + rep + (1 | rep:block), own, control = lmerControl(calc.derivs = FALSE))
  means <- emmeans(fit, ~ gen)
  list(means = as.data.frame(means), pairs = as.data.frame(pairs(means)))
}))[["elapsed"]]
means <- do.call(rbind, lapply(tables, `[[`, "means"))
own <- batch$emmeans[order(batch$emmeans$trial, as.numeric(batch$emmeans$gen)), ]
worst <- function(a, b) max(abs(a - b) / pmax(1, abs(b)))
cat(sprintf("%d trials of %d plots: %.2f s here, %.1f s by lme4, pbkrtest and emmeans, %.0f times as long\n", trials,
            3 * entries, ours, theirs, theirs / ours))
cat(sprintf("largest differences: means %.1e, SE %.1e, df %.1e; %d pairwise differences\n", worst(own$estimate, means$emmean),
            worst(own$se, means$SE), worst(own$df, means$df), nrow(batch$contrasts)))
