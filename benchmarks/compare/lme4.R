# Fits one problem in lme4: Rscript lme4.R FOLDER WARM_UP_FOLDER REPEAT
# The same lines of JSON as worker.py; the clock runs around lmer() only.
emit <- function(...) {
  fields <- list(...)
  shown <- vapply(fields, function(v) {
    if (is.character(v)) encodeString(v, quote = '"')
    else if (is.logical(v)) tolower(as.character(v))
    else format(v, digits = 17)
  }, "")
  cat("{", paste0('"', names(fields), '": ', shown, collapse = ", "), "}\n", sep = "")
}

load_folder <- function(folder) {
  lines <- readLines(file.path(folder, "meta.txt"))
  n <- as.integer(lines[3])
  columns <- strsplit(lines[-(1:3)], " ")
  data <- lapply(columns, function(described) {
    path <- file.path(folder, described[1])
    if (described[2] == "number") return(readBin(path, "double", n))
    levels <- seq_len(as.integer(described[3]))
    codes <- readBin(path, "integer", n, size = 4) + 1L
    structure(codes, levels = as.character(levels), class = "factor")
  })
  names(data) <- vapply(columns, `[`, "", 1)
  list(formula = as.formula(lines[1]), reml = lines[2] == "1", data = as.data.frame(data))
}

peak_megabytes <- function() {
  status <- tryCatch(readLines("/proc/self/status"), error = function(e) character())
  line <- grep("VmHWM", status, value = TRUE)
  if (length(line)) as.numeric(gsub("[^0-9]", "", line)) / 1024 else NA_real_
}

if (!requireNamespace("lme4", quietly = TRUE)) {
  emit(status = "-", message = "R package lme4 is not installed")
  quit()
}
suppressPackageStartupMessages(library(lme4))
arguments <- commandArgs(trailingOnly = TRUE)
fit <- function(p) suppressMessages(suppressWarnings(lmer(p$formula, p$data, REML = p$reml)))

emit(version = as.character(packageVersion("lme4")), language = paste0("R ", getRversion()))
invisible(fit(load_folder(arguments[2])))
problem <- load_folder(arguments[1])
for (i in seq_len(as.integer(arguments[3]))) {
  invisible(gc())
  seconds <- system.time(m <- fit(problem), gcFirst = FALSE)[["elapsed"]]
  if (seconds < 0.5) {  # the clock of R has a resolution of a millisecond: average many
    times <- max(3, ceiling(0.5 / max(seconds, 0.001)))
    seconds <- system.time(for (k in seq_len(times)) m <- fit(problem))[["elapsed"]] / times
  }
  emit(seconds = seconds, peak_mb = peak_megabytes(), deviance = -2 * as.numeric(logLik(m)),
       converged = m@optinfo$conv$opt == 0, evaluations = m@optinfo$feval)
}
