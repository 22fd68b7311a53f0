//! The hosts that the servers of a Gateway open, found by the host of a VirtualService. A gateway may have ten thousand
//! servers and as many VirtualServices: who meets whom is looked up, not tried.

use std::collections::BTreeMap;

use crate::model::HostPattern;

/// Numbers by host pattern.
#[derive(Debug, Default)]
pub(super) struct HostIndex {
    /// Patterns read backwards (a suffix ends in `*`): a suffix is a range.
    numbers: BTreeMap<String, Vec<usize>>,
    patterns: Vec<HostPattern>,
}

/// Two patterns have names in common.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meeting {
    pub number: usize,
    /// The narrower of the two.
    pub pattern: HostPattern,
}

impl HostIndex {
    /// Numbers are given in the order in which patterns are added.
    pub fn add(&mut self, pattern: HostPattern) {
        self.numbers.entry(backwards(&pattern)).or_default().push(self.patterns.len());
        self.patterns.push(pattern);
    }

    /// All patterns that have names in common with this one.
    pub fn meet(&self, wanted: &HostPattern) -> Vec<Meeting> {
        let mut found = Vec::new();
        let mut narrower = |numbers: &[usize]| {
            for number in numbers {
                let pattern = self.patterns.get(*number);
                found.extend(pattern.map(|pattern| Meeting { number: *number, pattern: pattern.clone() }));
            }
        };
        match wanted {
            HostPattern::Any => self.numbers.values().for_each(|numbers| narrower(numbers)),
            HostPattern::Exact(name) => {
                self.at(&backwards(wanted), &mut narrower);
                self.wider(name, |number| found.push(Meeting { number, pattern: wanted.clone() }));
            }
            HostPattern::Suffix(suffix) => {
                let start: String = suffix.chars().rev().collect();
                let inside = self.numbers.range(start.clone()..).take_while(|(key, _)| key.starts_with(&start));
                inside.filter(|(key, _)| **key != start).for_each(|(_, numbers)| narrower(numbers));
                self.wider(suffix, |number| found.push(Meeting { number, pattern: wanted.clone() }));
            }
        }
        found
    }

    fn at(&self, key: &str, mut add: impl FnMut(&[usize])) {
        if let Some(numbers) = self.numbers.get(key) {
            add(numbers);
        }
    }

    /// `*` and all `*.suffix` that cover the name and are not the name itself.
    fn wider(&self, name: &str, mut add: impl FnMut(usize)) {
        let mut add = |numbers: &[usize]| numbers.iter().for_each(|number| add(*number));
        self.at("*", &mut add);
        for (at, _) in name.char_indices().skip(1).filter(|(_, c)| matches!(c, '.' | '-')) {
            if let Some(suffix) = name.get(at..) {
                self.at(&backwards(&HostPattern::Suffix(suffix.into())), &mut add);
            }
        }
    }
}

fn backwards(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(host) => host.chars().rev().collect(),
        HostPattern::Suffix(suffix) => suffix.chars().rev().chain(['*']).collect(),
        HostPattern::Any => "*".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::hostname;

    #[test]
    fn who_meets_whom_is_as_if_all_were_tried() {
        let patterns = ["*", "*.com", "*.a.com", "*.x-a.com", "*-a.com", "a.com", "x.a.com", "b.org"];
        let mut index = HostIndex::default();
        patterns.iter().for_each(|pattern| index.add(hostname::pattern(pattern)));
        for wanted in patterns.into_iter().chain(["y.x.a.com", "*.org", "y.x-a.com", "com"]) {
            let wanted = hostname::pattern(wanted);
            let mut found: Vec<(usize, String)> =
                index.meet(&wanted).into_iter().map(|meeting| (meeting.number, meeting.pattern.to_string())).collect();
            found.sort();
            let tried = patterns.iter().enumerate().filter_map(|(number, pattern)| {
                let pattern = hostname::pattern(pattern);
                Some((number, hostname::intersection(&pattern, &wanted)?.to_string()))
            });
            assert_eq!(found, tried.collect::<Vec<_>>(), "{wanted}");
        }
    }
}
