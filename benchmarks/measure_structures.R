# Repeated measures by nlme, glmmTMB or lme4, one line of JSON: Rscript measure_structures.R PROGRAM RESIDUAL TABLE
suppressPackageStartupMessages(library(jsonlite))

status <- function(which) {
  line <- grep(paste0("^", which, ":"), readLines("/proc/self/status"), value = TRUE)
  as.numeric(gsub("[^0-9]", "", line)) / 1024
}
cpu <- function(expr) sum(system.time(expr, gcFirst = FALSE)[c("user.self", "sys.self")])

arguments <- commandArgs(trailingOnly = TRUE)
program <- arguments[1]
unstructured <- startsWith(arguments[2], "us(")
data <- read.csv(arguments[3], stringsAsFactors = TRUE)
data$at <- as.integer(data$visit)
suppressPackageStartupMessages(library(program, character.only = TRUE))

fit <- switch(program,
  nlme = function() {
    if (!unstructured) return(gls(y ~ arm * visit, data, corCompSymm(form = ~ 1 | subject)))
    gls(y ~ arm * visit, data, corSymm(form = ~ at | subject), varIdent(form = ~ 1 | visit),
        control = glsControl(maxIter = 500, msMaxIter = 500))
  },
  lme4 = function() lmer(y ~ arm * visit + (1 | subject), data),
  glmmTMB = function() {
    if (!unstructured) return(glmmTMB(y ~ arm * visit + (1 | subject), data, REML = TRUE))
    glmmTMB(y ~ arm * visit + us(0 + visit | subject), data, REML = TRUE, dispformula = ~ 0)
  })
base <- status("VmRSS")
try(writeLines("5", "/proc/self/clear_refs"), silent = TRUE)
wall <- proc.time()[["elapsed"]]
seconds <- cpu(m <- suppressWarnings(fit()))
wall <- proc.time()[["elapsed"]] - wall
peak <- status("VmHWM")
repeats <- 1
if (seconds < 1) {
  repeats <- 5
  seconds <- cpu(for (i in seq_len(repeats)) m <- suppressWarnings(fit())) / repeats
}
cat(toJSON(list(
  cpu_s = seconds, wall_s = wall, repeats = repeats, base_mb = base, peak_mb = peak,
  version = paste0(packageVersion(program), ", R ", getRversion()), rows = nrow(data), criterion = -2 * as.numeric(logLik(m))
), auto_unbox = TRUE, digits = NA), "\n")
