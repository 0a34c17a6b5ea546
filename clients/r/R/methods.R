# For sessions without nlme and lme4; whichever of the packages is attached last, all fits are answered.
fixef <- function(object, ...)
  if (inherits(object, "fastlmm")) fixef.fastlmm(object, ...) else nlme::fixef(object, ...)
ranef <- function(object, ...)
  if (inherits(object, "fastlmm")) ranef.fastlmm(object, ...) else nlme::ranef(object, ...)
VarCorr <- function(x, ...)
  if (inherits(x, "fastlmm")) VarCorr.fastlmm(x, ...) else nlme::VarCorr(x, ...)

fixef.fastlmm <- function(object, add.dropped = FALSE, ...) {
  beta <- unlist(object$fit$beta)
  if (!add.dropped) return(beta)
  setNames(beta[object$fit$coef_names], object$fit$coef_names)
}

#' A data frame of predictions for every grouping factor, as lme4's; attribute "condVar" by condVar = TRUE.
ranef.fastlmm <- function(object, condVar = FALSE, ...) {
  answer <- ask_fit(object, list(ranef = unbox(TRUE)))$ranef
  lapply(answer, function(own) {
    frame <- function(values) {
      values <- matrix(as.numeric(unlist(values)), length(own$levels))
      as.data.frame(`dimnames<-`(values, list(own$levels, own$columns)))
    }
    out <- frame(own$values)
    if (condVar) attr(out, "condVar") <- frame(own$condvar_diag)
    out
  })
}

VarCorr.fastlmm <- function(x, sigma = 1, ...) {
  rows <- x$fit$varcomp
  text <- function(key) vapply(rows, function(r) if (is.null(r[[key]])) NA_character_ else r[[key]], "")
  number <- function(key) vapply(rows, function(r) if (is.null(r[[key]])) NA_real_ else as.numeric(r[[key]]), 0)
  structure(
    data.frame(grp = text("group"), var1 = text("var1"), var2 = text("var2"), vcov = number("vcov"),
               sdcor = number("sdcor")),
    class = c("VarCorr.fastlmm", "data.frame")
  )
}

print.VarCorr.fastlmm <- function(x, digits = max(3, getOption("digits") - 2), ...) {
  shown <- data.frame(Groups = x$grp, Name = ifelse(is.na(x$var1), "", x$var1), ` ` = ifelse(is.na(x$var2), "", x$var2),
                      Variance = format(x$vcov, digits = digits), `Std.Dev. or Corr` = format(x$sdcor, digits = digits),
                      check.names = FALSE)
  print(shown, row.names = FALSE)
  invisible(x)
}

#' Model-based covariance of the coefficients, or Kenward and Roger's.
vcov.fastlmm <- function(object, adjusted = FALSE, ...) {
  if (adjusted) return(inference(object, "kenward-roger")$vcov)
  names <- object$fit$vcov_names
  matrix(as.numeric(unlist(object$fit$vcov)), length(names), dimnames = list(names, names))
}

logLik.fastlmm <- function(object, ...)
  structure(object$fit$loglik, df = object$fit$npar, nobs = object$fit$nobs, nall = object$fit$nobs,
            class = "logLik")

nobs.fastlmm <- function(object, ...) object$fit$nobs
sigma.fastlmm <- function(object, ...) if (is.null(object$fit$sigma)) NA_real_ else object$fit$sigma
df.residual.fastlmm <- function(object, ...) object$fit$nobs - object$fit$npar
formula.fastlmm <- function(x, fixed.only = FALSE, ...) if (fixed.only) x$fixed else x$formula
terms.fastlmm <- function(x, ...) terms(x$fixed, data = x$frame)
model.frame.fastlmm <- function(formula, ...) formula$frame
model.matrix.fastlmm <- function(object, ...) {
  own <- object$contrasts[intersect(names(object$contrasts), all.vars(object$fixed))]
  model.matrix(delete.response(terms(object)), object$frame, contrasts.arg = if (length(own)) own)
}

fitted.fastlmm <- function(object, ...) predicted(object, NULL, TRUE, FALSE, FALSE)$prediction
residuals.fastlmm <- function(object, ...) {
  y <- eval(object$fixed[[2]], object$frame, environment(object$formula))
  setNames(as.numeric(y) - fitted(object), rownames(object$frame))
}

