//! `LabelSelector` of Kubernetes' API (meta/v1): labels that something must have, and conditions on labels.

use std::collections::BTreeMap;

use serde::Deserialize;

/// All of it must hold; empty: it holds for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
    #[serde(default)]
    pub match_expressions: Vec<LabelExpression>,
}

/// A condition on one label. `In` and `NotIn` name values, the others none; something without the label is not in any list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "LabelExpressionObject")]
pub struct LabelExpression {
    pub key: String,
    pub operator: LabelOperator,
    pub values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum LabelOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// As it is written.
#[derive(Deserialize)]
struct LabelExpressionObject {
    key: String,
    operator: LabelOperator,
    #[serde(default)]
    values: Vec<String>,
}

impl TryFrom<LabelExpressionObject> for LabelExpression {
    type Error = String;

    fn try_from(object: LabelExpressionObject) -> Result<Self, String> {
        let LabelExpressionObject { key, operator, values } = object;
        match (operator, values.is_empty()) {
            (LabelOperator::In | LabelOperator::NotIn, true) => Err(format!("{operator:?} needs `values`")),
            (LabelOperator::Exists | LabelOperator::DoesNotExist, false) => {
                Err(format!("{operator:?} takes no `values`"))
            }
            _ => Ok(LabelExpression { key, operator, values }),
        }
    }
}
