# Tests and intervals: of coefficients, of terms, of models.

# Model-based covariance of the coefficients, or Kenward and Roger's.
vcov.fastlmm <- function(object, adjusted = FALSE, ...) {
  nothing_else(...)
  if (adjusted) return(inference(object, "kenward-roger")$vcov)
  names <- object$fit$vcov_names
  matrix(as.numeric(unlist(object$fit$vcov)), length(names), dimnames = list(names, names))
}

print.fastlmm <- function(x, digits = max(3, getOption("digits") - 3), ...) {
  method <- switch(x$fit$method, REML = "REML", ML = "maximum likelihood", OLS = "least squares")
  cat("Linear mixed model fit by ", method, " ['fastlmm']\nFormula: ", text_of(x$formula), "\n", sep = "")
  cat("-2 log-likelihood: ", format(x$fit$criterion, digits = digits + 3), "\n", sep = "")
  print(VarCorr(x), digits = digits)
  cat("Number of obs: ", x$fit$nobs, "\nFixed effects:\n", sep = "")
  print(fixef(x), digits = digits)
  invisible(x)
}

summary.fastlmm <- function(object, ddf = NULL, ...) {
  nothing_else(...)
  own <- inference(object, ddf)
  beta <- fixef(object)
  t <- beta / own$se
  table <- cbind(Estimate = beta, `Std. Error` = own$se, df = own$df, `t value` = t,
                 `Pr(>|t|)` = 2 * pt(-abs(t), own$df))
  structure(list(fit = object, coefficients = table, ddf = own$ddf, varcor = VarCorr(object),
                 vcov = own$vcov), class = "summary.fastlmm")
}

print.summary.fastlmm <- function(x, digits = max(3, getOption("digits") - 3), ...) {
  cat("Formula: ", text_of(x$fit$formula), "\n", x$fit$fit$method, " criterion: ",
      format(x$fit$fit$criterion, digits = digits + 3), "\n\nRandom effects:\n", sep = "")
  print(x$varcor, digits = digits)
  cat("Number of obs: ", x$fit$fit$nobs, "\n\nFixed effects (", x$ddf, " df):\n", sep = "")
  printCoefmat(x$coefficients, digits = digits, zap.ind = 3, P.values = TRUE, has.Pvalue = TRUE)
  invisible(x)
}

confint.fastlmm <- function(object, parm, level = 0.95, method = c("Wald", "profile", "boot"), nsim = 1000,
                            seed = NULL, ddf = NULL, ...) {
  nothing_else(...)
  method <- match.arg(method)
  limits <- if (method == "Wald") wald_limits(object, level, ddf) else
    asked_limits(object, if (method == "boot") "bootstrap" else method, level, nsim, seed)
  colnames(limits) <- sprintf("%g %%", 100 * c(0.5 - level / 2, 0.5 + level / 2))
  if (missing(parm)) return(limits)
  if (is.character(parm) && length(unknown <- setdiff(parm, rownames(limits))))
    stop("parm: there is no ", unknown[1], "; there are ", paste(rownames(limits), collapse = ", "), call. = FALSE)
  limits[parm, , drop = FALSE]
}

# Of the fixed effects, by the t distribution with the df of the summary.
wald_limits <- function(object, level, ddf) {
  table <- summary(object, ddf = ddf)$coefficients
  half <- stats::qt(0.5 + level / 2, table[, "df"]) * table[, "Std. Error"]
  cbind(table[, "Estimate"] - half, table[, "Estimate"] + half)
}

# Of all parameters, those of the variances as standard deviations and correlations.
asked_limits <- function(object, method, level, nsim, seed) {
  draws <- if (method == "bootstrap") list(n = unbox(nsim), seed = unbox(seed_of(seed)))
  block <- c(list(method = unbox(method), level = unbox(level)), draws)
  rows <- ask_fit(object, list(conf_int = block))$conf_int
  limit <- function(key) as_df(lapply(rows, `[[`, key))
  matrix(c(limit("lower"), limit("upper")), ncol = 2, dimnames = list(vapply(rows, `[[`, "", "parameter"), NULL))
}

# A seed that set.seed() determines, where none is given.
seed_of <- function(seed) if (is.null(seed)) sample.int(.Machine$integer.max, 1L) else as.integer(seed)

# F tests of the terms of one model; likelihood ratio tests of several.
anova.fastlmm <- function(object, ..., type = 3, ddf = NULL, refit = TRUE) {
  others <- list(...)
  if (!all(vapply(others, inherits, NA, "fastlmm"))) stop("anova compares models of fastlmm", call. = FALSE)
  if (length(others)) return(compare(c(list(object), others), refit))
  ddf <- if (is.null(ddf)) default_ddf(object) else match.arg(tolower(ddf), DDF)
  own <- ask_fit(object, list(anova = list(type = unbox(type), ddf = unbox(ddf))))$anova[[1]]
  number <- function(key) as_df(lapply(own, `[[`, key))
  table <- data.frame(NumDF = number("numdf"), DenDF = number("dendf"), `F value` = number("F"),
                      `Pr(>F)` = number("p"), check.names = FALSE, row.names = vapply(own, `[[`, "", "term"))
  structure(table, heading = sprintf("Type %s tests (%s df)", c("I", "II", "III")[type], ddf),
            class = c("anova", "data.frame"))
}

by_ml <- function(object) {
  if (object$fit$method != "REML") return(object$fit)
  ask(c(object$request, list(method = unbox("ML"))))$fit
}

compare <- function(models, refit = TRUE) {
  fits <- lapply(models, if (refit) by_ml else function(own) own$fit)
  if (length(unique(vapply(fits, function(f) f$nobs, 0))) > 1)
    stop("the models are fitted to different numbers of rows", call. = FALSE)
  if (any(vapply(fits, function(f) f$method == "REML", NA)) &&
      length(unique(lapply(models, function(m) sort(m$fit$coef_names)))) > 1)
    stop("REML likelihoods of models with different fixed effects do not compare; leave refit = TRUE", call. = FALSE)
  npar <- vapply(fits, function(f) f$npar, 0)
  order <- order(npar)
  loglik <- vapply(fits, function(f) f$loglik, 0)[order]
  df <- c(NA, diff(npar[order]))
  chisq <- c(NA, 2 * diff(loglik))
  table <- data.frame(npar = npar[order], AIC = -2 * loglik + 2 * npar[order],
                      BIC = -2 * loglik + log(fits[[1]]$nobs) * npar[order], logLik = loglik,
                      deviance = -2 * loglik, Chisq = chisq, Df = df,
                      `Pr(>Chisq)` = ifelse(df > 0, pchisq(chisq, df, lower.tail = FALSE), NA), check.names = FALSE)
  rows <- vapply(models, function(m) text_of(m$formula), "")[order]
  rownames(table) <- make.unique(rows)
  how <- if (refit) "Models fitted by maximum likelihood:" else "Models as they were fitted:"
  structure(table, heading = how, class = c("anova", "data.frame"))
}
