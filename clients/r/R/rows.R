# Figures of rows: predictions, residuals, diagnostics, new responses.

fitted.fastlmm <- function(object, ...) {
  nothing_else(...)
  setNames(predicted(object, NULL, TRUE, FALSE, FALSE)$prediction, rownames(object$frame))
}

residuals.fastlmm <- function(object, type = c("response", "pearson", "studentized"), ...) {
  nothing_else(...)
  type <- match.arg(type)
  if (type == "studentized") return(diagnostic(object, "studentized"))
  y <- eval(object$fixed[[2]], object$frame, environment(object$formula))
  out <- setNames(as.numeric(y) - fitted(object), rownames(object$frame))
  if (type == "response") return(out)
  if (!is.null(object$request$residual))
    stop("type = \"pearson\" is for independent residuals; with residual = take \"studentized\"", call. = FALSE)
  out * sqrt(weights(object))
}

diagnostic <- function(object, column) {
  rows <- ask_fit(object, list(diagnostics = unbox(TRUE)))$diagnostics
  setNames(as_df(lapply(rows, `[[`, column)), rownames(object$frame))
}

hatvalues.fastlmm <- function(model, fullHatMatrix = FALSE, ...) {
  nothing_else(...)
  if (fullHatMatrix) stop("only the diagonal of the hat matrix is computed", call. = FALSE)
  diagnostic(model, "leverage")
}
cooks.distance.fastlmm <- function(model, ...) {
  nothing_else(...)
  diagnostic(model, "cooks_d")
}
rstudent.fastlmm <- function(model, ...) {
  nothing_else(...)
  diagnostic(model, "studentized")
}

predicted <- function(object, newdata, random, new_levels, se, residual = FALSE) {
  offset <- if (!is.null(newdata) && !is.null(object$offset)) eval(parse(text = object$offset)[[1]], newdata)
  block <- drop_null(list(
    newdata = if (!is.null(newdata)) json_table(newdata)$data,
    random = if (is.logical(random)) unbox(random) else random,
    offset = if (!is.null(offset)) json_numbers(as.numeric(offset), object$offset),
    allow_new_levels = unbox(new_levels), se = unbox(se), residual = if (residual) unbox(TRUE)
  ))
  own <- ask_fit(object, list(predict = list(block)))$predict[[1]]
  lapply(own[intersect(c("prediction", "se"), names(own))], as_df)
}

predict.fastlmm <- function(object, newdata = NULL, re.form = NULL, allow.new.levels = FALSE, se.fit = FALSE,
                            na.action = stats::na.pass, residual = FALSE, ...) {
  nothing_else(...)
  random <- random_asked(object, re.form)
  if (is.null(newdata)) {
    rows <- rownames(object$frame)
    own <- predicted(object, NULL, random, allow.new.levels, se.fit, residual)
  } else {
    newdata <- as.data.frame(newdata)
    newdata <- na.action(newdata[intersect(names(newdata), predictors(object, random, residual))])
    rows <- rownames(newdata)
    own <- predicted_where_known(object, newdata, random, allow.new.levels, se.fit, residual)
  }
  fit <- setNames(own$prediction, rows)
  if (se.fit) list(fit = fit, se.fit = setNames(own$se, rows)) else fit
}

# Columns of new data that are read: none that only the response or the weights stand on.
predictors <- function(object, random, residual) {
  fixed <- all.vars(object$fixed[[length(object$fixed)]])
  if (isFALSE(random) && !residual) return(fixed)
  weights <- if (!is.null(object$weights)) all.vars(parse(text = object$weights)[[1]])
  others <- setdiff(c(all.vars(object$formula[[2]]), weights), all.vars(object$formula[[length(object$formula)]]))
  union(fixed, setdiff(names(object$frame), others))
}

# Rows with missing values are not sent; their predictions are NA.
predicted_where_known <- function(object, newdata, random, new_levels, se, residual) {
  known <- if (length(newdata)) complete.cases(newdata) else rep(TRUE, nrow(newdata))
  out <- list(prediction = rep(NA_real_, nrow(newdata)), se = rep(NA_real_, nrow(newdata)))
  if (!any(known)) return(out)
  own <- predicted(object, newdata[known, , drop = FALSE], random, new_levels, se, residual)
  for (name in names(own)) out[[name]][known] <- own[[name]]
  out
}

# TRUE, FALSE, or names of grouping factors, for re.form as lme4 has it.
random_asked <- function(object, re.form) {
  if (is.null(re.form)) return(TRUE)
  if (!inherits(re.form, "formula")) {
    if (length(re.form) == 1 && is.na(re.form)) return(FALSE)
    stop("re.form is NULL for all random terms, NA for none, or a formula of some, ~(1 | g)", call. = FALSE)
  }
  wanted <- bar_terms(re.form[[length(re.form)]])
  if (!length(wanted)) return(FALSE)
  known <- bar_terms(object$formula[[length(object$formula)]])
  if (length(unknown <- setdiff(wanted, known)))
    stop("re.form: the model has no term (", unknown[1], "); it has ", paste0("(", known, ")", collapse = ", "),
         call. = FALSE)
  groups <- unique(sub("^.*\\| ", "", wanted))
  together <- known[sub("^.*\\| ", "", known) %in% groups]
  if (length(left <- setdiff(together, wanted)))
    stop("re.form: (", left[1], ") has the grouping factor of another term and is predicted with it; name both",
         call. = FALSE)
  groups
}

simulate.fastlmm <- function(object, nsim = 1, seed = NULL, use.u = FALSE, ...) {
  nothing_else(...)
  seed <- seed_of(seed)
  asked <- list(n = unbox(nsim), seed = unbox(seed), conditional = unbox(use.u))
  drawn <- ask_fit(object, list(simulate = asked))$simulate$responses
  drawn <- if (is.matrix(drawn)) t(drawn) else matrix(unlist(drawn), ncol = nsim)
  dimnames(drawn) <- list(rownames(object$frame), paste0("sim_", seq_len(nsim)))
  structure(as.data.frame(drawn), seed = seed)
}

plot.fastlmm <- function(x, ...) {
  studentized <- residuals(x, "studentized")
  graphics::plot(fitted(x), studentized, xlab = "Fitted values", ylab = "Studentized residuals", ...)
  graphics::abline(h = 0, lty = 2)
  invisible(x)
}
