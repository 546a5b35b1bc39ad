//! From errors of SQLite, tantivy and the file system to those of the port.

use std::path::Path;

use rusqlite::ErrorCode;
use tantivy::{TantivyError, directory::error::OpenReadError};
use yinglong_store::{Error, Kind};

/// A file system error: the disk may recover.
pub(crate) fn io(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::caused(
        Kind::Unavailable,
        format!(
            "cannot {what} (`{}`): check the disk and its free space",
            path.display()
        ),
        error,
    )
}

/// An error of SQLite while doing `what`.
pub(crate) fn sqlite(what: &str, error: rusqlite::Error) -> Error {
    let kind = match &error {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Kind::Corrupt,
            ErrorCode::ConstraintViolation => Kind::Conflict,
            ErrorCode::TooBig => Kind::Invalid,
            _ => Kind::Unavailable,
        },
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..) => Kind::Corrupt,
        _ => Kind::Unavailable,
    };
    let remedy = match kind {
        Kind::Corrupt => "restore `state.db` from a backup",
        Kind::Unavailable => "check the disk and its free space",
        _ => "look at the cause",
    };
    Error::caused(kind, format!("cannot {what}: {remedy}"), error)
}

/// Whether an error of tantivy means that the files are bad, rather than that the machine is.
pub(crate) fn is_corruption(error: &TantivyError) -> bool {
    match error {
        TantivyError::DataCorruption(_)
        | TantivyError::DeserializeError(_)
        | TantivyError::SchemaError(_)
        | TantivyError::FieldNotFound(_)
        | TantivyError::IncompatibleIndex(_)
        | TantivyError::OpenReadError(
            OpenReadError::FileDoesNotExist(_) | OpenReadError::IncompatibleIndex(_),
        ) => true,
        TantivyError::IoError(error)
        | TantivyError::OpenReadError(OpenReadError::IoError {
            io_error: error, ..
        }) => matches!(
            error.kind(),
            std::io::ErrorKind::InvalidData
                | std::io::ErrorKind::UnexpectedEof
                | std::io::ErrorKind::NotFound
                | std::io::ErrorKind::InvalidInput
        ),
        _ => false,
    }
}

/// An error of tantivy while doing `what` with a partition.
pub(crate) fn tantivy(what: &str, partition: &str, error: TantivyError) -> Error {
    if is_corruption(&error) {
        Error::caused(
            Kind::Corrupt,
            format!("cannot {what}: event partition {partition} is damaged"),
            error,
        )
    } else {
        Error::caused(
            Kind::Unavailable,
            format!(
                "cannot {what} in event partition {partition}: check the disk and its free space"
            ),
            error,
        )
    }
}
