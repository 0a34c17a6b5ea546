# The fixed part of a formula in lme4's notation, which R's own functions understand.

has_bar <- function(e) is.call(e) && (identical(e[[1]], quote(`|`)) || identical(e[[1]], quote(`||`)) ||
                                        any(vapply(as.list(e)[-1], has_bar, NA)))

SPLINES <- c("spl", "ps")
is_random <- function(e) has_bar(e) || (is.call(e) && as.character(e[[1]])[1] %in% SPLINES)

# The expression without its random terms; NULL when nothing is left.
without_random <- function(e) {
  if (is_random(e) && !(is.call(e) && as.character(e[[1]])[1] %in% c("+", "-"))) return(NULL)
  if (!is.call(e) || !(as.character(e[[1]])[1] %in% c("+", "-")) || length(e) < 3) return(e)
  left <- without_random(e[[2]])
  right <- without_random(e[[3]])
  if (is.null(right)) return(left)
  if (is.null(left)) return(if (identical(e[[1]], quote(`+`))) right else call("-", right))
  call(as.character(e[[1]]), left, right)
}

fixed_formula <- function(formula) {
  right <- without_random(formula[[length(formula)]])
  formula[[length(formula)]] <- if (is.null(right)) 1 else right
  formula
}

# Random terms as text, "1 | g", nested groups multiplied out as lme4 does: (1 | a/b) is (1 | a) and (1 | a:b).
bar_terms <- function(e) {
  if (!is.call(e)) return(NULL)
  if (!(identical(e[[1]], quote(`|`)) || identical(e[[1]], quote(`||`))))
    return(unique(unlist(lapply(as.list(e)[-1], bar_terms))))
  groups <- nested_groups(e[[3]])
  paste(text_of(e[[2]]), "|", groups)
}

nested_groups <- function(e) {
  if (!is.call(e) || !identical(e[[1]], quote(`/`))) return(text_of(e))
  outer <- nested_groups(e[[2]])
  c(outer, paste(text_of(e[[3]]), outer[length(outer)], sep = ":"))
}

# The fixed part with what a field trend or a spline adds to it: its coefficients are named by columns of the data.
completed_fixed <- function(fixed, frame, contrasts, names) {
  missing <- setdiff(names, colnames(fixed_matrix(fixed, frame, contrasts)))
  added <- tryCatch(lapply(missing, function(name) parse(text = name)[[1]]), error = function(e) NULL)
  numeric <- vapply(frame, is.numeric, NA)
  if (!length(added) || !all(unlist(lapply(added, all.vars)) %in% base::names(frame)[numeric])) return(fixed)
  for (own in added) fixed[[length(fixed)]] <- call("+", fixed[[length(fixed)]], own)
  fixed
}

# Terms with what the columns of bases are made of: poly(x, 2) of new rows is that of the fit.
fixed_terms <- function(fixed, frame)
  attr(model.frame(fixed, frame, na.action = stats::na.pass), "terms")

fixed_matrix <- function(fixed, frame, contrasts) {
  own <- contrasts[intersect(names(contrasts), all.vars(fixed))]
  trms <- delete.response(fixed_terms(fixed, frame))
  model.matrix(trms, model.frame(trms, frame, na.action = stats::na.pass), contrasts.arg = if (length(own)) own)
}

has_spline <- function(e)
  is.call(e) && (as.character(e[[1]])[1] %in% SPLINES || any(vapply(as.list(e)[-1], has_spline, NA)))

text_of <- function(formula) paste(deparse(formula, width.cutoff = 500L), collapse = " ")

# Columns of the data that formula, residual and weights read.
columns_read <- function(formula, data, ...) {
  more <- unlist(lapply(Filter(is.character, list(...)), function(x) all.vars(parse(text = x)[[1]])))
  used <- c(all.vars(formula), more)
  if ("." %in% used) return(names(data))
  intersect(used, names(data))
}
