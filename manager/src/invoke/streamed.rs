//! Calls whose result is passed on as it comes.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Invocation, Invoked};
use crate::api::ApiError;
use crate::dispatch::{Piece, Results};
use crate::host::Host;

type Call = Pin<Box<dyn Future<Output = Result<Invoked, ApiError>> + Send>>;

/// A call on its way. Dropping it gives it up: in the guest, too.
pub struct Streamed {
    call: Call,
    pieces: mpsc::Receiver<Piece>,
    over: Option<Result<Invoked, ApiError>>,
}

/// What comes next of a call.
#[derive(Debug)]
pub enum Next {
    /// A part of its result.
    Piece(Piece),
    /// Its end, which is the last that comes. What of the result has not come in pieces is in its answer.
    Over(Result<Invoked, ApiError>),
}

impl Host {
    /// Makes a call, the result of which comes in pieces: as it comes from a function that streams, else in few.
    pub fn invoke_streamed(self: &Arc<Self>, invocation: Invocation) -> Streamed {
        let (results, pieces) = Results::channel();
        let invocation = Invocation { results: Some(results), ..invocation };
        let host = self.clone();
        let call = Box::pin(async move { host.invoke(invocation).await });
        Streamed { call, pieces, over: None }
    }
}

impl Streamed {
    /// What comes next. After the end it is not to be asked again. Giving up on this loses nothing.
    pub async fn next(&mut self) -> Next {
        if self.over.is_none() {
            tokio::select! {
                biased;
                Some(piece) = self.pieces.recv() => return Next::Piece(piece),
                over = &mut self.call => self.over = Some(over),
            }
        }
        // The call is over, and whatever could send with it: what waits yet is all there is.
        match self.pieces.recv().await {
            Some(piece) => Next::Piece(piece),
            None => Next::Over(self.over.take().unwrap_or_else(|| Err(ApiError::internal()))),
        }
    }
}
