//! The injector's settings: which pods get a sidecar where neither label nor annotation of the pod says so. In Istio's words, and
//! where Istio has them.

use std::collections::BTreeMap;

use mesh_core::api::LabelSelector;
use mesh_core::world::fits;
use serde::Deserialize;

/// ConfigMap of the controller's namespace.
pub const SETTINGS: &str = "istio-sidecar-injector";
/// Its key.
pub const KEY: &str = "config";

/// See the module. What else is written there is another one's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    #[serde(default)]
    policy: Policy,
    #[serde(default)]
    never_inject_selector: Vec<LabelSelector>,
    #[serde(default)]
    always_inject_selector: Vec<LabelSelector>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Policy {
    #[default]
    Enabled,
    Disabled,
}

/// What is said of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Yes,
    /// By the selector of this number in `neverInjectSelector`.
    Never(usize),
    /// `policy: disabled`
    No,
}

impl Selection {
    /// Of the ConfigMap's text.
    pub fn read(text: &str) -> Result<Selection, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    pub(super) fn of(&self, labels: &BTreeMap<String, String>) -> Said {
        // One without conditions would be for all pods: nobody means that.
        let selects = |selector: &LabelSelector| *selector != LabelSelector::default() && fits(selector, labels);
        if let Some(number) = self.never_inject_selector.iter().position(selects) {
            return Said::Never(number);
        }
        match self.policy {
            Policy::Disabled if !self.always_inject_selector.iter().any(selects) => Said::No,
            _ => Said::Yes,
        }
    }
}
