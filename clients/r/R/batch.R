# One model for every trial of a table: a list of data frames, as `fit_batch` of fastlmm_core has them.
fastlmm_batch <- function(formula, data, by, traits = NULL, emmeans = NULL, contrasts = NULL, ref = NULL, adjust = NULL,
                          blups = NULL, genotypes = NULL, fixed = TRUE, REML = TRUE, weights = NULL, ddf = NULL,
                          level = 0.95, residual = NULL, relationships = NULL, field_trend = NULL) {
  text <- if (is.character(formula)) formula else text_of(formula)
  if (is.character(data)) {
    table <- list(data = unbox(normalizePath(data, mustWork = TRUE)))
  } else {
    data <- as.data.frame(data)
    used <- columns_read(as.formula(text), data, weights, residual, trend_columns(field_trend))
    table <- json_table(data[union(c(by, traits), used)])
  }
  request <- drop_null(c(
    list(formula = unbox(text)), table,
    list(
      by = by, traits = traits, emmeans = emmeans, contrasts = maybe(contrasts), ref = maybe(ref), adjust = maybe(adjust),
      blups = if (is.logical(blups)) unbox(blups) else blups, genotypes = maybe(genotypes), fixed = unbox(fixed),
      method = if (REML) NULL else unbox("ML"), weights = maybe(weights), ddf = maybe(ddf), level = unbox(level),
      residual = maybe(residual), relationships = as_object(lapply(relationships, json_relationship)),
      field_trend = maybe(field_trend)
    )
  ))
  tables <- ask(request)$tables
  structure(lapply(tables, as_frame), class = "fastlmm_batch")
}

# An object of columns as a data frame; infinite degrees of freedom are text in JSON.
as_frame <- function(columns) {
  as.data.frame(lapply(columns, function(x) {
    if (is.list(x)) x <- unlist(lapply(x, function(own) if (is.null(own)) NA else own))
    if (is.character(x) && any(x %in% c("Inf", "-Inf")) && all(is.na(x) | !is.na(suppressWarnings(as.numeric(x)))))
      x <- as.numeric(x)
    x
  }), check.names = FALSE, stringsAsFactors = FALSE)
}

print.fastlmm_batch <- function(x, ...) {
  fits <- x$fits
  cat(nrow(fits), " fits, ", sum(fits$status == "ok"), " ok\n", sep = "")
  for (name in names(x)) cat("  $", name, ": ", nrow(x[[name]]), " rows\n", sep = "")
  invisible(x)
}
