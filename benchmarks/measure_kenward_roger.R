# Kenward-Roger in R: Rscript measure_kenward_roger.R FORMULA TABLE QUESTION FACTOR OUT; one line of JSON, figures to OUT
suppressPackageStartupMessages({library(lme4); library(pbkrtest); library(emmeans); library(jsonlite)})

status <- function(which) {
  line <- grep(paste0("^", which, ":"), readLines("/proc/self/status"), value = TRUE)
  as.numeric(gsub("[^0-9]", "", line)) / 1024
}
timed <- function(expr) {
  spent <- system.time(value <- expr, gcFirst = FALSE)
  list(value = value, cpu = sum(spent[c("user.self", "sys.self")]), wall = spent[["elapsed"]])
}

arguments <- commandArgs(trailingOnly = TRUE)
data <- read.csv(arguments[2], stringsAsFactors = TRUE)
question <- arguments[3]
emm_options(pbkrtest.limit = Inf, lmer.df = "kenward-roger")

coefficients_kr <- function(m) {
  adjusted <- vcovAdj(m)
  unadjusted <- vcov(m)
  p <- length(fixef(m))
  df <- vapply(seq_len(p), function(j) Lb_ddf(as.numeric(seq_len(p) == j), unadjusted, adjusted), 0)
  data.frame(estimate = fixef(m), se = sqrt(diag(as.matrix(adjusted))), df = df)
}
means_kr <- function(m) {
  found <- as.data.frame(summary(emmeans(m, arguments[4])))
  data.frame(estimate = found$emmean, se = found$SE, df = found$df, lower = found$lower.CL, upper = found$upper.CL)
}
pairs_kr <- function(m) {
  found <- as.data.frame(summary(pairs(emmeans(m, arguments[4])), infer = c(TRUE, TRUE)))
  data.frame(estimate = found$estimate, se = found$SE, df = found$df, p = found$p.value,
             lower = found$lower.CL, upper = found$upper.CL)
}
ask <- list(coefficients = coefficients_kr, means = means_kr, pairs = pairs_kr)[[question]]

m <- suppressWarnings(suppressMessages(lmer(as.formula(arguments[1]), data)))
fit <- timed(suppressWarnings(suppressMessages(lmer(as.formula(arguments[1]), data))))
# a fit at a tighter optimum, so that the figures can be compared to many digits
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-9, maxfun = 1e5), calc.derivs = FALSE)
m <- suppressWarnings(suppressMessages(lmer(as.formula(arguments[1]), data, control = tight)))
invisible(gc())
base <- status("VmRSS")
try(writeLines("5", "/proc/self/clear_refs"), silent = TRUE)
found <- timed(ask(m))
peak <- status("VmHWM")
seconds <- found$cpu
wall <- found$wall
if (seconds < 3) {  # the first call loads what the packages need
  again <- timed(ask(m))
  seconds <- again$cpu
  wall <- again$wall
}
write.csv(found$value, arguments[5], row.names = FALSE)
cat(toJSON(list(
  rows = nrow(data), answers = nrow(found$value), cpu_s = seconds, wall_s = wall, repeats = 1, fit_s = fit$cpu,
  base_mb = base, peak_mb = peak,
  version = paste0("pbkrtest ", packageVersion("pbkrtest"), ", emmeans ", packageVersion("emmeans"), ", R ", getRversion())
), auto_unbox = TRUE, digits = NA), "\n")
