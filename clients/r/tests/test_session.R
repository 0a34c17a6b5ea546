# What happens around a fit: errors, another process, a saved fit, a batch, structures. Base R and this package only.
folder <- c(commandArgs(TRUE), Sys.getenv("FASTLMM_DATA"))[1]
if (!nzchar(folder)) quit("no")  # no data: R CMD check without FASTLMM_DATA
suppressMessages(library(fastlmm))
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
stopifnot(trend$fit$converged, "ps(row, col, nseg=auto)" %in% names(VarCorr(trend)))
# a trend in each environment, and the same as the formula that it stands for; `at()` before a spline
two <- transform(subset(table_of("besag_field"), county %in% c("C1", "C2")), env = county)
by_env <- fastlmm(yield ~ (1 | gen), two, field_trend = "ps(row, col, nseg = (5, 8)) | env")
stopifnot(identical(all.vars(formula(by_env, fixed.only = TRUE)), c("yield", "env", "row", "col")),
          setequal(colnames(model.matrix(by_env)), by_env$fit$coef_names), length(fixef(by_env)) == 8)
spelt <- fastlmm(yield ~ env * row * col + (1 | gen) + (1 | at(env):row) + (1 | at(env):col) + at(env):ps(row, col, nseg = c(5, 8)), two)
stopifnot(abs(by_env$fit$criterion - spelt$fit$criterion) < 1e-6, identical(fixef(spelt), fixef(by_env)), 
          identical(formula(spelt, fixed.only = TRUE), yield ~ env * row * col))
line <- fastlmm(yield ~ env * row + (1 | gen) + at(env):spl(row), two)
stopifnot(identical(formula(line, fixed.only = TRUE), yield ~ env * row), line$fit$converged)
somewhere <- two[c(1, 40, 100), c("env", "row", "col")]
stopifnot(max(abs(predict(by_env, somewhere, re.form = NA) - drop(model.matrix(by_env)[c(1, 40, 100), names(fixef(by_env))] %*% fixef(by_env)))) < 1e-6)
by_name <- transform(two, Row = row, Bed = col)[c("yield", "gen", "env", "Row", "Bed")]
other <- fastlmm(yield ~ (1 | gen), by_name, field_trend = "ps(Row, Bed, nseg = (5, 8)) | env")
stopifnot(abs(other$fit$criterion - by_env$fit$criterion) < 1e-6)
options(contrasts = c("contr.sum", "contr.poly"))
coded <- fastlmm(yield ~ (1 | gen), two, field_trend = "(ps(nseg = (5, 8)) | env)")
uncoded <- suppressWarnings(fastlmm(yield ~ (1 | gen), two, field_trend = "ar1 | env"))  # env is not in the fixed part
options(contrasts = c("contr.treatment", "contr.poly"))
stopifnot("env1:row" %in% names(fixef(coded)), abs(coded$fit$criterion - by_env$fit$criterion - 4 * 2 * log(2)) < 1e-4,
          setequal(colnames(model.matrix(coded)), coded$fit$coef_names))
