# Coefficients, predictions of random effects and variance components, in the shapes that lme4 gives them.

# For sessions without nlme and lme4; whichever of the packages is attached last, all fits are answered.
fixef <- function(object, ...)
  if (inherits(object, "fastlmm")) fixef.fastlmm(object, ...) else nlme::fixef(object, ...)
ranef <- function(object, ...)
  if (inherits(object, "fastlmm")) ranef.fastlmm(object, ...) else nlme::ranef(object, ...)
VarCorr <- function(x, ...)
  if (inherits(x, "fastlmm")) VarCorr.fastlmm(x, ...) else nlme::VarCorr(x, ...)

fixef.fastlmm <- function(object, add.dropped = FALSE, ...) {
  beta <- unlist(object$fit$beta)
  if (!add.dropped) return(beta)
  setNames(beta[object$fit$coef_names], object$fit$coef_names)
}

ranef.fastlmm <- function(object, condVar = TRUE, ...) {
  answer <- ask_fit(object, list(ranef = unbox(TRUE)))$ranef
  structure(lapply(answer, function(own) {
    frame <- function(values) {
      values <- matrix(as.numeric(unlist(values)), length(own$levels))
      as.data.frame(`dimnames<-`(values, list(own$levels, own$columns)))
    }
    out <- frame(own$values)
    if (condVar) attr(out, "condVar") <- frame(own$condvar_diag)
    out
  }), class = "ranef.fastlmm")
}

print.ranef.fastlmm <- function(x, ...) {
  for (name in names(x)) {
    cat("$", name, "\n", sep = "")
    print(structure(x[[name]], condVar = NULL), ...)
    cat("\n")
  }
  invisible(x)
}

as.data.frame.ranef.fastlmm <- function(x, ...) {
  parts <- lapply(names(x), function(name) {
    own <- x[[name]]
    variance <- attr(own, "condVar")
    data.frame(
      grpvar = name, term = factor(rep(names(own), each = nrow(own)), names(own)),
      grp = factor(rep(rownames(own), ncol(own)), rownames(own)), condval = unlist(own, use.names = FALSE),
      condsd = if (is.null(variance)) NA_real_ else sqrt(unlist(variance, use.names = FALSE))
    )
  })
  do.call(rbind, parts)
}

# Fixed effects plus predictions, for every level: what varies without a fixed effect of its name varies round zero.
coef.fastlmm <- function(object, ...) {
  fixed <- fixef(object)
  random <- ranef(object, condVar = FALSE)
  alone <- setdiff(unlist(lapply(random, names)), names(fixed))
  start <- c(setNames(numeric(length(alone)), alone), fixed)
  lapply(unclass(random), function(own) {
    out <- as.data.frame(matrix(start, nrow(own), length(start), byrow = TRUE,
                                dimnames = list(rownames(own), names(start))))
    for (name in names(own)) out[[name]] <- out[[name]] + own[[name]]
    out
  })
}

VarCorr.fastlmm <- function(x, sigma = 1, ...) {
  if (!identical(sigma, 1)) stop("sigma is 1: the components are in the units of the response", call. = FALSE)
  rows <- component_rows(x)
  blocks <- component_blocks(x, rows)
  matrices <- lapply(blocks, function(places) covariance_of(rows[places, ]))
  names(matrices) <- make.unique(vapply(blocks, function(places) rows$grp[places[1]], ""))
  structure(matrices, sc = sigma.fastlmm(x), rows = rows, class = "VarCorr.fastlmm")
}

component_rows <- function(x) {
  rows <- x$fit$varcomp
  text <- function(key) vapply(rows, function(r) if (is.null(r[[key]])) NA_character_ else r[[key]], "")
  number <- function(key) vapply(rows, function(r) if (is.null(r[[key]])) NA_real_ else as.numeric(r[[key]]), 0)
  data.frame(grp = text("group"), var1 = text("var1"), var2 = text("var2"), vcov = number("vcov"),
             sdcor = number("sdcor"))
}

# Places of the rows of every covariance matrix of a random term. Those of a model with structures say which it is;
# else every term has a group of its own. The residual's are the last.
component_blocks <- function(x, rows) {
  number <- vapply(x$fit$varcomp, function(r) if (is.null(r$block)) NA_integer_ else as.integer(r$block), 0L)
  if (anyNA(number)) number <- match(rows$grp, unique(rows$grp))
  last <- rows$grp[nrow(rows)]
  residual <- if (last == "Residual") nrow(rows) else which(sub("\\|.*", "", rows$grp) == sub("\\|.*", "", last))
  unname(split(seq_along(number)[-residual], number[-residual]))
}

# The matrix of some rows; covariances that are none of the model are zero.
covariance_of <- function(rows) {
  variances <- is.na(rows$var2)
  names <- rows$var1[variances]
  out <- diag(rows$vcov[variances], length(names))
  dimnames(out) <- list(names, names)
  for (i in which(!variances)) out[rows$var1[i], rows$var2[i]] <- out[rows$var2[i], rows$var1[i]] <- rows$vcov[i]
  sd <- setNames(sqrt(diag(out)), names)
  structure(out, stddev = sd, correlation = out / tcrossprod(sd))
}

as.data.frame.VarCorr.fastlmm <- function(x, ...) attr(x, "rows")

print.VarCorr.fastlmm <- function(x, digits = max(3, getOption("digits") - 2), ...) {
  x <- as.data.frame(x)
  shown <- data.frame(Groups = x$grp, Name = ifelse(is.na(x$var1), "", x$var1), ` ` = ifelse(is.na(x$var2), "", x$var2),
                      Variance = format(x$vcov, digits = digits), `Std.Dev. or Corr` = format(x$sdcor, digits = digits),
                      check.names = FALSE)
  print(shown, row.names = FALSE)
  invisible(x)
}
