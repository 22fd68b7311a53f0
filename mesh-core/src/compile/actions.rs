//! Actions, prepared once for all the rules that share them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use smallvec::SmallVec;

use super::regex::Patterns;
use super::{cors, header_ops, regex};
use crate::diag::{self, Diagnostic};
use crate::model::{Action, DestinationRef, Forward, Key, Mirror, PathRewrite, Rewrite, Rule, RuleSource};
use crate::snapshot::{
    CompiledAction, CompiledForward, CompiledHeaderOps, CompiledMirror, CompiledPathRewrite, CompiledRewrite,
    CompiledSplit, Destinations, SubstitutionPart,
};

/// Of rules that change no header: most of them.
static NO_OPS: LazyLock<Arc<CompiledHeaderOps>> = LazyLock::new(Arc::default);

#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) action: Arc<CompiledAction>,
    pub(super) headers: Arc<CompiledHeaderOps>,
    pub(super) diagnostics: Option<Arc<[Diagnostic]>>,
}

/// The actions of one virtual host, and the destinations that they name.
pub(super) struct Actions {
    /// By the addresses of the model's action and header operations, which live as long as this does.
    prepared: HashMap<(usize, usize), Prepared>,
    destinations: Arc<Destinations>,
}

impl Actions {
    pub(super) fn new(destinations: Arc<Destinations>) -> Actions {
        Actions { prepared: HashMap::new(), destinations }
    }

    pub(super) fn destinations(self) -> Arc<Destinations> {
        self.destinations
    }

    pub(super) fn prepare(&mut self, rule: &Rule, patterns: &mut Patterns) -> Prepared {
        let address = (Arc::as_ptr(&rule.action) as usize, Arc::as_ptr(&rule.headers) as usize);
        if let Some(prepared) = self.prepared.get(&address) {
            return prepared.clone();
        }
        let mut diagnostics = Vec::new();
        let headers = if rule.headers.is_empty() {
            Arc::clone(&NO_OPS)
        } else {
            Arc::new(header_ops::rule_only(&rule.headers, &rule.source, &mut diagnostics))
        };
        let action = match rule.action.as_ref() {
            Action::Forward(forward) => {
                let mut forwarded = self.forward(forward, rule, &headers, &mut diagnostics);
                let cors = forward.cors.as_deref();
                forwarded.cors =
                    cors.map(|policy| Arc::new(cors::cors(policy, &rule.source, patterns, &mut diagnostics)));
                CompiledAction::Forward(forwarded)
            }
            Action::Redirect(redirect) => CompiledAction::Redirect(redirect.clone()),
            Action::Respond(response) => CompiledAction::Respond(response.clone()),
        };
        let diagnostics = if diagnostics.is_empty() { None } else { Some(diagnostics.into()) };
        let prepared = Prepared { action: Arc::new(action), headers, diagnostics };
        self.prepared.insert(address, prepared.clone());
        prepared
    }

    fn forward(
        &mut self,
        forward: &Forward,
        rule: &Rule,
        headers: &Arc<CompiledHeaderOps>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> CompiledForward {
        let total: u64 = forward.splits.iter().map(|split| u64::from(split.weight)).sum();
        // Beyond 32 bits the weights lose their lowest bits.
        let shift = (u64::BITS - total.leading_zeros()).saturating_sub(u32::BITS);
        let alone = forward.splits.len() == 1;
        let splits: SmallVec<[CompiledSplit; 1]> = forward
            .splits
            .iter()
            .enumerate()
            .map(|(index, split)| {
                let (key, slot) = self.destination(&split.destination);
                let headers = if split.headers.is_empty() {
                    headers.clone()
                } else {
                    let merged =
                        header_ops::merged(&rule.headers, &split.headers, alone, &rule.source, index, diagnostics);
                    Arc::new(merged)
                };
                CompiledSplit { key, weight: split.weight >> shift, headers, slot }
            })
            .collect();
        let total_weight = splits.iter().fold(0_u32, |sum, split| sum.saturating_add(split.weight));
        CompiledForward {
            rewrite: rewrite(&forward.rewrite, &rule.source, diagnostics),
            timeout: forward.timeout,
            retry: forward.retry.clone(),
            fault: forward.fault.clone(),
            mirrors: forward.mirrors.iter().map(|mirror| self.mirror(mirror)).collect(),
            cors: None,
            splits,
            total_weight,
        }
    }

    fn mirror(&mut self, mirror: &Mirror) -> CompiledMirror {
        let (key, slot) = self.destination(&mirror.destination);
        let to = CompiledSplit { key, weight: 1, headers: Arc::clone(&NO_OPS), slot };
        CompiledMirror { to: Arc::new(to), share: mirror.share }
    }

    fn destination(&mut self, destination: &DestinationRef) -> (Key, u32) {
        match destination {
            DestinationRef::Known(key) => {
                let slot =
                    self.destinations.slot(key).unwrap_or_else(|| Arc::make_mut(&mut self.destinations).add(key));
                (key.clone(), slot)
            }
            DestinationRef::Unknown(key) => (key.clone(), u32::MAX),
        }
    }
}

fn rewrite(rewrite: &Rewrite, source: &RuleSource, diagnostics: &mut Vec<Diagnostic>) -> CompiledRewrite {
    let path = match &rewrite.path {
        None => None,
        Some(PathRewrite::Prefix(new)) => Some(CompiledPathRewrite::Prefix(new.as_str().into())),
        Some(PathRewrite::Regex { pattern, substitution }) => match regex::anywhere(pattern) {
            Ok(regex) => Some(CompiledPathRewrite::Regex {
                substitution: substitution_parts(substitution),
                regex: Box::new(regex),
            }),
            Err(reason) => {
                let message = format!("{pattern:?} never matches, the path stays as it is: {reason}");
                diagnostics.push(
                    Diagnostic::new(diag::REGEX_REFUSED, message)
                        .object(&source.object)
                        .field(format!("spec.http[{}].rewrite.uriRegexRewrite.match", source.http)),
                );
                None
            }
        },
    };
    CompiledRewrite { path, authority: rewrite.authority.as_deref().map(Into::into) }
}

/// `\1` is a group, `\\` a backslash.
fn substitution_parts(text: &str) -> Box<[SubstitutionPart]> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let escaped = if char == '\\' { chars.peek().copied() } else { None };
        match escaped {
            Some(digit) if digit.is_ascii_digit() => {
                chars.next();
                if !literal.is_empty() {
                    parts.push(SubstitutionPart::Text(std::mem::take(&mut literal).into()));
                }
                parts.push(SubstitutionPart::Group(digit.to_digit(10).unwrap_or(0) as usize));
            }
            Some('\\') => {
                chars.next();
                literal.push('\\');
            }
            _ => literal.push(char),
        }
    }
    if !literal.is_empty() {
        parts.push(SubstitutionPart::Text(literal.into()));
    }
    parts.into()
}
