//! A cell: for each field, bounds of its values.

use super::field::{Change, FieldId, Narrowing, SetId};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum There {
    #[default]
    Either,
    Yes,
    No,
}

/// What the values of a field must be like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Bounds {
    /// A value is in each of them; sorted.
    pub(super) some: Vec<SetId>,
    /// No value is in any of them; sorted.
    pub(super) none: Vec<SetId>,
    pub(super) there: There,
}

impl Bounds {
    /// False: that cannot be.
    pub(super) fn narrow(&mut self, to: Narrowing) -> bool {
        match to {
            Narrowing::Some(set) => {
                insert(&mut self.some, set);
                self.none.binary_search(&set).is_err() && self.narrow(Narrowing::Present)
            }
            Narrowing::None(set) => {
                insert(&mut self.none, set);
                self.some.binary_search(&set).is_err()
            }
            Narrowing::Present => {
                let fits = self.there != There::No;
                self.there = There::Yes;
                fits
            }
            Narrowing::Absent => {
                let fits = self.there != There::Yes;
                self.there = There::No;
                fits
            }
        }
    }
}

fn insert(sets: &mut Vec<SetId>, set: SetId) {
    if let Err(place) = sets.binary_search(&set) {
        sets.insert(place, set);
    }
}

/// Requests whose fields are within bounds. Fields that are not in it have none.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell(Vec<(FieldId, Bounds)>);

impl Cell {
    pub(super) fn bounds(&self, field: FieldId) -> Option<&Bounds> {
        self.0.iter().find(|(known, _)| *known == field).map(|(_, bounds)| bounds)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (FieldId, &Bounds)> {
        self.0.iter().map(|(field, bounds)| (*field, bounds))
    }

    /// False: that cannot be.
    pub(super) fn narrow(&mut self, change: Change) -> bool {
        match self.0.iter_mut().find(|(known, _)| *known == change.field) {
            Some((_, bounds)) => bounds.narrow(change.to),
            None => {
                let mut bounds = Bounds::default();
                let fits = bounds.narrow(change.to);
                self.0.push((change.field, bounds));
                fits
            }
        }
    }

    /// The bounds of a field after a change; none: that cannot be.
    pub(super) fn narrowed(&self, change: Change) -> Option<Bounds> {
        let mut bounds = self.bounds(change.field).cloned().unwrap_or_default();
        bounds.narrow(change.to).then_some(bounds)
    }
}
