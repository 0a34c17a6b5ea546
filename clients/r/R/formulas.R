# The fixed part of a formula in lme4's notation, which R's own functions understand.

has_bar <- function(e) is.call(e) && (identical(e[[1]], quote(`|`)) || identical(e[[1]], quote(`||`)) ||
                                        any(vapply(as.list(e)[-1], has_bar, NA)))

SPLINES <- c("spl", "ps")
is_random <- function(e) has_bar(e) || is_spline(e)

# spl(x), at(env):spl(x)
is_spline <- function(e) {
  if (!is.call(e)) return(FALSE)
  head <- as.character(e[[1]])[1]
  head %in% SPLINES || (head %in% c(":", "(") && any(vapply(as.list(e)[-1], is_spline, NA)))
}

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

# Terms with what the columns of bases are made of: poly(x, 2) of new rows is that of the fit.
fixed_terms <- function(fixed, frame)
  attr(model.frame(fixed, frame, na.action = stats::na.pass), "terms")

fixed_matrix <- function(fixed, frame, contrasts) {
  own <- contrasts[intersect(names(contrasts), all.vars(fixed))]
  trms <- delete.response(fixed_terms(fixed, frame))
  model.matrix(trms, model.frame(trms, frame, na.action = stats::na.pass), contrasts.arg = if (length(own)) own)
}

text_of <- function(formula) paste(deparse(formula, width.cutoff = 500L), collapse = " ")

# The expression of a text in the notation of fastlmm_core, in which nseg=(10, 15) is R's nseg = c(10, 15).
expression_of <- function(text) parse(text = gsub("=\\s*\\(", "= c(", text), keep.source = FALSE)[[1]]

# Columns that a field trend names, "ps(range, bed) | env", as an expression; `fixed_only` where the fixed part has them.
# What is no trend is refused where the model is fitted.
trend_columns <- function(trend, fixed_only = FALSE) {
  own <- bare(tryCatch(expression_of(trend), error = function(e) NULL))
  if (is.null(own)) return(NULL)
  by <- if (is.call(own) && identical(own[[1]], quote(`|`))) all.vars(own[[3]])
  if (!is.null(by)) own <- bare(own[[2]])
  if (fixed_only && !("ps" %in% as.character(if (is.call(own)) own[[1]] else own))) return(NULL)
  arguments <- if (is.call(own)) as.list(own)[-1]
  if (!is.null(names(arguments))) arguments <- arguments[!nzchar(names(arguments))]  # not nseg = auto
  places <- unlist(lapply(arguments, all.vars))
  paste0("`", c(if (length(places)) places else c("row", "col"), by), "`", collapse = " + ")
}

bare <- function(e) if (is.call(e) && identical(e[[1]], quote(`(`))) bare(e[[2]]) else e

# Columns of the data that formula, residual and weights read.
columns_read <- function(formula, data, ...) {
  more <- unlist(lapply(Filter(is.character, list(...)), function(x) all.vars(expression_of(x))))
  used <- c(all.vars(formula), more)
  if ("." %in% used) return(names(data))
  intersect(used, names(data))
}
