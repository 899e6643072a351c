//! The `traditional_compatible` flavour: one order over all routes.

use crate::index::{Best, Index};
use crate::matcher::{Matcher, Query};
use crate::priority::{Priority, parts};
use crate::request::Flavor;
use crate::router::{Entry, Problem, is_served};

#[derive(Debug)]
pub(crate) struct Compat {
    pub(crate) matchers: Vec<Matcher>,
    /// Of each matcher; read only to choose between two routers' best.
    priorities: Vec<Priority>,
    index: Index,
}

impl Compat {
    pub(crate) fn build(entries: &[Entry]) -> Result<Self, Vec<Problem>> {
        let mut ranked: Vec<(Priority, Matcher)> = Vec::with_capacity(entries.len());
        let mut problems = Vec::new();
        for (i, entry) in entries.iter().enumerate().filter(|(_, e)| is_served(e)) {
            for part in parts(&entry.route) {
                match Matcher::new(i, &entry.route, &part.paths, Flavor::TraditionalCompatible) {
                    Ok(m) => ranked.push((Priority::of(&entry.route, &part), m)),
                    Err(what) => problems.push(Problem {
                        route: entry.route.id,
                        what,
                    }),
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        ranked.sort_unstable_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        let (priorities, matchers): (Vec<Priority>, Vec<Matcher>) = ranked.into_iter().unzip();
        let ranks: Vec<u32> = (0..matchers.len() as u32).collect();
        let index = Index::build(&matchers, &ranks);
        Ok(Compat {
            matchers,
            priorities,
            index,
        })
    }

    pub(crate) fn find(&self, q: &Query<'_>) -> Best {
        let mut best = Best::NONE;
        self.index.find(&self.matchers, q, &mut best);
        best
    }

    /// The priority of a matcher; `None`, which is less than any, for the rank of nothing.
    pub(crate) fn priority(&self, rank: u32) -> Option<Priority> {
        self.priorities.get(rank as usize).copied()
    }
}
