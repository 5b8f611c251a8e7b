//! The metrics page: what the workers counted and how the credentials stand, in Prometheus's text form.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::Registry,
};
use token_source::{Feed, Status};

use crate::{
    config::Waiver,
    tally::{BUCKETS, Counts, HistogramCounts},
};

/// Everything that one page shows.
#[derive(Debug)]
pub struct Page {
    /// The sum over all workers.
    pub counts: Counts,
    /// How each credential stands.
    pub credentials: Vec<(Arc<str>, Status)>,
    /// The listeners that show a certificate, and when each ends.
    pub certificates: Vec<(Arc<str>, SystemTime)>,
    /// Defences that were given up by name.
    pub waivers: Vec<Waiver>,
}

impl Page {
    /// A page of this moment.
    pub fn new(
        counts: Counts,
        feeds: &[Feed],
        certificates: &[(Arc<str>, SystemTime)],
        waivers: &[Waiver],
    ) -> Self {
        let credentials = feeds
            .iter()
            .map(|feed| (Arc::clone(feed.name()), feed.status()))
            .collect();
        Self {
            counts,
            credentials,
            certificates: certificates.to_vec(),
            waivers: waivers.to_vec(),
        }
    }

    /// The page's text.
    pub fn text(self) -> String {
        let mut registry = Registry::with_prefix("watsonx_auth_proxy");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes everything");
        text
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metrics = Encoder(&mut encoder);
        metrics.of_requests(&self.counts)?;
        metrics.of_connections(&self.counts)?;
        metrics.of_credentials(&self.credentials)?;
        metrics.family(
            "certificate_expiry_timestamp_seconds",
            "When the certificate of a listener ends",
            MetricType::Gauge,
            |family| {
                self.certificates.iter().try_for_each(|(listener, end)| {
                    family
                        .encode_family(&[("listener", &**listener)])?
                        .encode_gauge(&unix_seconds(*end))
                })
            },
        )?;
        metrics.family(
            "waivers",
            "Defences given up by name",
            MetricType::Gauge,
            |family| {
                let mut kinds: Vec<_> = self.waivers.iter().map(|waiver| waiver.kind).collect();
                kinds.sort_unstable();
                kinds.chunk_by(|a, b| a == b).try_for_each(|same| {
                    family
                        .encode_family(&[("kind", same[0])])?
                        .encode_gauge(&as_gauge(same.len() as u64))
                })
            },
        )?;
        metrics.family(
            "build_info",
            "The version that runs",
            MetricType::Gauge,
            |family| {
                family
                    .encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?
                    .encode_gauge(&1_i64)
            },
        )
    }
}

