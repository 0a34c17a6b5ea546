# Measure lme4 on one case in this process and print one line of JSON: Rscript measure_lme4.R FORMULA TABLE WARM_TABLE
suppressPackageStartupMessages({library(lme4); library(jsonlite)})

status <- function(which) {
  line <- grep(paste0("^", which, ":"), readLines("/proc/self/status"), value = TRUE)
  as.numeric(gsub("[^0-9]", "", line)) / 1024
}
cpu <- function(expr) sum(system.time(expr, gcFirst = FALSE)[c("user.self", "sys.self")])

arguments <- commandArgs(trailingOnly = TRUE)
model <- as.formula(arguments[1])
fit <- function(data) suppressWarnings(suppressMessages(lmer(model, data, REML = TRUE)))
invisible(fit(read.csv(arguments[3], stringsAsFactors = TRUE)))
data <- read.csv(arguments[2], stringsAsFactors = TRUE)
invisible(gc())
base <- status("VmRSS")
try(writeLines("5", "/proc/self/clear_refs"), silent = TRUE)
wall <- proc.time()[["elapsed"]]
seconds <- cpu(m <- fit(data))
wall <- proc.time()[["elapsed"]] - wall
peak <- status("VmHWM")
repeats <- 1
if (seconds < 1) {
  repeats <- max(3, min(50, floor(1 / max(seconds, 1e-3))))
  wall <- proc.time()[["elapsed"]]
  seconds <- cpu(for (i in seq_len(repeats)) m <- fit(data)) / repeats
  wall <- (proc.time()[["elapsed"]] - wall) / repeats
}
cat(toJSON(list(
  cpu_s = seconds, wall_s = wall, repeats = repeats, base_mb = base, peak_mb = peak,
  version = paste0(packageVersion("lme4"), ", R ", getRversion()), rows = nrow(data), criterion = REMLcrit(m),
  converged = m@optinfo$conv$opt == 0, evaluations = m@optinfo$feval
), auto_unbox = TRUE, digits = NA), "\n")
