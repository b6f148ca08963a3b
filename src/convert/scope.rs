//! Settings in effect at a place of the tree, by nginx's rules of inheritance.

use super::syntax::Directive;

/// Blocks around a place, the innermost first.
///
/// A directive of an outer block is inherited unless the inner block has one of that name. That is true of directives
/// that may stand several times, too: one `add_header` in a location hides all of the server.
#[derive(Debug, Clone, Default)]
pub struct Scope<'a> {
    levels: Vec<&'a [Directive]>,
}

impl<'a> Scope<'a> {
    /// The scope of one block.
    pub fn of(block: &'a [Directive]) -> Self {
        Self { levels: vec![block] }
    }

    /// The scope of a block within this one.
    pub fn within(&self, block: &'a [Directive]) -> Self {
        let mut levels = Vec::with_capacity(self.levels.len() + 1);
        levels.push(block);
        levels.extend(&self.levels);
        Self { levels }
    }

    /// The innermost block.
    pub fn own(&self) -> &'a [Directive] {
        self.levels.first().copied().unwrap_or_default()
    }

    /// The scope around the innermost block.
    pub fn outer(&self) -> Self {
        Self { levels: self.levels.iter().skip(1).copied().collect() }
    }

    /// The directive in effect.
    pub fn one(&self, name: &str) -> Option<&'a Directive> {
        self.any(&[name])
    }

    /// The directive in effect among several names that exclude each other, as `root` and `alias` do.
    pub fn any(&self, names: &[&str]) -> Option<&'a Directive> {
        self.all_of(names).into_iter().next()
    }

    /// All directives of this name in effect.
    pub fn all(&self, name: &str) -> Vec<&'a Directive> {
        self.all_of(&[name])
    }

    /// All directives in effect of several names that are inherited together, as `allow` and `deny` are.
    pub fn all_of(&self, names: &[&str]) -> Vec<&'a Directive> {
        let is_one = |directive: &&Directive| names.contains(&directive.name.as_str());
        let level = |level: &&'a [Directive]| level.iter().filter(is_one).collect::<Vec<_>>();
        self.levels.iter().map(level).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// Directives of this name that an inner block hides.
    pub fn hidden(&self, name: &str) -> Vec<&'a Directive> {
        let is_one = |directive: &&Directive| directive.name == name;
        let has_one = |level: &[Directive]| level.iter().any(|one| one.name == name);
        let outer = self.levels.iter().skip_while(|level| !has_one(level)).skip(1);
        outer.flat_map(|level| level.iter().filter(is_one)).collect()
    }
}
