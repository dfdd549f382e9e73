# Writes crates/eval/tests/fixtures/delong.json: areas under ROC curves, DeLong's variances and tests by pROC.
#
#     apt-get install r-base-core r-cran-proc        # R 4.2.2 and pROC 1.18.0
#     Rscript reference/delong_fixtures.R
suppressPackageStartupMessages(library(pROC))

numbers <- function(values) paste0("[", paste(sprintf("%.17g", values), collapse = ", "), "]")

case <- function(name, seed, images, skill, steps) {
  set.seed(seed)
  positive <- seq_len(images) %% 5 < 2
  common <- rnorm(images)
  # Scores in sixteenths, which f32 holds exactly; the fewer of them, the more ties.
  scores <- lapply(1:2, function(model) round((skill * positive * (1 + 0.4 * (model - 1)) + common + rnorm(images)) * steps) / 16)
  rocs <- lapply(scores, function(s) roc(positive, s, levels = c(FALSE, TRUE), direction = "<", quiet = TRUE))
  test <- roc.test(rocs[[1]], rocs[[2]], method = "delong", paired = TRUE)
  model <- function(i) {
    sprintf("{\"scores\": %s, \"auroc\": %.17g, \"variance\": %.17g}", numbers(scores[[i]]), as.numeric(auc(rocs[[i]])),
            var(rocs[[i]], method = "delong"))
  }
  # pROC takes the first less the second.
  sprintf("{\"name\": \"%s\", \"positive\": [%s],\n \"models\": [%s,\n %s],\n \"covariance\": %.17g, \"z\": %.17g}", name,
          paste(ifelse(positive, "true", "false"), collapse = ", "), model(1), model(2),
          cov(rocs[[1]], rocs[[2]], method = "delong"), -unname(test$statistic))
}

cases <- c(case("no ties to speak of", 1, 120, 1.0, 4000), case("ties", 2, 90, 1.2, 4), case("many ties", 3, 60, 0.8, 1),
           case("no skill", 4, 80, 0.0, 4000), case("good models", 5, 178, 3.0, 4000), case("few images", 6, 12, 0.7, 16))
text <- sprintf("{\"written_by\": \"reference/delong_fixtures.R\", \"versions\": {\"R\": \"%s\", \"pROC\": \"%s\"}, \"cases\": [\n%s\n]}\n",
                getRversion(), packageVersion("pROC"), paste(cases, collapse = ",\n"))
writeLines(text, "crates/eval/tests/fixtures/delong.json", sep = "")
