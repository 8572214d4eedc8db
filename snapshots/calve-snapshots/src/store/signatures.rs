//! Signatures of the names in a store.

use std::io::{Read as _, Write as _};

use nix::fcntl::FlockArg;

use super::{Store, dir};
use crate::signature::{self, MAX_LEN, Signed};
use crate::snapshot::{self, Found};
use crate::{Damage, Digest, Error, Progress, SigningKey, Verify};

impl Store {
    /// Reads back every byte of the snapshot `name`, as [`Store::verify`] does but for whose it is, and signs it with
    /// `key`. Signatures of other keys stay; those of what stood here before go.
    ///
    /// # Errors
    ///
    /// For what is damaged; and [`Error::Replaced`] if the name stands for another snapshot than the one that was
    /// read.
    pub fn sign(
        &self,
        name: &str,
        key: &SigningKey,
        progress: Progress<'_>,
    ) -> Result<Digest, Error> {
        let id = snapshot::open(self, name, None, Verify::Full, None, progress)?.id();
        let _lock = self.lock(FlockArg::LockExclusive)?;
        let found = self.find(name)?;
        if found.id != id {
            return Err(Error::Replaced { name: name.into() });
        }
        self.countersign(name, id, key, None)?;
        Ok(id)
    }

    /// Adds to the signatures of `name` that it stands for `id`; keeps those of others for that, and for what it may
    /// have stood for `before`. The caller holds the store lock.
    pub(super) fn countersign(
        &self,
        name: &str,
        id: Digest,
        key: &SigningKey,
        before: Option<Digest>,
    ) -> Result<(), Error> {
        let ours = key.sign(name, id);
        let mut signatures = match (Found { store: self, name, id }).signatures() {
            // What is no signature is nobody's.
            Err(Error::Damaged { damage: Damage::Signatures(_), .. }) => Vec::new(),
            signatures => signatures?,
        };
        signatures.retain(|other| match other.id {
            other_id if other_id == id => !other.is_by(&ours),
            other_id => Some(other_id) == before,
        });
        signatures.push(ours);
        self.write_signatures(name, &signatures)
    }

    fn write_signatures(&self, name: &str, signatures: &[Signed]) -> Result<(), Error> {
        let text = signature::print(signatures);
        if text.len() as u64 > MAX_LEN {
            return Err(Error::TooManySigners { name: name.into() });
        }
        // A dotted name is swept away if this process dies here.
        let draft = format!(".signatures-{name}");
        self.tmp.unlink(&draft)?;
        let path = self.tmp.path_of(&draft);
        let mut file = self.tmp.create(&draft)?;
        file.write_all(text.as_bytes()).map_err(Error::io("write", &path))?;
        dir::seal(&file, &path)?;
        self.tmp.rename(&draft, &self.signatures, name)?;
        self.signatures.sync()
    }
}

impl Found<'_> {
    /// Whoever signed what the name stands for, now or before; nobody, if there is no such file.
    pub(crate) fn signatures(&self) -> Result<Vec<Signed>, Error> {
        let damaged = |damage| Error::Damaged {
            name: self.name.into(),
            file: format!("signatures/{}", self.name),
            damage,
        };
        let file = match self.store.signatures.read(self.name) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(damaged(e.into())),
        };
        let mut text = String::new();
        let read = file.take(MAX_LEN).read_to_string(&mut text);
        read.map_err(|e| damaged(Damage::Read(e)))?;
        signature::parse(&text).map_err(|e| damaged(e.into()))
    }
}
