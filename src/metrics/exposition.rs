//! The text formats of the metrics.

/// A text format of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// `OpenMetrics` 1.0.0, which Prometheus asks for.
    OpenMetrics,
    /// The format 0.0.4 of Prometheus, which every tool reads.
    Prometheus,
}

impl TextFormat {
    /// The format for a client with this header `Accept`.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its content type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// A text in the format `OpenMetrics` in the format 0.0.4, in which a counter has the name of its value.
pub(super) fn prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        let words = line.splitn(4, ' ').collect::<Vec<_>>();
        match words.as_slice() {
            ["#", "HELP", name, sentence] => help = Some((*name, *sentence)),
            ["#", "TYPE", name, kind] => {
                let end = if *kind == "counter" { "_total" } else { "" };
                if let Some((_, sentence)) = help.take().filter(|(of, _)| of == name) {
                    text.extend(["# HELP ", name, end, " ", sentence, "\n"]);
                }
                text.extend(["# TYPE ", name, end, " ", kind, "\n"]);
            }
            ["#", ..] => {}
            _ => text.extend([line, "\n"]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_has_the_name_of_its_value_in_the_format_of_prometheus() {
        let open_metrics =
            "# HELP a Calls of all.\n# TYPE a counter\na_total{b=\"# c\"} 1\n# HELP d D.\n# TYPE d gauge\nd 2\n# EOF\n";
        let expected = "# HELP a_total Calls of all.\n# TYPE a_total counter\na_total{b=\"# c\"} 1\n# HELP d D.\n# TYPE d gauge\nd 2\n";
        assert_eq!(prometheus(open_metrics), expected);
    }

    #[test]
    fn open_metrics_is_for_a_client_that_names_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(TextFormat::accepted(prometheus), TextFormat::OpenMetrics);
        assert_eq!(TextFormat::accepted("*/*"), TextFormat::Prometheus);
    }
}
