//! Rights by Kubernetes: whether a service account may read the secrets of its namespace. A proxy that is not a gateway is given no
//! more than its workload could read itself.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::authorization::v1::{LocalSubjectAccessReview, ResourceAttributes, SubjectAccessReviewSpec};
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};

use super::Identity;

/// Longest that a question takes.
const REVIEW: Duration = Duration::from_secs(10);

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account {
    pub namespace: String,
    pub name: String,
}

impl From<&Identity> for Account {
    /// That which was authenticated.
    fn from(identity: &Identity) -> Account {
        Account { namespace: identity.namespace.clone(), name: identity.service_account.clone() }
    }
}

/// Says who may read secrets.
#[async_trait]
pub trait Authorize: Send + Sync + 'static {
    /// Whether the account may list the secrets of its namespace; an error: that cannot be found out now.
    async fn may_read_secrets(&self, account: &Account) -> Result<bool, String>;
}

/// Asks the API server, of the account's namespace only: so the right to ask is one of those namespaces whose secrets can be
/// read here at all.
pub struct SecretReviewer {
    client: Client,
}

impl SecretReviewer {
    #[must_use]
    pub fn new(client: Client) -> SecretReviewer {
        SecretReviewer { client }
    }
}

#[async_trait]
impl Authorize for SecretReviewer {
    async fn may_read_secrets(&self, account: &Account) -> Result<bool, String> {
        let api: Api<LocalSubjectAccessReview> = Api::namespaced(self.client.clone(), &account.namespace);
        let (params, review) = (PostParams::default(), question(account));
        let answer = tokio::time::timeout(REVIEW, api.create(&params, &review)).await;
        let answer = answer.map_err(|_| "the API server does not answer".to_owned())?;
        // What is not allowed is denied, whatever else could not be evaluated: a Role that is gone is such an error, and takes a right.
        Ok(answer.map_err(|error| error.to_string())?.status.is_some_and(|status| status.allowed))
    }
}

/// As the API server itself asks when the account comes: with its groups, to which rights may be bound. Istio asks for `list`.
fn question(account: &Account) -> LocalSubjectAccessReview {
    let Account { namespace, name } = account;
    let groups = [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
        "system:authenticated".to_owned(),
    ];
    LocalSubjectAccessReview {
        metadata: ObjectMeta { namespace: Some(namespace.clone()), ..ObjectMeta::default() },
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{namespace}:{name}")),
            groups: Some(groups.to_vec()),
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.clone()),
                verb: Some("list".to_owned()),
                group: Some(String::new()),
                version: Some("v1".to_owned()),
                resource: Some("secrets".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        status: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_question_is_about_the_account_in_its_own_namespace() {
        let account = Account { namespace: "shop".to_owned(), name: "cart".to_owned() };
        let asked = serde_json::to_value(question(&account)).unwrap();
        let wanted = serde_json::json!({
            "user": "system:serviceaccount:shop:cart",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
            "resourceAttributes": { "namespace": "shop", "verb": "list", "group": "", "version": "v1", "resource": "secrets" },
        });
        assert_eq!((&asked["spec"], &asked["metadata"]["namespace"]), (&wanted, &"shop".into()));
    }
}
