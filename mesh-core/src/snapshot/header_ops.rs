//! Header operations, in the order in which they take effect.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{FormatContext, Template};

/// Operations on both sides of a request.
#[derive(Clone, Debug, Default)]
pub struct CompiledHeaderOps {
    pub request: CompiledHeaderOp,
    pub response: CompiledHeaderOp,
}

impl CompiledHeaderOps {
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }
}

/// Which headers an operation edits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Side {
    #[default]
    Request,
    Response,
}

/// Operations on one side: passes one after the other (the destination's, then the rule's, where they are apart).
#[derive(Clone, Debug, Default)]
pub struct CompiledHeaderOp {
    pub(crate) side: Side,
    pub(crate) passes: Vec<Pass>,
    /// New authority; only for requests.
    pub(crate) authority: Option<Template>,
}

/// All removals, then all values are computed, then all sets, then all adds: as Envoy's header parser does it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pass {
    pub(crate) remove: Vec<HeaderName>,
    pub(crate) set: Vec<(HeaderName, Value)>,
    pub(crate) add: Vec<(HeaderName, Value)>,
}

/// A value without commands is ready.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Ready(HeaderValue),
    Template(Template),
}

impl Pass {
    pub(crate) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// One pass of both; what `inner` sets wins.
    pub(crate) fn join(mut self, inner: Pass) -> Pass {
        self.remove.extend(inner.remove);
        self.set.extend(inner.set);
        self.add.extend(inner.add);
        self
    }
}

impl CompiledHeaderOp {
    pub fn is_empty(&self) -> bool {
        self.passes.is_empty() && self.authority.is_none()
    }

    /// Edits the headers and returns the new authority of a request, if there is one. A value that comes out empty
    /// changes nothing, and one that is no legal header value is left out.
    pub fn apply(&self, headers: &mut HeaderMap, context: &dyn FormatContext) -> Option<String> {
        let authority = self.authority.as_ref().and_then(|template| {
            let text = template.format(self.side, headers, context);
            String::from_utf8(text).ok().filter(|text| !text.is_empty())
        });
        for pass in &self.passes {
            self.run(pass, headers, context);
        }
        authority
    }

    fn run(&self, pass: &Pass, headers: &mut HeaderMap, context: &dyn FormatContext) {
        for name in &pass.remove {
            headers.remove(name);
        }
        // Nothing computed needs to wait if there is only one operation or none is computed.
        let computed: smallvec::SmallVec<[Option<HeaderValue>; 4]> =
            pass.set.iter().chain(&pass.add).map(|(_, value)| value.compute(self.side, headers, context)).collect();
        let mut computed = computed.into_iter();
        for ((name, _), value) in pass.set.iter().zip(computed.by_ref()) {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        for ((name, _), value) in pass.add.iter().zip(computed) {
            if let Some(value) = value {
                headers.append(name, value);
            }
        }
    }
}

impl Value {
    fn compute(&self, side: Side, headers: &HeaderMap, context: &dyn FormatContext) -> Option<HeaderValue> {
        match self {
            Value::Ready(value) => Some(value.clone()),
            Value::Template(template) => {
                let text = template.format(side, headers, context);
                if text.is_empty() { None } else { HeaderValue::from_bytes(&text).ok() }
            }
        }
    }
}

#[cfg(test)]
#[path = "header_ops_tests.rs"]
mod tests;
