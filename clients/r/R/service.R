# The process that answers: `fastlmm serve` on a pipe for requests and a FIFO for answers. It is started with the
# first question and stays until R ends, or `fastlmm_stop()`.

service <- new.env(parent = emptyenv())
service$count <- 0

# Option fastlmm.command, variable FASTLMM_COMMAND, or `fastlmm` on the path; empty without any.
command_found <- function() {
  given <- getOption("fastlmm.command", Sys.getenv("FASTLMM_COMMAND"))
  if (nzchar(given[1])) given else unname(Sys.which("fastlmm"))
}

fastlmm_available <- function() nzchar(command_found()[1])

fastlmm_command <- function() {
  found <- command_found()
  if (!nzchar(found[1]))
    stop("the command 'fastlmm' is not on the path: install fastlmm_core, or set options(fastlmm.command = ",
         "\"/path/to/.venv/bin/fastlmm\")", call. = FALSE)
  found
}

running <- function() !is.null(service$requests)

start <- function() {
  command <- paste(shQuote(fastlmm_command()), collapse = " ")
  folder <- tempfile("fastlmm")
  dir.create(folder, mode = "0700")
  answers <- file.path(folder, "answers")
  if (system2("mkfifo", c("-m", "600", shQuote(answers))) != 0) stop("no FIFO can be made in ", folder)
  # Ctrl-C is for R: the shell hands down that the process ignores it
  service$requests <- pipe(sprintf("trap '' INT; exec %s serve > %s", command, shQuote(answers)), "w")
  service$answers <- file(answers, "r", raw = TRUE, encoding = "UTF-8")
  service$folder <- folder
  reg.finalizer(service, function(own) fastlmm_stop(), onexit = TRUE)
}

fastlmm_stop <- function() {
  if (!running()) return(invisible())
  suppressWarnings(try(close(service$requests), silent = TRUE))
  suppressWarnings(try(close(service$answers), silent = TRUE))
  unlink(service$folder, recursive = TRUE)
  service$requests <- service$answers <- NULL
  invisible()
}

# The answer to one request, a list of keys as docs/request.md has them. Errors of the library are R errors of the
# class "fastlmm_<code>".
ask <- function(request) {
  if (!running()) start()
  service$count <- service$count + 1
  id <- service$count
  text <- encoded(c(list(id = unbox(id)), request))
  writeLines(enc2utf8(text), service$requests, useBytes = TRUE)
  flush(service$requests)
  repeat {
    line <- readLines(service$answers, 1L, warn = FALSE, encoding = "UTF-8")
    if (!length(line)) {
      fastlmm_stop()
      stop("the process of '", paste(fastlmm_command(), collapse = " "), " serve' has ended; its last words are ",
           "above, and the next call starts another", call. = FALSE)
    }
    answer <- fromJSON(line, simplifyDataFrame = FALSE)
    # what an interrupted question left behind is passed over
    if (is.null(answer$id) || answer$id == id) break
  }
  if (!is.null(answer$error)) {
    kind <- paste0("fastlmm_", answer$error$code)
    stop(structure(class = c(kind, "fastlmm_error", "error", "condition"),
                   list(message = answer$error$message, call = NULL)))
  }
  answer
}

# A question to a fit: the process is asked by the fit's name, and where it has forgotten it, or is another process,
# the model is sent and fitted again.
ask_fit <- function(object, question) {
  tryCatch(
    ask(c(list(of = unbox(object$handle)), question)),
    `fastlmm_unknown-fit` = function(e) ask(c(object$request, list(keep = unbox(object$handle)), question))
  )
}
