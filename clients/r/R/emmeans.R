# What emmeans asks of a model. Standard errors and df of all rows of a table come in one answer (`estHook`), with
# the covariance of Kenward and Roger or by the method asked for.

DDF <- c("kenward-roger", "satterthwaite", "residual", "asymptotic")

recover_data.fastlmm <- function(object, ...) {
  emmeans::recover_data(object$call, delete.response(terms(object)), attr(object$frame, "na.action"),
                        frame = object$frame, ...)
}

emm_basis.fastlmm <- function(object, trms, xlev, grid, mode = default_ddf(object), lmer.df = mode, ...) {
  mode <- match.arg(tolower(lmer.df), DDF)
  own <- object$contrasts[intersect(names(object$contrasts), all.vars(object$fixed))]
  frame <- model.frame(trms, grid, na.action = stats::na.pass, xlev = xlev)
  X <- model.matrix(trms, frame, contrasts.arg = if (length(own)) own)
  known <- object$fit$coef_names
  if (!setequal(colnames(X), known))
    stop("the columns of the fixed part are named ", paste(head(setdiff(known, colnames(X)), 3), collapse = ", "),
         " in the fit and ", paste(head(setdiff(colnames(X), known), 3), collapse = ", "), " in R", call. = FALSE)
  X <- X[, known, drop = FALSE]
  bhat <- fixef(object, add.dropped = TRUE)
  basis <- if (anyNA(bhat)) estimability::nonest.basis(model.matrix(object)[, known, drop = FALSE])
           else estimability::all.estble
  V <- inference(object, mode)$vcov
  # of the fit what a question needs, not its data once more in every table
  asked <- list(object = object[c("handle", "request", "fit")], mode = mode, figures = emm_figures)
  dffun <- function(k, dfargs) dfargs$figures(rbind(k), dfargs)$df  # emmeans takes its environment away
  attr(dffun, "mesg") <- mode
  list(X = X, bhat = bhat, nbasis = basis, V = V, dffun = dffun, dfargs = asked,
       misc = list(estHook = est_hook), model.matrix = NULL)
}

default_ddf <- function(object)
  switch(object$fit$method, REML = "kenward-roger", ML = "satterthwaite", OLS = "residual")

# Figures of rows k of the coefficients that were kept.
emm_figures <- function(k, dfargs) {
  fit <- dfargs$object$fit
  K <- matrix(0, nrow(k), length(fit$coef_names))
  K[, match(fit$vcov_names, fit$coef_names)] <- k
  block <- list(K = json_matrix(K), ddf = unbox(dfargs$mode))
  own <- ask_fit(dfargs$object, list(linear_functions = list(block)))$linear_functions[[1]]
  list(se = as_df(own$SE), df = as_df(own$df))
}

# estimate, SE and df of all rows of an emmGrid
est_hook <- function(object, do.se = TRUE, tol = 1e-8, ...) {
  used <- object@misc$display
  linfct <- if (is.null(used)) object@linfct else object@linfct[used, , drop = FALSE]
  active <- which(!is.na(object@bhat))
  fine <- apply(linfct, 1, function(x) !anyNA(x) && estimability::is.estble(x, object@nbasis, tol))
  out <- matrix(NA_real_, nrow(linfct), 3)
  rows <- linfct[fine, active, drop = FALSE]
  out[fine, 1] <- as.vector(rows %*% object@bhat[active])
  if (any(fine) && do.se) {
    # a covariance that the user gave stays in force
    out[fine, 2] <- sqrt(pmax(rowSums((rows %*% object@V) * rows), 0))
    out[fine, 3] <- emm_figures(rows, object@dfargs)$df
  } else if (!do.se) out[fine, 2:3] <- 0
  if (!is.null(object@grid$.offset.))
    out[, 1] <- out[, 1] + if (is.null(used)) object@grid$.offset. else object@grid$.offset.[used]
  out
}