struct Encoder<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Encoder<'_, '_> {
    fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        samples(&mut self.0.encode_descriptor(name, help, None, kind)?)
    }

    fn of_requests(&mut self, counts: &Counts) -> fmt::Result {
        let routes = &counts.routes;
        self.family(
            "requests",
            "Requests answered",
            MetricType::Counter,
            |family| {
                for (route, of) in routes {
                    for ((method, status, caller), count) in &of.requests {
                        let status = status.to_string();
                        let labels = [
                            ("route", &**route),
                            ("method", *method),
                            ("status", &*status),
                            ("caller", caller.as_deref().unwrap_or_default()),
                        ];
                        counter(family, &labels, *count)?;
                    }
                }
                Ok(())
            },
        )?;
        self.family(
            "request_duration_seconds",
            "Head in to answer out",
            MetricType::Histogram,
            |family| {
                routes
                    .iter()
                    .try_for_each(|(route, of)| histogram(family, route, &of.duration))
            },
        )?;
        self.family(
            "overhead_seconds",
            "What the proxy itself added",
            MetricType::Histogram,
            |family| {
                routes
                    .iter()
                    .try_for_each(|(route, of)| histogram(family, route, &of.overhead))
            },
        )?;
        self.family(
            "requests_in_flight",
            "Requests under way",
            MetricType::Gauge,
            |family| {
                let mut sample = |(route, in_flight): (&str, u64)| {
                    family
                        .encode_family(&[("route", route)])?
                        .encode_gauge(&as_gauge(in_flight))
                };
                routes
                    .iter()
                    .map(|(route, of)| (&**route, of.in_flight))
                    .try_for_each(&mut sample)
            },
        )?;
        self.of_each(
            "faults",
            "Requests that the proxy answered or cut itself",
            "code",
            routes.iter().map(|(route, of)| (&**route, &of.faults)),
        )?;
        self.of_each(
            "replays",
            "Answers of 401 to an attached credential, by what came of them",
            "outcome",
            routes.iter().map(|(route, of)| (&**route, &of.replays)),
        )?;
        self.of_each(
            "scrubbed",
            "Answers in which a credential was overwritten",
            "where",
            routes.iter().map(|(route, of)| (&**route, &of.scrubbed)),
        )
    }

    /// What is counted of each route by something else, which is the label.
    fn of_each<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        routes: impl Iterator<Item = (&'a str, &'a BTreeMap<&'static str, u64>)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Counter, |family| {
            for (route, counts) in routes {
                for (value, count) in counts {
                    counter(family, &[("route", route), (label, *value)], *count)?;
                }
            }
            Ok(())
        })
    }

    fn of_connections(&mut self, counts: &Counts) -> fmt::Result {
        self.family(
            "connections",
            "Open client connections",
            MetricType::Gauge,
            |family| {
                for (listener, open) in &counts.connections {
                    family
                        .encode_family(&[("listener", &**listener)])?
                        .encode_gauge(&as_gauge(*open))?;
                }
                Ok(())
            },
        )?;
        self.family(
            "upstream_connections_opened",
            "Connections opened",
            MetricType::Counter,
            |family| {
                counts.opened.iter().try_for_each(|(upstream, opened)| {
                    counter(family, &[("upstream", upstream)], *opened)
                })
            },
        )
    }

    fn of_credentials(&mut self, credentials: &[(Arc<str>, Status)]) -> fmt::Result {
        self.family(
            "credential_exchanges",
            "Attempts to obtain a value",
            MetricType::Counter,
            |family| {
                for (credential, status) in credentials {
                    let outcomes = [
                        ("ok", status.succeeded),
                        ("failed", status.failed),
                        ("refused", status.refused),
                    ];
                    for (outcome, count) in outcomes {
                        counter(
                            family,
                            &[("credential", &**credential), ("outcome", outcome)],
                            count,
                        )?;
                    }
                }
                Ok(())
            },
        )?;
        let mut moments = |name, help, moment: fn(&Status) -> Option<SystemTime>| {
            self.family(name, help, MetricType::Gauge, |family| {
                for (credential, status) in credentials {
                    if let Some(moment) = moment(status) {
                        family
                            .encode_family(&[("credential", &**credential)])?
                            .encode_gauge(&unix_seconds(moment))?;
                    }
                }
                Ok(())
            })
        };
        moments(
            "credential_expiry_timestamp_seconds",
            "When the value in force ends",
            |status| status.expires,
        )?;
        moments(
            "credential_last_success_timestamp_seconds",
            "When a value was last obtained",
            |status| status.last_success,
        )
    }
}

fn counter(family: &mut MetricEncoder<'_>, labels: &[(&str, &str)], count: u64) -> fmt::Result {
    family
        .encode_family(&labels)?
        .encode_counter::<NoLabelSet, _, u64>(&count, None)
}

fn histogram(
    family: &mut MetricEncoder<'_>,
    route: &Arc<str>,
    counts: &HistogramCounts,
) -> fmt::Result {
    let bounds = BUCKETS.into_iter().chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(counts.counts).collect();
    let all = counts.counts.iter().sum();
    family
        .encode_family(&[("route", &**route)])?
        .encode_histogram::<NoLabelSet>(counts.sum, all, &buckets, None)
}

fn as_gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn unix_seconds(moment: SystemTime) -> f64 {
    moment
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
