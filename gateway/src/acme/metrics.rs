//! When certificates end.

use std::sync::Arc;

use mesh_core::model::CertificateSource;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::live::Cells;

const EXPIRY: (&str, &str) =
    ("meshgate_certificate_expiry_timestamp_seconds", "When a certificate that is served ends, in seconds since 1970.");

/// Of all certificates that are served, wherever they come from.
pub struct ExpiryCollector {
    cells: Arc<Cells>,
    description: Desc,
}

impl ExpiryCollector {
    pub fn new(cells: Arc<Cells>) -> prometheus::Result<ExpiryCollector> {
        let labels = vec!["source".to_owned()];
        let description =
            Desc::new(EXPIRY.0.to_owned(), EXPIRY.1.to_owned(), labels, std::collections::HashMap::new())?;
        Ok(ExpiryCollector { cells, description })
    }
}

impl Collector for ExpiryCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    #[allow(clippy::cast_precision_loss)]
    fn collect(&self) -> Vec<MetricFamily> {
        let table = self.cells.certificates.load();
        let mut rows: Vec<_> = table.iter().collect();
        rows.sort_by_key(|(source, _)| *source);
        let metrics = rows.into_iter().map(|(source, certificate)| {
            let mut label = LabelPair::default();
            label.set_name("source".to_owned());
            label.set_value(source_name(source));
            let mut gauge = Gauge::default();
            gauge.set_value(certificate.info.not_after as f64);
            let mut metric = Metric::from_label(vec![label]);
            metric.set_gauge(gauge);
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(EXPIRY.0.to_owned());
        family.set_help(EXPIRY.1.to_owned());
        family.set_field_type(MetricType::GAUGE);
        family.set_metric(metrics.collect());
        vec![family]
    }
}

/// As metrics and pages call it.
pub fn source_name(source: &CertificateSource) -> String {
    match source {
        CertificateSource::Secret(key) | CertificateSource::Issued { secret: key, .. } => key.to_string(),
        CertificateSource::Files { certificate, .. } => certificate.clone(),
        CertificateSource::Ordered(name) => format!("ordered/{name}"),
    }
}
