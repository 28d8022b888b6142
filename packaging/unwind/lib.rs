//! Stands in for libunwind in the release binary, where nothing can be unwound.
//!
//! That binary aborts on a panic and has no unwinding tables (packaging/link.ld), so a backtrace of it
//! is empty, with libunwind and without. But Rust's standard library is compiled to ask for one, and
//! brings along libunwind and a reader of debug information: 200 KB that find nothing. Here is the
//! question answered at once; the compiler sees that, and leaves the rest out.
//!
//! It must never be in a binary that unwinds.
#![cfg(panic = "abort")]
#![no_std]

use core::ffi::{c_int, c_void};

/// `_URC_END_OF_STACK`
const END_OF_STACK: c_int = 5;

/// The frames of the stack, of which it calls the function given with each: there is none to be found.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_visit: *const c_void, _argument: *mut c_void) -> c_int {
    END_OF_STACK
}

/// What is asked only while something unwinds.
macro_rules! never_asked {
    ($($name:ident)*) => { $(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> ! {
            panic!()
        }
    )* };
}

never_asked! {
    _Unwind_GetDataRelBase
    _Unwind_GetIP
    _Unwind_GetIPInfo
    _Unwind_GetLanguageSpecificData
    _Unwind_GetRegionStart
    _Unwind_GetTextRelBase
    _Unwind_Resume
    _Unwind_SetGR
    _Unwind_SetIP
}
