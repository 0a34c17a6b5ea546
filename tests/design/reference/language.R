# Reference of tests/design/test_language.py: R's model.matrix for the functions of the formula language.
# Usage: Rscript language.R   (writes language.csv and language.json beside itself)
suppressMessages({library(jsonlite); library(splines)})
set.seed(41)
n <- 60
d <- data.frame(phase = rep(c("pre", "post", "fup"), 20), dose = rep(c(1, 10, 2, 5), 15), x = round(rnorm(n, 5, 2), 3),
                z = round(runif(n, 0, 10), 3), site = rep(c("N", "S"), each = 30), y = round(rnorm(n), 3))
d$w <- d$x; d$w[c(4, 17)] <- NA
d$T <- round(runif(n, 1, 3), 3)
d$pi <- round(runif(n, 3, 4), 3)
d$F <- rep(c("u", "v", "u", "v", "v"), 12)
write.csv(d, "language.csv", row.names = FALSE, quote = FALSE)
d <- read.csv("language.csv", colClasses = c(F = "character"))

formulas <- c(
  "y ~ factor(phase, levels = c('pre', 'post', 'fup'))", "y ~ factor(phase, levels = c('pre', 'post'))",
  "y ~ factor(dose, labels = c('a', 'b', 'c', 'd'))", "y ~ factor(dose, levels = c(10, 1, 2, 5), labels = c('t', 'o', 'w', 'f'))",
  "y ~ factor(dose, levels = c(1, 2, 5, 10), labels = c('low', 'low', 'high', 'high'))", "y ~ factor(dose, labels = 'd')",
  "y ~ ordered(phase, levels = c('pre', 'post', 'fup'))", "y ~ ordered(dose)*site", "y ~ factor(dose, ordered = TRUE)",
  "y ~ factor(phase, exclude = 'fup')", "y ~ relevel(factor(phase), ref = 'pre')", "y ~ relevel(factor(dose), ref = 3)",
  "y ~ relevel(factor(phase), 'post')*x", "y ~ cut(x, c(-Inf, 4, 6, Inf))", "y ~ cut(z, breaks = c(0, 2.5, 5, 10), include.lowest = TRUE)",
  "y ~ cut(z, c(0, 2, 5, 10), right = FALSE)", "y ~ cut(x, 3)", "y ~ cut(z, c(0, 5, 10), labels = c('low', 'high'))",
  "y ~ cut(z, c(0, 5, 10), labels = FALSE)", "y ~ cut(z, seq(0, 10, by = 2.5))", "y ~ cut(z, 0:2 * 5)",
  "y ~ cut(z, c(0, 2, 5, 10), ordered_result = TRUE)", "y ~ cut(z, c(0, 3.33333, 10))",
  "y ~ ifelse(x > 5, 1, 0)", "y ~ ifelse(x > 5, z, x)", "y ~ ifelse(phase == 'pre', 'first', 'later')",
  "y ~ ifelse(is.na(w), 0, w)", "y ~ is.na(w) + x", "y ~ ifelse(x > 5 & z < 7, x, -1)", "y ~ I(x > 5 | !(z < 7))",
  "y ~ interaction(phase, site)", "y ~ interaction(site, phase, sep = '_', lex.order = TRUE)", "y ~ interaction(dose, site)",
  "y ~ as.integer(x) + as.integer(x > 5)", "y ~ I(x - mean(x))", "y ~ I((x - mean(x))/sd(x))", "y ~ I(w - mean(w, na.rm = TRUE))",
  "y ~ I(z/max(z)) + I(x - median(x))", "y ~ I(x/sum(z)) + I(x - min(x)) + I(x/var(z))", "y ~ I(dose %in% c(1, 2)) + I(phase %in% c('pre', 'fup'))",
  "y ~ ns(x, df = 3)", "y ~ ns(x, knots = c(4, 6))", "y ~ ns(x, knots = c(4, 5.5), intercept = TRUE) - 1", "y ~ ns(z, df = 4)*site",
  "y ~ ns(x, df = 2, Boundary.knots = c(2, 8))", "y ~ bs(x, df = 5)", "y ~ bs(x, knots = c(4, 5, 6))", "y ~ bs(x, df = 4, degree = 2)",
  "y ~ bs(z, knots = c(2.5, 5), degree = 1)", "y ~ bs(x, df = 6, intercept = TRUE) - 1", "y ~ bs(z, 4)", "y ~ poly(x, degree = 3)",
  "y ~ poly(x, 2, raw = TRUE)", "y ~ scale(x, center = FALSE)", "y ~ scale(x, scale = FALSE) + scale(z, center = 5, scale = 2)",
  "y ~ round(x, digits = 1) + round(z, 0)", "y ~ log(x + 10, base = 10) + log(z + 1, 2)", "y ~ pmin(x, z) + pmax(x, 5)",
  "y ~ trunc(x) + plogis(z) + sinh(x/10)", "y ~ T + pi", "y ~ log(T) + sqrt(pi)", "y ~ F*log(T)", "y ~ I(x*pi) + I(T > 2)",
  "y ~ C(factor(dose), contr.poly)", "y ~ (x + z)^2 - x:z", "y ~ . - F", "y ~ (x + z + T)^2")
out <- lapply(formulas, function(f) {
  frame <- model.frame(as.formula(f), d)
  X <- model.matrix(as.formula(f), frame)
  list(formula = f, names = as.list(colnames(X)), rows = as.list(as.integer(rownames(frame))),
       values = unname(split(unname(X), row(X))))
})
beyond <- c("y ~ ns(x, df = 3)", "y ~ bs(x, knots = c(4, 6))", "y ~ bs(z, df = 4, degree = 2)", "y ~ ns(z, knots = c(3, 6), Boundary.knots = c(1, 9))",
            "y ~ poly(x, 3)", "y ~ scale(z)")
new <- data.frame(x = c(-3, 0.5, 5, 12, 20), z = c(-4, 0, 5, 11, 15))
outside <- lapply(beyond, function(f) {
  m <- lm(as.formula(f), d)
  X <- suppressWarnings(model.matrix(delete.response(terms(m)), model.frame(delete.response(terms(m)), new)))
  list(formula = f, prediction = as.list(unname(suppressWarnings(predict(m, new)))), values = unname(split(unname(X), row(X))))
})
write_json(list(versions = list(R = as.character(getRversion())), cases = out, new = new, beyond = outside), "language.json",
           digits = 12, auto_unbox = TRUE)
