# Reference of tests/design: R's model.matrix, lme4's random terms and lmerTest's F tests on a constructed table.
# Usage: Rscript generate.R   (writes table.csv, matrices.json, random.json, tests.json beside itself)
suppressMessages({library(jsonlite); library(lme4); library(lmerTest)})
set.seed(20)
d <- expand.grid(a = c("a1", "a2", "a3"), b = c("lo", "hi"), g = sprintf("g%d", 1:5), r = 1:2)
d <- d[!(d$a == "a2" & d$b == "hi"), ]            # an empty cell
d <- d[-c(3, 11, 27), ]
d$x <- round(rnorm(nrow(d)), 3); d$year <- 1998 + (seq_len(nrow(d)) * 7) %% 5
d$y <- round(10 + as.integer(factor(d$g)) + 2 * (d$b == "hi") + d$x + rnorm(nrow(d)), 3)
d <- d[, c("y", "a", "b", "g", "r", "x", "year")]
write.csv(d, "table.csv", row.names = FALSE, quote = FALSE)
d <- read.csv("table.csv", stringsAsFactors = TRUE)
d$b <- factor(d$b, levels = c("lo", "hi"))
versions <- list(R = as.character(getRversion()), lme4 = as.character(packageVersion("lme4")),
                 lmerTest = as.character(packageVersion("lmerTest")))

fixed <- c("y ~ a*b", "y ~ 0 + a + b", "y ~ a:b", "y ~ b + a:b", "y ~ a/x", "y ~ (a + b + g)^2 - a:g", "y ~ a:x + b",
  "y ~ C(a, contr.sum)*b", "y ~ C(a, contr.helmert) + C(g, contr.poly)", "y ~ poly(x, 2)*b", "y ~ I(x^2) + exp(-x)",
  "y ~ factor(year)*x", "y ~ a*factor(r) - factor(r)", "y ~ b %in% a", "y ~ x*year + I(year^2)", "y ~ scale(x) - 1",
  "y ~ 0 + x + a + b", "y ~ x*a*b - x:a:b", "y ~ g + a + b + a:g", "y ~ log(x + 10, base = 2) + offset(year)",
  "y ~ b + I(x > 0)", "y ~ year + factor(year) + a", "y ~ (a + b)^2 + (x + a)^2", "y ~ a*b*x")
out <- lapply(fixed, function(f) {
  X <- model.matrix(as.formula(f), d); q <- qr(X, tol = 1e-7)
  drop <- if (q$rank < ncol(X)) colnames(X)[sort(q$pivot[(q$rank + 1):ncol(X)])] else character(0)
  list(formula = f, names = as.list(colnames(X)), labels = as.list(attr(terms(as.formula(f)), "term.labels")),
       dropped = as.list(drop), values = unname(split(unname(X), row(X))))
})
write_json(list(versions = versions, cases = out), "matrices.json", digits = 10, auto_unbox = TRUE)

random <- c("y ~ x + (1|g/a/b)", "y ~ (x||g)", "y ~ (1|g) + (0+b|g) + (1|a)", "y ~ (1|r) + (1|a) + (1|year) + (1|b)",
  "y ~ (0+b|g)", "y ~ (x*b|a)", "y ~ (1|a:g) + (1|year)", "y ~ (1|b) + (1|r)", "y ~ (poly(x,2)|g)")
ignore <- lmerControl(check.nobs.vs.nRE = "ignore", check.nobs.vs.nlev = "ignore")
out <- lapply(random, function(f) {
  t <- lFormula(as.formula(f), d, control = ignore)$reTrms
  lev <- lapply(attr(t$flist, "assign"), function(i) as.list(levels(t$flist[[i]])))
  w <- sin(seq_len(nrow(d)))
  list(formula = f, groups = as.list(names(t$cnms)), columns = lapply(unname(t$cnms), as.list), levels = lev,
       ztw = as.vector(t$Zt %*% w))
})
write_json(list(versions = versions, cases = out), "random.json", digits = 10, auto_unbox = TRUE)

tested <- c("y ~ a + b*x + (1|g)", "y ~ a*b + (1|g)", "y ~ b*x*factor(r) + (1|g)", "y ~ a*x + b + (1|g)",
  "y ~ C(a, contr.sum)*x + b + (1|g)", "y ~ b:factor(r) + x + (1|g)", "y ~ a*b + factor(r)*b + (1|g)")
out <- lapply(tested, function(f) {
  m <- lmer(as.formula(f), d)
  rows <- lapply(1:3, function(t) { a <- anova(m, type = t)
    list(term = as.list(rownames(a)), num = as.list(a$NumDF), F = as.list(a$`F value`)) })
  list(formula = f, names = as.list(names(fixef(m))), beta = as.list(unname(fixef(m))),
       vcov = unname(split(as.matrix(vcov(m)), row(vcov(m)))), types = rows)
})
write_json(list(versions = versions, cases = out), "tests.json", digits = 12, auto_unbox = TRUE)
