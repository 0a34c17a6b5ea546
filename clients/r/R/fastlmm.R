# Fit a linear mixed model; the arguments are those of `lmm` in Python.
fastlmm <- function(formula, data, REML = TRUE, weights = NULL, offset = NULL, contrasts = NULL,
                    residual = NULL, relationships = NULL, fixed_parameters = NULL, field_trend = NULL) {
  call <- match.call()
  formula <- as.formula(formula)
  data <- as.data.frame(data)
  weights <- column_asked(substitute(weights), data, parent.frame(), "weights")
  offset <- column_asked(substitute(offset), data, parent.frame(), "offset")
  names_read <- columns_read(formula, data, weights, offset, residual, trend_columns(field_trend))
  coding <- coding_of(formula, data, contrasts, trend_columns(field_trend, fixed_only = TRUE))
  request <- c(
    list(formula = unbox(text_of(formula))), json_table(data[names_read]),
    drop_null(list(
      method = if (REML) NULL else unbox("ML"), weights = maybe(weights), offset = maybe(offset),
      residual = maybe(residual), field_trend = maybe(field_trend), coding = as_object(coding$request),
      relationships = as_object(lapply(relationships, json_relationship)),
      fixed_parameters = as_object(lapply(fixed_parameters, json_held))
    ))
  )
  request <- drop_null(request)
  handle <- sprintf("r-%d-%d", Sys.getpid(), service$count)
  answer <- ask(c(request, list(keep = unbox(handle))))
  fit <- answer$fit
  warn_of(fit$warnings)
  # a field trend has terms that the formula of the answer spells out
  whole <- if (is.null(field_trend)) formula else as.formula(expression_of(fit$formula), environment(formula))
  fixed <- fixed_formula(whole)
  if (!is.null(offset)) # where R's functions look for it
    fixed[[length(fixed)]] <- call("+", fixed[[length(fixed)]], call("offset", parse(text = offset)[[1]]))
  frame <- complete_frame(data[names_read], answer$fit)
  structure(
    list(call = call, formula = formula, fixed = fixed, frame = frame, contrasts = coding$own, request = request,
         handle = handle, fit = fit, weights = weights, offset = offset),
    class = "fastlmm"
  )
}

maybe <- function(x) if (is.null(x)) NULL else unbox(x)

# A column of the data: its name as text, or as a name or an expression of columns, as lmer takes it.
column_asked <- function(e, data, caller, what) {
  if (is.null(e) || is.character(e)) return(e)
  used <- all.vars(e)
  if (length(used) && all(used %in% names(data))) return(text_of(e))
  value <- eval(e, caller)
  if (is.null(value) || (is.character(value) && length(value) == 1)) return(value)
  stop(what, ": name a column of the data", call. = FALSE)
}

# Coding of the factors of the fixed part: `contrasts` and what options(contrasts =) say where they are not R's own.
coding_of <- function(formula, data, contrasts, trend = NULL) {
  own <- lapply(contrasts, function(x) if (is.function(x)) stop("name contrasts by text, \"contr.sum\"") else x)
  usual <- getOption("contrasts")
  fixed <- all.vars(fixed_formula(formula)[[length(formula)]])
  fixed <- intersect(c(fixed, if (!is.null(trend)) all.vars(expression_of(trend))), names(data))
  for (name in setdiff(fixed, names(own))) {
    x <- data[[name]]
    coded <- if (is.ordered(x)) usual[[2]] else if (is.factor(x) || is.character(x)) usual[[1]] else next
    if (coded != (if (is.ordered(x)) "contr.poly" else "contr.treatment")) own[[name]] <- coded
  }
  list(own = own, request = lapply(own, function(x) if (is.character(x)) unbox(x) else json_matrix(x)))
}

json_relationship <- function(own) {
  if (is.data.frame(own)) {
    own <- json_table(own)$data
    return(list(type = unbox("pedigree"), data = own))
  }
  if (is.null(rownames(own))) stop("a relationship needs the names of its levels as row names", call. = FALSE)
  list(type = unbox("covariance"), levels = rownames(own), matrix = json_matrix(own))
}

json_held <- function(own) {
  if (is.list(own)) return(lapply(own, json_held))
  if (is.matrix(own)) json_matrix(own) else verbatim(numbers(own))
}

warn_of <- function(warnings) for (own in warnings) warning(own$message, call. = FALSE)

# Rows without missing values, as the fit used them.
complete_frame <- function(data, fit) {
  frame <- data[complete.cases(data), , drop = FALSE]
  if (nrow(frame) != fit$nobs) frame <- data
  frame[] <- lapply(frame, function(x) if (is.character(x)) factor(x) else if (is.factor(x)) droplevels(x) else x)
  frame
}

# Covariance of the coefficients that were kept, standard errors and df, by Kenward-Roger for REML.
inference <- function(object, ddf = NULL) {
  kept <- match(object$fit$vcov_names, object$fit$coef_names)
  K <- diag(length(object$fit$coef_names))[kept, , drop = FALSE]
  block <- drop_null(list(K = json_matrix(K), vcov = unbox(TRUE), ddf = maybe(ddf)))
  own <- ask_fit(object, list(linear_functions = list(block)))$linear_functions[[1]]
  V <- matrix(as.numeric(unlist(own$vcov)), length(kept), dimnames = rep(list(object$fit$vcov_names), 2))
  list(ddf = own$ddf, vcov = V, se = as.numeric(own$SE), df = as_df(own$df))
}

as_df <- function(x) {
  x <- unlist(lapply(x, function(own) if (is.null(own)) NA else own))
  suppressWarnings(as.numeric(x))
}
