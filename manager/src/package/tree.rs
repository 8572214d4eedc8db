//! A tree of entries, in memory: what the folder will be.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// A node, by its number. Parents have lower numbers than their children.
pub(super) type Id = usize;

/// The root.
pub(super) const ROOT: Id = 0;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    /// The entry of the archive with this number.
    File {
        entry: usize,
        executable: bool,
    },
    /// The entry of the archive with this number, whose content is where it leads.
    Link {
        entry: usize,
    },
}

/// A tree. Of each path there is one node.
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// Nodes by parent and name.
    places: HashMap<(Id, Vec<u8>), Id>,
}

struct Node {
    parent: Id,
    name: Vec<u8>,
    kind: Kind,
}

/// Why a node cannot be added.
#[derive(Debug)]
pub(super) enum Misplaced {
    Full,
    Twice,
    NoFolder,
}

impl Tree {
    /// Only the root.
    pub(super) fn new() -> Self {
        let root = Node { parent: ROOT, name: Vec::new(), kind: Kind::Folder };
        Self { nodes: vec![root], places: HashMap::new() }
    }

    /// Adds a node, and the folders on the way to it, as long as there are no more than `most` nodes besides the root.
    pub(super) fn add(&mut self, path: &[&[u8]], kind: Kind, most: usize) -> Result<(), Misplaced> {
        let Some((name, folders)) = path.split_last() else { return Err(Misplaced::Twice) };
        let mut at = ROOT;
        for folder in folders {
            at = self.child_or(at, folder, Kind::Folder, most)?.0;
            if self.nodes[at].kind != Kind::Folder {
                return Err(Misplaced::NoFolder);
            }
        }
        let (id, new) = self.child_or(at, name, kind, most)?;
        // A folder may have been made for what is in it.
        let again = kind == Kind::Folder && self.nodes[id].kind == Kind::Folder;
        if new || again { Ok(()) } else { Err(Misplaced::Twice) }
    }

    /// The child of that name, which is made if there is none; and whether it was.
    fn child_or(
        &mut self,
        parent: Id,
        name: &[u8],
        kind: Kind,
        most: usize,
    ) -> Result<(Id, bool), Misplaced> {
        match self.places.entry((parent, name.to_vec())) {
            Entry::Occupied(place) => Ok((*place.get(), false)),
            Entry::Vacant(_) if self.nodes.len() > most => Err(Misplaced::Full),
            Entry::Vacant(place) => {
                let id = self.nodes.len();
                place.insert(id);
                self.nodes.push(Node { parent, name: name.to_vec(), kind });
                Ok((id, true))
            }
        }
    }

    /// All nodes but the root, parents before their children.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (Id, Kind)> {
        self.nodes.iter().enumerate().skip(1).map(|(id, node)| (id, node.kind))
    }

    /// The child of that name.
    pub(super) fn child(&self, parent: Id, name: &[u8]) -> Option<(Id, Kind)> {
        let id = *self.places.get(&(parent, name.to_vec()))?;
        Some((id, self.nodes[id].kind))
    }

    /// The folder that a node is in.
    pub(super) fn parent(&self, id: Id) -> Id {
        self.nodes[id].parent
    }

    /// The path of a node below the root.
    pub(super) fn path(&self, mut id: Id) -> Vec<u8> {
        let mut names = Vec::new();
        while id != ROOT {
            names.push(self.nodes[id].name.as_slice());
            id = self.nodes[id].parent;
        }
        names.reverse();
        names.join(&b'/')
    }
}
