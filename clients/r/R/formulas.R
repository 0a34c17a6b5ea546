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

text_of <- function(formula) paste(deparse(formula, width.cutoff = 500L), collapse = " ")

# Columns of the data that formula, residual and weights read.
columns_read <- function(formula, data, ...) {
  more <- unlist(lapply(Filter(is.character, list(...)), function(x) all.vars(parse(text = x)[[1]])))
  used <- c(all.vars(formula), more)
  if ("." %in% used) return(names(data))
  intersect(used, names(data))
}
