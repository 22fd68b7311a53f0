//! From a name to the addresses that are answered, as Istio's agent has it: the name itself, else the longest pattern that it
//! falls under, else the same without the search domain that resolvers put behind names first.

use crate::model::{DnsName, Resources};

/// Names that are answered. It shares what it was made from: to look a name up, and to make the next table, costs little.
#[derive(Clone, Debug, Default)]
pub struct DnsTable(Resources<DnsName>);

/// What is answered to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsMatch<'t, 'n> {
    pub name: &'t DnsName,
    /// What was asked for was this with a search domain behind it.
    pub without_search: Option<&'n str>,
}

impl DnsTable {
    pub(crate) fn new(names: &Resources<DnsName>) -> DnsTable {
        DnsTable(names.clone())
    }

    /// `asked` is in lower case and has no dot at its end, and so has `search`. None: somebody else knows the name, or nobody.
    pub fn find<'t, 'n>(&'t self, asked: &'n str, search: Option<&str>) -> Option<DnsMatch<'t, 'n>> {
        if self.0.is_empty() {
            return None;
        }
        if let Some(name) = self.known(asked) {
            return Some(DnsMatch { name, without_search: None });
        }
        let short = asked.strip_suffix(search?)?.strip_suffix('.')?;
        // One word and a search domain are a Service of Kubernetes, if anything; the word alone is asked for in the end.
        let name = if short.contains('.') { self.known(short)? } else { return None };
        Some(DnsMatch { name, without_search: Some(short) })
    }

    fn known(&self, asked: &str) -> Option<&DnsName> {
        let above = std::iter::successors(asked.split_once('.'), |(_, above)| above.split_once('.'));
        let mut patterns = above.map(|(_, above)| self.0.get(format!("*.{above}").as_str()));
        self.0.get(asked).or_else(|| patterns.find_map(|name| name)).map(|name| &**name)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::object::ObjectRef;

    fn table(names: &[&str]) -> DnsTable {
        let name = |(number, name): (usize, &&str)| DnsName {
            key: (*name).into(),
            addresses: vec![[10, 0, 0, u8::try_from(number).unwrap()].into()],
            origin: ObjectRef::new("ServiceEntry", "default", "a"),
        };
        DnsTable::new(&names.iter().enumerate().map(name).map(|name| (name.key.clone(), Arc::new(name))).collect())
    }

    fn found(table: &DnsTable, asked: &str) -> Option<String> {
        let found = table.find(asked, Some("default.svc.cluster.local"))?;
        let short = found.without_search.map(|short| format!(" ({short})")).unwrap_or_default();
        Some(format!("{}{short}", found.name.key))
    }

    #[test]
    fn the_name_comes_first_then_the_longest_pattern() {
        let table = table(&["a.example", "*.example", "*.deep.example", "b.deep.example"]);
        for (asked, name) in [
            ("a.example", Some("a.example")),
            ("b.example", Some("*.example")),
            ("x.a.example", Some("*.example")),
            ("b.deep.example", Some("b.deep.example")),
            ("c.deep.example", Some("*.deep.example")),
            ("d.c.deep.example", Some("*.deep.example")),
            ("deep.example", Some("*.example")),
            ("example", None),
            ("", None),
            ("a.example.org", None),
        ] {
            assert_eq!(found(&table, asked).as_deref(), name, "{asked}");
        }
    }

    #[test]
    fn a_name_with_the_search_domain_is_the_name() {
        let table = table(&["a.example", "*.wild.example", "word", "b.example.default.svc.cluster.local", "b.example"]);
        for (asked, name) in [
            ("a.example.default.svc.cluster.local", Some("a.example (a.example)")),
            ("x.wild.example.default.svc.cluster.local", Some("*.wild.example (x.wild.example)")),
            ("b.example.default.svc.cluster.local", Some("b.example.default.svc.cluster.local")),
            ("a.example.svc.cluster.local", None),
            ("a.exampledefault.svc.cluster.local", None),
            // That is a Service, if anything.
            ("word.default.svc.cluster.local", None),
            ("word", Some("word")),
            ("default.svc.cluster.local", None),
        ] {
            assert_eq!(found(&table, asked).as_deref(), name, "{asked}");
        }
        assert_eq!(table.find("a.example.default.svc.cluster.local", None), None);
    }
}