stopifnot(length(fixef(uncoded)) == 1)
dropped <- suppressWarnings(drop1(fastlmm(yield ~ rep + (1 | gen), two, field_trend = "ps(row, col, nseg = (5, 8)) | env")))
stopifnot(identical(rownames(dropped), c("<none>", "rep")), dropped$Df[2] == 1, nrow(drop1(by_env)) == 1)  # a trend stays
autoregressive <- suppressWarnings(fastlmm(yield ~ env + (1 | gen), two, field_trend = "ar1 | env"))
same <- suppressWarnings(fastlmm(yield ~ env + (1 | gen), two, residual = "ar1(row):ar1(col) | env"))
stopifnot(abs(logLik(autoregressive) - logLik(same)) < 1e-6, identical(formula(autoregressive, fixed.only = TRUE), yield ~ env))
many <- transform(subset(table_of("besag_field"), county %in% c("C1", "C2", "C3")), set = ifelse(county == "C3", "B", "A"), env = county)
batch <- fastlmm_batch(yield ~ (1 | gen), many[many$set == "A", ], by = "set", field_trend = "ps(row, col, nseg = (5, 8)) | env")
stopifnot(abs(batch$fits$criterion - by_env$fit$criterion) < 1e-6)
stopifnot(grepl("ps(", fixed = TRUE, message_of(fastlmm(yield ~ 1, two, field_trend = "ps("))))
gens <- unique(field$gen)
A <- 0.5 + 0.5 * diag(length(gens)); dimnames(A) <- list(gens, gens)
related <- fastlmm(yield ~ rep + (1 | vm(gen, A)), field, relationships = list(A = A))
plain <- fastlmm(yield ~ rep + (1 | gen), field)
stopifnot(abs(2 * VarCorr(plain)$gen - VarCorr(related)[[1]]) < 1e-4 * VarCorr(related)[[1]])
held <- fastlmm(yield ~ rep + (1 | gen), field, fixed_parameters = list(gen = 10, Residual = 50))
stopifnot(all(abs(as.data.frame(VarCorr(held))$vcov - c(10, 50)) < 1e-9))
ped <- data.frame(id = gens, sire = c("", "", rep(gens[1], length(gens) - 2)), dam = c("", "", rep(gens[2], length(gens) - 2)))
stopifnot(fastlmm(yield ~ rep + (1 | vm(gen, P)), field, relationships = list(P = ped))$fit$converged)
stopifnot(suppressWarnings(fastlmm(yield ~ rep + (1 | gen), field, residual = "ar1(row):ar1(col)"))$fit$converged)
# plots without a yield and beyond the field by universal kriging, against dense matrices
part <- field[-c(5, 60), ]
kriged <- suppressWarnings(fastlmm(yield ~ 1 + (1 | gen), part, residual = "ar1(row):ar1(col)"))
beyond <- data.frame(row = range(field$row) + c(-2, 1), col = range(field$col) + c(0, 3), gen = part$gen[1:2])
new <- rbind(field[c(5, 60), c("row", "col", "gen")], beyond)
every <- rbind(part[c("row", "col", "gen")], new)
rho <- unlist(kriged$fit$residual[[1]]$group_corr)
steps <- lapply(every[c("row", "col")], function(x) abs(outer(x, x, `-`)))
V <- c(kriged$fit$residual[[1]]$T) * rho[["row"]]^steps$row * rho[["col"]]^steps$col +
  as.data.frame(VarCorr(kriged))$vcov[1] * outer(every$gen, every$gen, `==`)
seen <- seq_len(nrow(part)); W <- solve(V[seen, seen]); C <- V[seen, -seen]
phi <- 1 / sum(W); left <- part$yield - phi * sum(W %*% part$yield)
by_hand <- phi * sum(W %*% part$yield) + drop(t(C) %*% W %*% left)
error <- sqrt(diag(V)[-seen] - diag(t(C) %*% W %*% C) + phi * drop(1 - t(C) %*% rowSums(W))^2)
told <- predict(kriged, new, residual = TRUE, se.fit = TRUE)
stopifnot(max(abs(told$fit - by_hand)) < 1e-6, max(abs(told$se.fit - error)) < 1e-6,
          max(abs(predict(kriged, part, residual = TRUE) - part$yield)) < 1e-6,
          max(abs(predict(kriged, new) - told$fit)) > 0.1, grepl("belongs to newdata", message_of(predict(kriged, residual = TRUE))))
alone <- suppressWarnings(fastlmm(yield ~ 1, part, residual = "ar1(row):ar1(col)"))
stopifnot(all(is.finite(predict(alone, new, re.form = NA, residual = TRUE))))
# an environment of one row of plots has a curve in the place of a surface, and R's functions know its fixed part
thin <- subset(two, env == "C1" | row == min(row))
curve <- suppressWarnings(fastlmm(yield ~ (1 | gen), thin, field_trend = "ps(row, col, nseg = (5, 8)) | env"))
stopifnot(setequal(colnames(model.matrix(curve)), names(fixef(curve))), any(grepl("C2):ps(col", names(VarCorr(curve)), fixed = TRUE)),
          max(abs(predict(curve, thin, re.form = NA) - drop(model.matrix(curve)[, names(fixef(curve))] %*% fixef(curve)))) < 1e-6)

