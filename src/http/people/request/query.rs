//! The query parameters of requests.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use url::form_urlencoded;

use crate::http::error::ApiError;

/// The query parameters of a request.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// 400 when a parameter is not in `known`, or occurs twice.
    pub(crate) fn parse(raw: Option<&str>, known: &[&str]) -> Result<Self, ApiError> {
        let mut found: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(ApiError::bad_request(format!("unknown parameter {name:?}; the parameters are: {known}")));
            }
            if found.iter().any(|(other, _)| *other == name) {
                return Err(ApiError::bad_request(format!("the parameter {name} occurs twice; give it once")));
            }
            found.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(found))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The text of a parameter; `None` if the text is empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// The value of a parameter that is `true` or `false`.
    ///
    /// # Errors
    /// 400 when the value is not valid.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(ApiError::bad_request(format!("the parameter {name} is true or false, not {other:?}"))),
        }
    }

    /// The value of a parameter that is a whole number in a range.
    ///
    /// # Errors
    /// 400 when the value is not valid.
    pub(crate) fn number(&self, name: &str, range: std::ops::RangeInclusive<usize>) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        let (min, max) = (range.start(), range.end());
        let message = || format!("the parameter {name} is a whole number from {min} to {max}, not {text:?}");
        number.ok_or_else(|| ApiError::bad_request(message())).map(Some)
    }

    /// The value of a parameter that is a time. A time without a zone is in UTC.
    ///
    /// # Errors
    /// 400 when the value is not valid.
    pub(crate) fn time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        // An unescaped plus was decoded to a space.
        let text = text.replace(' ', "+");
        let zoned = text.parse::<Timestamp>();
        let time = zoned.or_else(|_| text.parse::<DateTime>()?.to_zoned(TimeZone::UTC).map(|t| t.timestamp()));
        let message = || format!("the parameter {name} is a time such as 2026-03-05T12:00:00Z, not {text:?}");
        time.map(Some).map_err(|_| ApiError::bad_request(message()))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    const KNOWN: &[&str] = &["limit", "force", "since", "board_id"];

    fn query(raw: &str) -> Query {
        Query::parse(Some(raw), KNOWN).unwrap()
    }

    #[test]
    fn an_error_names_the_parameter() {
        let all = [
            query("limit=0").number("limit", 1..=200).unwrap_err(),
            query("limit=x").number("limit", 1..=200).unwrap_err(),
            query("force=1").flag("force").unwrap_err(),
            query("since=now").time("since").unwrap_err(),
            Query::parse(Some("bord_id=x"), KNOWN).unwrap_err(),
            Query::parse(Some("limit=1&limit=2"), KNOWN).unwrap_err(),
        ];
        for (error, word) in all.iter().zip(["limit", "limit", "force", "since", "bord_id", "limit"]) {
            assert_eq!(error.status, StatusCode::BAD_REQUEST);
            assert!(error.message.contains(word), "{}", error.message);
        }
    }

    #[test]
    fn a_time_is_accepted_with_and_without_a_zone() {
        let noon: Timestamp = "2026-03-05T12:00:00Z".parse().unwrap();
        for raw in ["2026-03-05T12:00:00Z", "2026-03-05T12:00:00", "2026-03-05T14:00:00+02:00"] {
            assert_eq!(query(&format!("since={raw}")).time("since").unwrap(), Some(noon), "{raw}");
        }
    }

    #[test]
    fn an_empty_text_is_none() {
        assert_eq!(query("board_id=").text("board_id"), None);
        assert_eq!(query("board_id=a%2Fb").text("board_id"), Some("a/b"));
    }
}
