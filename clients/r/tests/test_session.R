# What happens around a fit: errors, another process, a saved fit, a batch, structures. Base R and this package only.
suppressMessages(library(fastlmm))
folder <- commandArgs(TRUE)[1]
table_of <- function(name) read.csv(file.path(folder, paste0(name, ".csv")))
message_of <- function(code) tryCatch({code; NA}, error = conditionMessage)

sleep <- table_of("sleepstudy")
fit <- fastlmm(Reaction ~ Days + (Days | Subject), sleep)
print(fit)
print(summary(fit))
stopifnot(abs(fit$fit$criterion - 1743.6282719) < 1e-6)  # lme4 1.1.31
stopifnot(all(abs(summary(fit)$coefficients[, "df"] - 17) < 1e-6))
stopifnot(dim(confint(fit)) == c(2, 2), nobs(fit) == 180, 
          identical(deparse(formula(fit)), "Reaction ~ Days + (Days | Subject)"))

# errors are one line, of a class of their own, and cost nothing
stopifnot(grepl("'none'", message_of(fastlmm(Reaction ~ none + (1 | Subject), sleep))))
caught <- tryCatch(fastlmm(Reaction ~ none, sleep), fastlmm_error = function(e) class(e)[1])
stopifnot(caught == "fastlmm_formula")
stopifnot(grepl("infinite", message_of(fastlmm(Days ~ Reaction, transform(sleep, Reaction = 1 / (Days - 1))))))

# a fit outlives its process, and a file
before <- ranef(fit)
fastlmm_stop()
stopifnot(identical(ranef(fit), before))
path <- tempfile(fileext = ".rds")
saveRDS(fit, path)
fastlmm_stop()
stopifnot(identical(ranef(readRDS(path)), before))
many <- lapply(1:40, function(k) fastlmm(Reaction ~ 1 + (1 | Subject), sleep[1:(60 + k), ]))  # more than are kept
stopifnot(abs(fitted(many[[1]])[1] - fitted(fastlmm(Reaction ~ 1 + (1 | Subject), sleep[1:61, ]))[1]) < 1e-9)

# numbers keep all their digits, text its characters
odd <- data.frame(y = c(0.1 + 0.2, 1 / 3, pi * 1e10, 1e-300), g = c("\u00e4\"x", "b\\", "\u00e4\"x", "b\\"))
own <- fastlmm:::encoded(fastlmm:::json_table(odd))
stopifnot(identical(as.numeric(regmatches(own, gregexpr("[0-9][0-9.e+-]+", own))[[1]][1:4]), odd$y))
stopifnot(identical(names(fixef(fastlmm(y ~ g, odd)))[2], "gb\\") || identical(names(fixef(fastlmm(y ~ g, odd)))[2], "g\u00e4\"x"))

# an answer that was not waited for is passed over
stale <- fastlmm:::encoded(list(id = jsonlite::unbox(-1), formula = jsonlite::unbox("y ~ g"), data = list(y = 1:4, g = c("a", "b", "a", "b"))))
writeLines(stale, fastlmm:::service$requests); flush(fastlmm:::service$requests)
stopifnot(identical(ranef(fit), before))

# structures, relationships, held variances
field <- table_of("besag_field")
field <- field[field$county == "C1", ]
trend <- fastlmm(yield ~ (1 | gen), field, field_trend = "ps(row, col)")
stopifnot(trend$fit$converged, "ps(row, col, nseg=auto)" %in% VarCorr(trend)$grp)
gens <- unique(field$gen)
A <- 0.5 + 0.5 * diag(length(gens)); dimnames(A) <- list(gens, gens)
related <- fastlmm(yield ~ rep + (1 | vm(gen, A)), field, relationships = list(A = A))
plain <- fastlmm(yield ~ rep + (1 | gen), field)
stopifnot(abs(2 * VarCorr(plain)$vcov[1] - VarCorr(related)$vcov[1]) < 1e-4 * VarCorr(related)$vcov[1])
held <- fastlmm(yield ~ rep + (1 | gen), field, fixed_parameters = list(gen = 10, Residual = 50))
stopifnot(all(abs(VarCorr(held)$vcov - c(10, 50)) < 1e-9))
ped <- data.frame(id = gens, sire = c("", "", rep(gens[1], length(gens) - 2)), dam = c("", "", rep(gens[2], length(gens) - 2)))
stopifnot(fastlmm(yield ~ rep + (1 | vm(gen, P)), field, relationships = list(P = ped))$fit$converged)
stopifnot(suppressWarnings(fastlmm(yield ~ rep + (1 | gen), field, residual = "ar1(row):ar1(col)"))$fit$converged)

# a batch: the figures of each fit by itself
trials <- table_of("trials")
batch <- fastlmm_batch(yield ~ gen + rep + (1 | rep:block), trials, by = "trial", emmeans = "gen", contrasts = "pairwise")
print(batch)
one <- fastlmm(yield ~ gen + rep + (1 | rep:block), subset(trials, trial == "T1"))
stopifnot(abs(batch$fits$criterion[batch$fits$trial == "T1"] - one$fit$criterion) < 1e-6)
fixed <- subset(batch$fixed, trial == "T1")
stopifnot(max(abs(fixed$estimate - fixef(one)[fixed$term])) < 1e-8)
stopifnot(max(abs(fixed$df - summary(one)$coefficients[fixed$term, "df"])) < 1e-5)
from_file <- fastlmm_batch(yield ~ gen + rep + (1 | rep:block), file.path(folder, "trials.csv"), by = "trial", emmeans = "gen")
stopifnot(all.equal(from_file$emmeans, batch$emmeans))
cat("done\n")
