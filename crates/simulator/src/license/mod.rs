//! IBM License Service: usage as JSON or CSV, the signed snapshot, and errors as HTML.

mod snapshot;
mod usage;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use serde_json::json;

use crate::{
    answer::{Answer, html, json, whole},
    state::State,
};

/// Answers a request; its path has already lost the base path under which the service lives.
pub(crate) fn answer(state: &State, request: &Request<Bytes>, path: &str) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return failure(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    }
    let query = Query::parse(request.uri().query().unwrap_or_default());
    match path {
        "/" => return html(StatusCode::OK, HOME_PAGE),
        "/version" => return json(StatusCode::OK, &json!({ "version": VERSION })),
        "/snapshot" | "/products" | "/bundled_products" | "/services" | "/health" | "/status" => {}
        _ => return failure(StatusCode::NOT_FOUND, "Not Found"),
    }
    if !admitted(state, request, &query) {
        return failure(StatusCode::UNAUTHORIZED, "Unauthorized");
    }
    let Some(period) = query.period(today()) else {
        return failure(StatusCode::BAD_REQUEST, "Bad Request");
    };
    let table = match path {
        "/snapshot" => return snapshot_answer(period),
        "/health" => {
            return json(
                StatusCode::OK,
                &json!({ "incompleteAnnotations": { "pods": [], "count": 0 } }),
            );
        }
        "/status" => return html(StatusCode::OK, status_page(period)),
        "/products" => usage::products(period),
        "/bundled_products" => usage::bundled_products(period),
        _ => usage::services(period),
    };
    if query.only("format") == Some("csv") {
        whole(StatusCode::OK, "text/csv", table.to_csv())
    } else {
        json(StatusCode::OK, &table.to_json())
    }
}

/// The days that a report covers, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) start: Date,
    pub(crate) end: Date,
}

/// Every credential that is there must be good, and there must be one: `?token=` once, or a service-account Bearer.
fn admitted(state: &State, request: &Request<Bytes>, query: &Query) -> bool {
    let by_url = match query.all("token").as_slice() {
        [] => None,
        [token] => Some(state.options.url_based_enabled && *token == state.options.license_token),
        _ => Some(false),
    };
    let bearers: Vec<&HeaderValue> = request
        .headers()
        .get_all(header::AUTHORIZATION)
        .iter()
        .collect();
    let by_bearer = match bearers.as_slice() {
        [] => None,
        [value] => Some(
            value
                .to_str()
                .ok()
                .and_then(|value| value.strip_prefix("Bearer "))
                == Some(state.options.service_account_token.as_str()),
        ),
        _ => Some(false),
    };
    match (by_url, by_bearer) {
        (None, None) => false,
        (by_url, by_bearer) => by_url != Some(false) && by_bearer != Some(false),
    }
}

fn snapshot_answer(period: Period) -> Answer {
    let mut answer = whole(StatusCode::OK, "application/zip", snapshot::archive(period));
    let disposition = format!(
        "attachment; filename=\"license_snapshot_{}_{}.zip\"",
        period.start, period.end
    );
    answer.headers_mut().insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::try_from(disposition).expect("dates are a header value"),
    );
    answer
}

struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes as a servlet does: `+` is a space, `%2B` a plus.
    fn parse(query: &str) -> Self {
        Self(
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    fn all(&self, name: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    fn only(&self, name: &str) -> Option<&str> {
        match self.all(name).as_slice() {
            [value] => Some(value),
            _ => None,
        }
    }

    /// `startDate` and `endDate`; one of them alone is ignored, as the service does without a word. The default is
    /// the thirty days up to `today`; `None` for what is not a period.
    fn period(&self, today: Date) -> Option<Period> {
        let (Some(start), Some(end)) = (self.only("startDate"), self.only("endDate")) else {
            return Some(Period {
                start: today.saturating_sub(30.days()),
                end: today,
            });
        };
        let day = |text: &str| Date::strptime("%Y-%m-%d", text).ok();
        let (start, end) = (day(start)?, day(end)?);
        (start <= end).then_some(Period { start, end })
    }
}

fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}

fn failure(status: StatusCode, message: &str) -> Answer {
    html(
        status,
        format!(
            "<!doctype html><html><head><title>IBM License Service</title></head><body>\
             <h1>Error {}</h1><p>Message: <b>{message}</b></p></body></html>\n",
            status.as_u16(),
        ),
    )
}

fn status_page(period: Period) -> String {
    format!(
        "<!doctype html><html><head><title>IBM License Service - status</title></head><body>\
         <h1>License Service status</h1><p>Collecting license usage data from {} to {}.</p>\
         <p>No issues were found.</p></body></html>\n",
        period.start, period.end,
    )
}

const HOME_PAGE: &str = "<!doctype html><html><head><title>IBM License Service</title></head><body>\
     <h1>IBM License Service</h1><p>License Service is running.</p></body></html>\n";
const VERSION: &str = "4.2.23";

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn one_date_alone_is_ignored() {
        let today = date(2026, 3, 31);
        let default = Period {
            start: date(2026, 3, 1),
            end: today,
        };
        for (query, period) in [
            ("", Some(default)),
            ("startDate=2025-01-01", Some(default)),
            (
                "startDate=2025-01-01&endDate=2025-01-31",
                Some(Period {
                    start: date(2025, 1, 1),
                    end: date(2025, 1, 31),
                }),
            ),
            ("startDate=2025-02-01&endDate=2025-01-31", None),
            ("startDate=2025-02-30&endDate=2025-03-31", None),
            ("startDate=yesterday&endDate=2025-03-31", None),
        ] {
            assert_eq!(Query::parse(query).period(today), period, "{query}");
        }
    }
}
