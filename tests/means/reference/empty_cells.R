# Reference tables of emmeans for tests/means/test_empty_cells.py: adjusted contrasts where two cells of a two-way
# table hold no data.  Run from this folder: Rscript empty_cells.R > empty_cells.json
suppressPackageStartupMessages({library(lme4); library(emmeans); library(jsonlite)})
emm_options(msg.interaction = FALSE, msg.nesting = FALSE, lmer.df = "kenward-roger")
d <- read.csv("../../../data/oats.csv", stringsAsFactors = TRUE)
out <- with(d, V %in% c("Victory", "Marvellous") & N == "N0.2cwt")
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-11, maxfun = 1e5), calc.derivs = FALSE)
m <- suppressMessages(lmer(Y ~ V * N + (1 | B / V), d[!out, ], control = tight))
rows <- function(specs, method, adjust) {
  s <- as.data.frame(summary(contrast(emmeans(m, specs, nesting = NULL), method, adjust = adjust), infer = c(TRUE, TRUE)))
  s <- s[, c("estimate", "SE", "df", "lower.CL", "upper.CL", "p.value")]
  names(s) <- c("estimate", "se", "df", "lower", "upper", "p")
  s
}
cases <- list()
for (specs in c("~ N | V", "~ N")) {
  for (adjust in c("tukey", "sidak", "bonferroni", "holm", "hommel", "fdr", "BY"))
    cases[[length(cases) + 1]] <- list(specs = specs, method = "pairwise", adjust = adjust, rows = rows(formula(specs), "pairwise", adjust))
  for (adjust in c("dunnettx", "hochberg"))
    cases[[length(cases) + 1]] <- list(specs = specs, method = "trt.vs.ctrl", adjust = adjust, rows = rows(formula(specs), "trt.vs.ctrl", adjust))
}
versions <- paste0(R.version.string, ", lme4 ", packageVersion("lme4"), ", emmeans ", packageVersion("emmeans"), ", pbkrtest ", packageVersion("pbkrtest"))
cat(toJSON(list(versions = versions, cases = cases), auto_unbox = TRUE, digits = 15, na = "null", dataframe = "columns"))
