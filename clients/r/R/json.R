# Tables and options as JSON. Numbers have as many digits as it takes to read them back exactly, which jsonlite does
# not write (15 at most).

unbox <- jsonlite::unbox
verbatim <- function(text) structure(text, class = "json")

numbers <- function(x) {
  text <- sprintf("%.15g", x)
  known <- which(!is.na(x))
  short <- known[as.numeric(text[known]) != x[known]]
  text[short] <- sprintf("%.17g", x[short])
  text[is.na(x)] <- "null"
  text
}

json_numbers <- function(x, name) {
  if (any(is.infinite(x))) stop("column '", name, "' holds infinite values", call. = FALSE)
  verbatim(paste0("[", paste(numbers(as.vector(x)), collapse = ","), "]"))
}

# Rows of a matrix as lists of numbers.
json_matrix <- function(K) {
  K <- unname(as.matrix(K))
  rows <- apply(matrix(numbers(as.vector(K)), nrow(K)), 1, paste, collapse = ",")
  verbatim(paste0("[", paste0("[", rows, "]", collapse = ","), "]"))
}

encoded <- function(request)
  toJSON(request, auto_unbox = FALSE, null = "null", na = "null", json_verbatim = TRUE, digits = NA)

# A table: `data` and the declared types of its factors. Labels of text are in R's order.
json_table <- function(data) {
  columns <- list()
  out <- lapply(setNames(names(data), names(data)), function(name) {
    x <- data[[name]]
    if (is.character(x)) x <- factor(x)
    if (is.factor(x)) {
      columns[[name]] <<- list(type = unbox("factor"), levels = levels(x), ordered = unbox(is.ordered(x)))
      return(as.character(x))
    }
    if (is.logical(x)) return(x)
    if (!is.null(dim(x)) && NCOL(x) > 1) stop("column '", name, "' is a matrix; give its columns", call. = FALSE)
    json_numbers(as.numeric(x), name)
  })
  drop_null(list(data = out, columns = as_object(columns)))
}

# An empty R list would be [] in JSON.
as_object <- function(x) if (length(x)) x else NULL
drop_null <- function(x) x[!vapply(x, is.null, NA)]
