//! Prometheus finds pods by their annotations, and one place for each: the sidecar's, which shows the application's metrics beside
//! its own. Where those are is written into its environment, in Istio's words.

use serde::Serialize;

use super::pod::Metadata;
use super::probes::STATUS_PORT;

/// Variable of the sidecar that says where the application's metrics are.
pub const APPLICATION: &str = "ISTIO_PROMETHEUS_ANNOTATIONS";
const PATH: &str = "/stats/prometheus";

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Scraped {
    scrape: String,
    path: String,
    port: String,
}

/// Leads Prometheus to the sidecar. Where the application's metrics are, as JSON; none: it has said nothing, or that it does not
/// want to be asked.
pub fn merge(metadata: &mut Metadata) -> Option<String> {
    let mut said = Scraped::default();
    let mut names = Vec::new();
    for (name, value) in &metadata.annotations {
        // Prometheus knows them by what is left when all other signs are made the same.
        match name.replace(|c: char| !c.is_ascii_alphanumeric(), "_").as_str() {
            "prometheus_io_scrape" => said.scrape.clone_from(value),
            "prometheus_io_path" => said.path.clone_from(value),
            "prometheus_io_port" => said.port.clone_from(value),
            _ => continue,
        }
        names.push(name.clone());
    }
    if matches!(&*said.scrape, "false" | "0" | "f" | "F" | "FALSE" | "False") || said.port == STATUS_PORT.to_string() {
        return None;
    }
    // Of two that mean the same Prometheus takes any.
    names.iter().for_each(|name| drop(metadata.annotations.remove(name)));
    let ours = [("scrape", "true".to_owned()), ("port", STATUS_PORT.to_string()), ("path", PATH.to_owned())];
    metadata.annotations.extend(ours.map(|(name, value)| (format!("prometheus.io/{name}"), value)));
    (said != Scraped::default()).then(|| serde_json::to_string(&said).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(annotations: &[(&str, &str)]) -> (String, Option<String>) {
        let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut metadata = Metadata { annotations, ..Metadata::default() };
        let said = merge(&mut metadata);
        let lines = metadata.annotations.iter().map(|(name, value)| format!("{name}={value}"));
        (lines.collect::<Vec<_>>().join(" "), said)
    }

    const OURS: &str = "prometheus.io/path=/stats/prometheus prometheus.io/port=15020 prometheus.io/scrape=true";

    #[test]
    fn prometheus_is_led_to_the_sidecar() {
        assert_eq!(merged(&[]), (OURS.to_owned(), None));
        let said = r#"{"scrape":"true","path":"/m","port":"9100"}"#.to_owned();
        let written = [("prometheus.io/scrape", "true"), ("prometheus.io_path", "/m"), ("prometheus_io/port", "9100")];
        assert_eq!(merged(&written), (OURS.to_owned(), Some(said)));
    }

    #[test]
    fn who_does_not_want_to_be_asked_is_not() {
        assert_eq!(merged(&[("prometheus.io/scrape", "false")]), ("prometheus.io/scrape=false".to_owned(), None));
        let done = [("prometheus.io/port", "15020"), ("prometheus.io/scrape", "true")];
        assert_eq!(merged(&done).1, None);
    }
}
