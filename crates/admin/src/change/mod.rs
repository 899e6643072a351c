//! Writes on terms that Kong does not know: only if the row is still the one the client saw (`If-Match`), only to see what would be
//! (`dry_run`), several at once (`/batch`); and what was written, to be looked at and undone (`/revisions`).
//!
//! All of them are the ordinary handlers over a store that is in a transaction.

mod batch;
mod history;
mod redact;
mod rollback;

use http::{HeaderMap, Method};
use silverback_store::Transaction;

use crate::app::App;
use crate::crud::{self, Call};
use crate::errors::{Answer, ApiError};
use crate::paging::Args;
use crate::table::Target;
use crate::{etag, respond, texts};

pub(crate) use batch::batch;
pub(crate) use history::{revision, revisions};
pub(crate) use rollback::roll_back;

/// How often a transaction is run again that others were in the way of.
const AGAIN: usize = 3;

/// Refuses terms that an endpoint cannot keep, rather than to write without them.
pub(crate) fn check_terms(
    method: &Method,
    args: &Args<'_>,
    target: Target,
    headers: &HeaderMap,
) -> Result<(), ApiError> {
    if is_read(method) {
        return Ok(());
    }
    if args.dry_run()? && !can_be_tried(target) {
        return Err(ApiError::invalid_option("dry_run", texts::NO_DRY_RUN));
    }
    let one = matches!(
        target,
        Target::Row { .. } | Target::RowBelow { .. } | Target::Hop { .. }
    );
    if !one && headers.contains_key(http::header::IF_MATCH) {
        return Err(ApiError::precondition(texts::IF_MATCH_OF_MANY));
    }
    Ok(())
}

/// Whether a write at that endpoint can be a dry run.
pub(crate) fn can_be_tried(target: Target) -> bool {
    matches!(
        target,
        Target::Collection { .. }
            | Target::Row { .. }
            | Target::Below { .. }
            | Target::RowBelow { .. }
            | Target::Hop { .. }
            | Target::Report { .. }
            | Target::Batch
            | Target::Config
            | Target::Rollback
            | Target::ValidateEntity
            | Target::ValidatePlugin
            | Target::ValidateVault
    )
}

/// Answers a request for rows.
pub(crate) async fn serve(call: Call<'_>, target: Target, headers: &HeaderMap) -> Answer {
    if is_read(call.method) {
        return crud::serve(call, target).await;
    }
    let dry_run = call.args.dry_run()?;
    let wanted = etag::wanted(headers);
    let store = call.app.store.clone();
    let several = writes_several(&call, target) && store.has_database();
    if !dry_run && wanted.is_none() && !several {
        let response = Box::pin(crud::serve(call, target)).await?;
        return Ok(respond::written(response, store.last_revision()));
    }
    let mut left = AGAIN;
    loop {
        let transaction = store.begin().await?;
        let inside = call.app.with_store(transaction.store().clone());
        let work = async {
            if let Some(wanted) = &wanted {
                let locking = call.app.with_store(transaction.locking());
                unmoved(&call.over(&locking), target, wanted).await?;
            }
            if several {
                // What is read first is what is written then.
                let locking = call.app.with_store(transaction.locking());
                return crud::serve(call.over(&locking), target).await;
            }
            crud::serve(call.over(&inside), target).await
        };
        let done = Box::pin(work).await;
        if let Some((answer, revision)) = end(transaction, done, dry_run, &mut left).await? {
            return Ok(respond::written(answer, revision));
        }
    }
}

/// Whether a request changes rows of more than one kind, one after the other: a certificate and its names; what is pointed at and what
/// points at it.
fn writes_several(call: &Call<'_>, target: Target) -> bool {
    match target {
        Target::Hop { .. } if *call.method == Method::PUT => true,
        Target::Row { entity }
        | Target::RowBelow { entity, .. }
        | Target::Hop { to: entity, .. } => {
            entity == crud::CERTIFICATES
                && *call.method == Method::PATCH
                && call.payload.fields.contains_key(crud::SNIS)
        }
        _ => false,
    }
}

/// Refuses when the row that a path names is not one of the versions wanted. With a store that locks, it stays as it is.
async fn unmoved(call: &Call<'_>, target: Target, wanted: &str) -> Result<(), ApiError> {
    match crud::current(call, target).await? {
        Some(row) if etag::matches(wanted, &row) => Ok(()),
        Some(row) => Err(ApiError::precondition(&format!(
            "the entity was changed: its ETag is {}, which If-Match does not name",
            etag::of(&row)
        ))),
        // That there is nothing to change is said as without the condition (RFC 9110, 13.2.1).
        None if call.method == Method::PATCH => Ok(()),
        None => Err(ApiError::precondition(texts::IF_MATCH_OF_NOTHING)),
    }
}

/// Ends a transaction in which `done` was done. `None`: it is to be done again.
async fn end<T>(
    transaction: Transaction,
    done: Result<T, ApiError>,
    dry_run: bool,
    left: &mut usize,
) -> Result<Option<(T, Option<i64>)>, ApiError>
where
    T: Dry,
{
    match done {
        Ok(answer) if dry_run => {
            transaction.rollback().await;
            Ok(Some((answer.dry(), None)))
        }
        Ok(answer) => Ok(Some((answer, transaction.commit().await?))),
        Err(error) => {
            let again = transaction.may_be_repeated() && *left > 0;
            transaction.rollback().await;
            if again {
                *left -= 1;
                Ok(None)
            } else {
                Err(error)
            }
        }
    }
}

/// What can say of itself that it has not happened.
trait Dry {
    fn dry(self) -> Self;
}

impl Dry for axum::response::Response {
    fn dry(self) -> Self {
        respond::dry(self)
    }
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

impl Call<'_> {
    /// The same over another store.
    fn over<'a>(&'a self, app: &'a App) -> Call<'a> {
        Call {
            app,
            method: self.method,
            path: self.path,
            args: self.args.clone(),
            payload: self.payload.clone(),
        }
    }
}