# simulated responses: the mean and the variance of the model, and the seed that set.seed() determines
set.seed(1); first <- simulate(fit, 200)
set.seed(1); stopifnot(identical(first, simulate(fit, 200)), identical(dim(first), c(180L, 200L)))
spread <- apply(first, 1, var)[sleep$Days == 0] / (VarCorr(fit)$Subject[1, 1] + sigma(fit)^2)
stopifnot(abs(mean(rowMeans(first)) - mean(sleep$Reaction)) < 5, abs(mean(spread) - 1) < 0.1)
stopifnot(abs(mean(as.matrix(simulate(fit, 50, seed = 2, use.u = TRUE)) - fitted(fit))) < 2)
boot <- confint(fit, "sigma", method = "boot", nsim = 60, seed = 3)
stopifnot(boot[1] < sigma(fit), boot[2] > sigma(fit), identical(boot, confint(fit, "sigma", method = "boot", nsim = 60, seed = 3)))

# sections that no function of R asks; options that are none are errors
tests <- fastlmm_ask(fit, ranova = TRUE)
stopifnot(is.data.frame(tests), abs(tests$chisq[2] - 42.83681343) < 1e-4)  # lmerTest::ranova
both <- fastlmm_ask(fit, vpredict = list(list(label = "share", expr = "V1/(V1+V3)")), satterthwaite = TRUE)
stopifnot(abs(both$vpredict$estimate - 612.089941 / (612.089941 + 35.071661)) < 1e-5, abs(both$satterthwaite$df[["Days"]] - 17) < 1e-3)
for (wrong in expression(logLik(fit, REML = FALSE), predict(fit, interval = "confidence"), vcov(fit, ajusted = TRUE), residuals(fit, "deviance"),
                         predict(fit, re.form = ~ (1 | Subject)), confint(fit, "none"), anova(fit, lm(Reaction ~ Days, sleep)),
                         fastlmm(Reaction ~ Days + (1 | Subject), sleep, weights = 1:180), fastlmm_ask(fit), fastlmm_ask(fit, none = 1), step(fit, trace = 0),
                         anova(fit, fastlmm(Reaction ~ 1 + (1 | Subject), sleep), refit = FALSE)))
  if (is.na(message_of(eval(wrong)))) stop("no error: ", deparse(wrong))

# structures: matrices by term, and emmeans beside the means that the library itself makes
trial <- subset(table_of("trials"), trial %in% c("T1", "T2", "T3"))
several <- fastlmm(yield ~ trial + (1 | gen) + diag(0 + trial | gen), trial, residual = "units | trial")
stopifnot(identical(names(VarCorr(several)), c("gen", "gen.1")), nrow(VarCorr(several)$gen.1) == 3, is.na(sigma(several)))
stopifnot(grepl("studentized", message_of(residuals(several, "pearson"))), length(rstudent(several)) == nobs(several))
if (requireNamespace("emmeans", quietly = TRUE)) {
  beside <- function(fit, specs) {
    own <- as.data.frame(emmeans::emmeans(fit, as.formula(specs)))
    asked <- fastlmm_ask(fit, emmeans = list(list(specs = specs)))[[1]]$table
    stopifnot(nrow(own) == nrow(asked))
    for (name in c("emmean", "SE", "df")) stopifnot(max(abs(own[[name]] / asked[[name]] - 1)) < 1e-6)
  }
  beside(several, "~ trial")
  beside(by_env, "~ env")
  beside(coded, "~ env")
  beside(line, "~ env")
  beside(suppressWarnings(fastlmm(yield ~ env + (1 | gen), two, field_trend = "ar1 | env")), "~ env")
  beside(fastlmm(yield ~ gen + (1 | rep), field, field_trend = "ps(row, col)"), "~ gen")
  beside(suppressWarnings(fastlmm(yield ~ gen + (1 | rep), field, residual = "ar1(row):ar1(col)")), "~ gen")
  beside(suppressWarnings(fastlmm(yield ~ rep + (1 | vm(gen, A)), field, relationships = list(A = A))), "~ rep")
  beside(fastlmm(Reaction ~ Days + (1 | Subject), sleep, REML = FALSE), "~ 1")
}

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
