# What R asks any model: its likelihood, its size, its formula and matrices.

# Options that a method has not are an error, not passed over: REML = FALSE of logLik would be another figure.
nothing_else <- function(...) {
  given <- names(list(...))
  if (...length()) stop("unused argument: ", if (is.null(given)) "without a name" else given[1], call. = FALSE)
}

logLik.fastlmm <- function(object, ...) {
  nothing_else(...)
  structure(object$fit$loglik, df = object$fit$npar, nobs = object$fit$nobs, nall = object$fit$nobs,
            class = "logLik")
}

deviance.fastlmm <- function(object, ...) {
  nothing_else(...)
  object$fit$criterion
}

# Of the fit by ML, as lme4's: models with other fixed effects are compared by it.
extractAIC.fastlmm <- function(fit, scale = 0, k = 2, ...) {
  # stats::step puts the terms of the fixed part in the place of the formula, and would go on without random effects
  if (inherits(fit$formula, "terms")) stop("step() does not know random effects; use drop1() and update()", call. = FALSE)
  own <- by_ml(fit)
  c(own$npar, -2 * own$loglik + k * own$npar)
}

# Terms of a field trend would come back with it.
drop1.fastlmm <- function(object, scope, ...) {
  if (missing(scope)) {
    trend <- trend_columns(object$request$field_trend, fixed_only = TRUE)
    trend <- if (!is.null(trend)) all.vars(expression_of(trend))
    scope <- drop.scope(object)
    scope <- scope[!vapply(scope, function(term) all(all.vars(expression_of(term)) %in% trend), NA)]
  }
  NextMethod(scope = scope)
}

nobs.fastlmm <- function(object, ...) object$fit$nobs
sigma.fastlmm <- function(object, ...) if (is.null(object$fit$sigma)) NA_real_ else object$fit$sigma
df.residual.fastlmm <- function(object, ...) object$fit$nobs - object$fit$npar
family.fastlmm <- function(object, ...) stats::gaussian()
formula.fastlmm <- function(x, fixed.only = FALSE, ...) if (fixed.only) x$fixed else x$formula
terms.fastlmm <- function(x, ...) fixed_terms(x$fixed, x$frame)
model.frame.fastlmm <- function(formula, ...) formula$frame
model.matrix.fastlmm <- function(object, ...) fixed_matrix(object$fixed, object$frame, object$contrasts)

# Prior weights of the rows.
weights.fastlmm <- function(object, ...) {
  nothing_else(...)
  if (is.null(object$weights)) return(rep(1, nobs(object)))
  as.numeric(eval(parse(text = object$weights)[[1]], object$frame))
}

isREML.fastlmm <- function(x, ...) x$fit$method == "REML"
isLMM.fastlmm <- function(x, ...) TRUE
ngrps.fastlmm <- function(object, ...) vapply(ranef(object, condVar = FALSE), nrow, 0L)
