//! Images of a draft: kernel, root and code, kept once however many snapshots use them.
//!
//! An image lives in the draft until the commit, as a copy or as a second link to the store's own, so
//! garbage collection need not know of drafts.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

use super::Draft;
use crate::manifest::{Blob, Images, MediaType};
use crate::store::dir::seal;
use crate::{Digest, Error};

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The kernel.
    Kernel,
    /// The root file system.
    Root,
    /// The function's code.
    Code,
}

impl Role {
    fn media_type(self) -> MediaType {
        match self {
            Self::Kernel => MediaType::Kernel,
            Self::Root => MediaType::Root,
            Self::Code => MediaType::Code,
        }
    }

    /// Its name among the draft's files.
    fn file(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Root => "root",
            Self::Code => "code",
        }
    }
}

impl Draft<'_> {
    /// Takes a copy of the image at `path`, or of the equal one that the store has already.
    pub fn add_image(&mut self, role: Role, path: &Path) -> Result<Blob, Error> {
        let mut image = open_image(path)?;
        let read = Error::io("read", path);
        let digest = Digest::of_file(&image, |_| {}).map_err(read)?;
        self.dir.unlink(role.file())?;
        let blob = match self.adopt(role, digest)? {
            Some(length) => Blob { media_type: role.media_type(), digest, length },
            None => self.copy(role, &mut image)?,
        };
        *match role {
            Role::Kernel => &mut self.kernel,
            Role::Root => &mut self.root,
            Role::Code => &mut self.code,
        } = Some(blob);
        Ok(blob)
    }

    /// Links the store's own image of that digest into the draft, where nobody collects it. One whose
    /// bytes have changed is not used, and replaced on commit. Returns its length.
    fn adopt(&self, role: Role, digest: Digest) -> Result<Option<u64>, Error> {
        if self.store.images.link(&digest.hex(), &self.dir, role.file()).is_err() {
            return Ok(None); // not there, or a file system without hard links
        }
        let path = self.dir.path_of(role.file());
        let read = || Error::io("read", &path);
        let file = self.dir.read(role.file()).map_err(read())?;
        if Digest::of_file(&file, |_| {}).map_err(read())? != digest {
            self.dir.unlink(role.file())?;
            return Ok(None);
        }
        Ok(Some(file.metadata().map_err(read())?.len()))
    }

    /// Copies an image into the draft. The digest is that of the copy: the original may be changing.
    fn copy(&self, role: Role, image: &mut File) -> Result<Blob, Error> {
        let path = self.dir.path_of(role.file());
        let mut copy = self.dir.create(role.file())?;
        let failed = || Error::io("write", &path);
        // copy_file_range(2) underneath: shares the blocks where the file system can.
        let length = io::copy(image, &mut copy).map_err(failed())?;
        seal(&copy, &path)?;
        let digest = Digest::of_file(&copy, |_| {}).map_err(failed())?;
        Ok(Blob { media_type: role.media_type(), digest, length })
    }

    /// Moves the images into the store. The caller holds the store lock exclusively.
    pub(super) fn publish_images(&self, images: &Images) -> Result<(), Error> {
        let to = &self.store.images;
        for (role, blob) in [
            (Role::Kernel, Some(&images.kernel)),
            (Role::Root, Some(&images.root)),
            (Role::Code, images.code.as_ref()),
        ] {
            let Some(blob) = blob else { continue };
            self.dir.rename(role.file(), to, &blob.digest.hex())?;
            // rename(2) leaves both names where they are links to one file.
            self.dir.unlink(role.file())?;
        }
        to.sync()
    }
}

fn open_image(path: &Path) -> Result<File, Error> {
    // O_NONBLOCK: a FIFO is to be refused, not waited for.
    let mut options = File::options();
    options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let file = options.open(path).map_err(Error::io("open", path))?;
    let metadata = file.metadata().map_err(Error::io("open", path))?;
    if metadata.is_file() { Ok(file) } else { Err(Error::NotAnImage(path.into())) }
}
