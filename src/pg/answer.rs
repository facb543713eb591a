//! Answering a call with the rows of a query, as they are: they go from the executor into the
//! tuple store of the answer, and no row becomes a Rust value (10,000 of those took 20 ms).

use std::ffi::CString;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::error::PgError;

// src/include/executor/tstoreReceiver.h, which pgrx has no binding for. Keeps its arguments and
// raises nothing.
unsafe extern "C-unwind" {
    fn SetTuplestoreDestReceiverParams(
        receiver: *mut pg_sys::DestReceiver,
        store: *mut pg_sys::Tuplestorestate,
        context: pg_sys::MemoryContext,
        detoast: bool,
        target: pg_sys::TupleDesc,
        failure: *const std::ffi::c_char,
    );
}

/// Fills the answer of a function that returns a set with the rows of a query that only reads, run
/// as whoever is the current user. Without a query there are no rows. Columns of other types than the
/// function has raise an error.
///
/// # Safety
/// `call` must be a call of a function that returns a set of records.
pub unsafe fn fill(call: pg_sys::FunctionCallInfo, query: Option<String>) -> Result<(), PgError> {
    // SAFETY: by contract; raises if the caller cannot take a tuple store.
    let answer = unsafe {
        pg_sys::InitMaterializedSRF(call, 0);
        &*(*call).resultinfo.cast::<pg_sys::ReturnSetInfo>()
    };
    let Some(query) = query else { return Ok(()) };
    let query = CString::new(query).map_err(|_| invalid("a query has a zero byte"))?;
    // SAFETY: the store was made above in a context that lives as long as the whole query of the
    // caller, as does the descriptor. The receiver lives until the connection to SPI is closed.
    let done = Spi::connect(|_| unsafe {
        let receiver = pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestTuplestore);
        SetTuplestoreDestReceiverParams(
            receiver,
            answer.setResult,
            (*answer.econtext).ecxt_per_query_memory,
            false,
            answer.setDesc,
            c"columns of the application's tables have other types than when meetlink was attached"
                .as_ptr(),
        );
        let options = pg_sys::SPIExecuteOptions {
            read_only: true,
            must_return_tuples: true,
            dest: receiver,
            ..Default::default()
        };
        pg_sys::SPI_execute_extended(query.as_ptr(), &raw const options)
    });
    if done < 0 {
        return Err(invalid(&format!("SPI_execute_extended gave {done}")));
    }
    Ok(())
}

fn invalid(message: &str) -> PgError {
    PgError::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message)
}
