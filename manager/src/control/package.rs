//! Packages as clients send them: what they may be, before they are stored.

use std::io::{Cursor, Read, Seek};

use zip::ZipArchive;

use super::request::Package;
use crate::api::ApiError;

/// Bytes of a package that is uploaded with a request (Lambda quotas, "Deployment package").
pub(crate) const ZIPPED_MOST: usize = 50 << 20;
/// Bytes of a package's files together (the same).
pub(crate) const UNZIPPED_MOST: u64 = 250 << 20;

/// The zip file of a request.
pub(crate) fn zip_file(package: Option<Package>) -> Result<Vec<u8>, ApiError> {
    let package = package.unwrap_or_default();
    if package.image_uri.is_some() {
        return Err(ApiError::invalid(
            "ImageUri: this host runs no container images: send a zip file as ZipFile",
        ));
    }
    if package.s3_bucket.is_some() || package.s3_key.is_some() {
        return Err(ApiError::invalid(
            "S3Bucket, S3Key: this host has no S3: send the package itself as ZipFile, up to 50 MiB",
        ));
    }
    let Some(zip_file) = package.zip_file else {
        return Err(ApiError::invalid(
            "Please provide a source for function code, or for a layer's content: ZipFile.",
        ));
    };
    check(&zip_file.0)?;
    Ok(zip_file.0)
}

/// A look at the directory only: unpacking, which trusts none of it, is for the build.
fn check(package: &[u8]) -> Result<(), ApiError> {
    if package.len() > ZIPPED_MOST {
        return Err(ApiError::too_large(format!(
            "the package has {} bytes: it may have {ZIPPED_MOST}",
            package.len()
        )));
    }
    if package.is_empty() {
        return Err(ApiError::invalid("Uploaded file must be a non-empty zip"));
    }
    let archive = ZipArchive::new(Cursor::new(package)).map_err(|_| {
        ApiError::invalid(
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        )
    })?;
    if archive.is_empty() {
        return Err(ApiError::invalid("Uploaded file must be a non-empty zip"));
    }
    if claimed(&archive) > UNZIPPED_MOST {
        return Err(ApiError::invalid(format!(
            "Unzipped size must be smaller than {UNZIPPED_MOST} bytes"
        )));
    }
    Ok(())
}

/// Bytes of a package's files together, as it says itself: the build counts them.
pub(super) fn unzipped(package: &[u8]) -> u64 {
    ZipArchive::new(Cursor::new(package)).map_or(0, |archive| claimed(&archive))
}

fn claimed<R: Read + Seek>(archive: &ZipArchive<R>) -> u64 {
    let size = archive.decompressed_size().unwrap_or(0);
    u64::try_from(size).unwrap_or(u64::MAX)
}
