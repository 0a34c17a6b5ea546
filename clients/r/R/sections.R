# Any section of an answer (docs/request.md), for what no function of R asks.

fastlmm_ask <- function(object, ...) {
  asked <- list(...)
  if (!length(asked) || is.null(names(asked)) || !all(nzchar(names(asked))))
    stop("name the sections: fastlmm_ask(fit, heritability = list(\"gen\"))", call. = FALSE)
  answer <- ask_fit(object, lapply(asked, json_value))[names(asked)]
  out <- lapply(answer, as_tables)
  if (length(out) == 1) out[[1]] else out
}

# Scalars as they are, longer vectors and lists without names as lists, matrices by rows, data frames by columns.
json_value <- function(x) {
  if (is.data.frame(x)) return(json_table(x)$data)
  if (is.matrix(x)) return(json_matrix(x))
  if (is.list(x)) return(lapply(x, json_value))
  if (is.factor(x)) x <- as.character(x)
  if (is.numeric(x)) x <- if (length(x) == 1) return(verbatim(numbers(x))) else return(json_numbers(x, "of a section"))
  if (length(x) == 1) unbox(x) else x
}

# Lists of rows inside of an answer as data frames.
as_tables <- function(x) {
  if (!is.list(x)) return(x)
  is_cell <- function(own) is.null(own) || (is.atomic(own) && length(own) == 1)
  is_row <- function(own) is.list(own) && !is.null(names(own)) && all(vapply(own, is_cell, NA))
  if (!length(x) || !is.null(names(x)) || !all(vapply(x, is_row, NA))) return(lapply(x, as_tables))
  names <- unique(unlist(lapply(x, names)))
  as_frame(setNames(lapply(names, function(name) lapply(x, `[[`, name)), names))
}
