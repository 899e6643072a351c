//! The `traditional_compatible` flavour: one order over all routes.

use crate::index::{Best, Index};
use crate::matcher::{Matcher, Query};
use crate::priority::{Priority, parts};
use crate::request::Flavor;
use crate::router::{Entry, Problem, is_served};

#[derive(Debug)]
pub(crate) struct Compat {
    pub(crate) matchers: Vec<Matcher>,
    index: Index,
    /// Whether any route looks at paths.
    reads_paths: bool,
}

impl Compat {
    pub(crate) fn build(entries: &[Entry]) -> Result<Self, Vec<Problem>> {
        let mut ranked: Vec<(Priority, Matcher)> = Vec::with_capacity(entries.len());
        let mut problems = Vec::new();
        let mut reads_paths = false;
        for (i, entry) in entries.iter().enumerate().filter(|(_, e)| is_served(e)) {
            for part in parts(&entry.route) {
                reads_paths |= !part.paths.is_empty();
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
        let matchers: Vec<Matcher> = ranked.into_iter().map(|(_, m)| m).collect();
        let ranks: Vec<u32> = (0..matchers.len() as u32).collect();
        let index = Index::build(&matchers, &ranks);
        Ok(Compat {
            matchers,
            index,
            reads_paths,
        })
    }

    pub(crate) fn find(&self, q: &Query<'_>) -> Best {
        let mut best = Best::NONE;
        // Kong's matcher takes text: with a path that is none it fails as soon as a rule asks for it.
        if self.reads_paths && std::str::from_utf8(q.req.path).is_err() {
            return best;
        }
        self.index.find(&self.matchers, q, &mut best);
        best
    }
}