predicted <- function(object, newdata, random, new_levels, se) {
  block <- drop_null(list(
    newdata = if (!is.null(newdata)) json_table(newdata)$data, random = unbox(random),
    allow_new_levels = unbox(new_levels), se = unbox(se)
  ))
  own <- ask_fit(object, list(predict = list(block)))$predict[[1]]
  lapply(own[intersect(c("prediction", "se"), names(own))], as_df)
}

#' Predictions; re.form = NA leaves the random terms out, as lme4 does. With se.fit a list of fit and se.fit.
predict.fastlmm <- function(object, newdata = NULL, re.form = NULL, allow.new.levels = FALSE, se.fit = FALSE, ...) {
  if (!is.null(re.form) && !(length(re.form) == 1 && is.na(re.form)) && !identical(re.form, ~0))
    stop("re.form is NULL for all random terms, or NA for none", call. = FALSE)
  rows <- if (is.null(newdata)) rownames(object$frame) else rownames(newdata)
  if (!is.null(newdata)) {
    newdata <- as.data.frame(newdata)
    newdata <- newdata[intersect(names(newdata), names(object$frame))]
  }
  own <- predicted(object, newdata, is.null(re.form), allow.new.levels, se.fit)
  fit <- setNames(own$prediction, rows)
  if (se.fit) list(fit = fit, se.fit = setNames(own$se, rows)) else fit
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

#' Coefficients with standard errors and df by Kenward and Roger for REML, Satterthwaite for ML.
summary.fastlmm <- function(object, ddf = NULL, ...) {
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

#' Wald intervals of the fixed effects, by the t distribution with the df of the summary.
confint.fastlmm <- function(object, parm, level = 0.95, ...) {
  table <- summary(object, ...)$coefficients
  if (!missing(parm)) table <- table[parm, , drop = FALSE]
  half <- stats::qt(0.5 + level / 2, table[, "df"]) * table[, "Std. Error"]
  out <- cbind(table[, "Estimate"] - half, table[, "Estimate"] + half)
  colnames(out) <- sprintf("%g %%", 100 * c(0.5 - level / 2, 0.5 + level / 2))
  out
}

#' F tests of the terms of one model; likelihood ratio tests of several, fitted by ML as lme4 does.
anova.fastlmm <- function(object, ..., type = 3, ddf = NULL) {
  others <- Filter(function(x) inherits(x, "fastlmm"), list(...))
  if (length(others)) return(compare(c(list(object), others), as.character(match.call(expand.dots = FALSE)$...)))
  ddf <- if (is.null(ddf)) switch(object$fit$method, REML = "kenward-roger", ML = "satterthwaite", "residual") else ddf
  own <- ask_fit(object, list(anova = list(type = unbox(type), ddf = unbox(ddf))))$anova[[1]]
  number <- function(key) vapply(own, function(r) if (is.null(r[[key]])) NA_real_ else as_df(r[key]), 0)
  table <- data.frame(NumDF = number("numdf"), DenDF = number("dendf"), `F value` = number("F"),
                      `Pr(>F)` = number("p"), check.names = FALSE, row.names = vapply(own, `[[`, "", "term"))
  structure(table, heading = sprintf("Type %s tests (%s df)", c("I", "II", "III")[type], ddf),
            class = c("anova", "data.frame"))
}

by_ml <- function(object) {
  if (!object$REML || object$fit$method == "OLS") return(object$fit)
  ask(c(object$request, list(method = unbox("ML"))))$fit
}

compare <- function(models, names) {
  fits <- lapply(models, by_ml)
  npar <- vapply(fits, function(f) f$npar, 0)
  order <- order(npar)
  loglik <- vapply(fits, function(f) f$loglik, 0)[order]
  df <- c(NA, diff(npar[order]))
  chisq <- c(NA, 2 * diff(loglik))
  table <- data.frame(npar = npar[order], AIC = -2 * loglik + 2 * npar[order],
                      BIC = -2 * loglik + log(fits[[1]]$nobs) * npar[order], logLik = loglik,
                      deviance = -2 * loglik, Chisq = chisq, Df = df,
                      `Pr(>Chisq)` = pchisq(chisq, df, lower.tail = FALSE), check.names = FALSE)
  rows <- vapply(models, function(m) text_of(m$formula), "")[order]
  rownames(table) <- make.unique(rows)
  structure(table, heading = "Models fitted by maximum likelihood:", class = c("anova", "data.frame"))
}
