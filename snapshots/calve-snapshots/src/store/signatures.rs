//! Signatures of the names in a store.

use std::io::{Read as _, Write as _};

use nix::fcntl::FlockArg;

use super::{Store, dir};
use crate::signature::{self, MAX_LEN, Signed};
use crate::snapshot::{self, Found};
use crate::{Damage, Digest, Error, Progress, SigningKey, Verify};

impl Store {
    /// Reads back every byte of the snapshot `name`, as [`Store::verify`] does but for whose it is, and signs it with
    /// `key`, if it is the `wanted` one: whoever has built it knows its id, and others may write to the store. Signatures
    /// of other keys stay; those of what stood here before go.
    ///
    /// # Errors
    ///
    /// For what is damaged; and [`Error::Replaced`] if the name stands for another snapshot than the one that is
    /// wanted or was read.
    pub fn sign(
        &self,
        name: &str,
        wanted: Option<Digest>,
        key: &SigningKey,
        progress: Progress<'_>,
    ) -> Result<Digest, Error> {
        let id = snapshot::open(self, name, None, Verify::Full, None, progress)?.id();
        if wanted.is_some_and(|wanted| wanted != id) {
            return Err(Error::Replaced { name: name.into() });
        }
        let _lock = self.lock(FlockArg::LockExclusive)?;
        let found = self.find(name)?;
        if found.id != id {
            return Err(Error::Replaced { name: name.into() });
        }
        let ours = key.sign(name, id);
        let mut signatures = match found.signatures() {
            // What is no signature is nobody's.
            Err(Error::Damaged { damage: Damage::Signatures(_), .. }) => Vec::new(),
            signatures => signatures?,
        };
        signatures.retain(|other| other.id == id && !other.is_by(&ours));
        signatures.push(ours);
        self.write_signatures(name, &signatures)?;
        Ok(id)
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
