use std::ffi::CString;

use ort::AsPointer;
use ort::memory::MemoryInfo;
use ort::session::{IoBinding, Session};
use ort::sys::{OrtIoBinding, OrtStatusPtr, OrtValue};
use ort::value::PrimitiveTensorElementType;

use crate::error::{Error, Result};

/// Inputs and outputs of a session in memory of the caller's.
///
/// `ort`'s own calls copy borrowed inputs and want owned outputs, so one buffer cannot be both: this binds pointers.
pub(super) struct Binding {
    binding: IoBinding,
    memory: MemoryInfo<'static>,
}

type Bind =
    unsafe extern "system" fn(*mut OrtIoBinding, *const std::ffi::c_char, *const OrtValue) -> OrtStatusPtr;

impl Binding {
    pub fn new(session: &Session) -> Result<Self> {
        let binding = session.create_binding().map_err(failed)?;
        Ok(Self { binding, memory: MemoryInfo::default() })
    }

    /// Binds an input.
    ///
    /// # Safety
    /// `data` points to as many elements as the shape has. They stay in place, and nothing else writes to them while
    /// the session runs, until the name is bound again or this is dropped.
    pub unsafe fn input<T: PrimitiveTensorElementType>(
        &self,
        name: &str,
        data: *mut T,
        shape: &[i64],
    ) -> Result<()> {
        // SAFETY: as this function's.
        unsafe { self.bind(ort::api().BindInput, &self.memory, name, data, shape) }
    }

    /// Binds an output.
    ///
    /// # Safety
    /// As of [`Binding::input`]; an input may have the same memory where the operator that writes allows it.
    pub unsafe fn output<T: PrimitiveTensorElementType>(
        &self,
        name: &str,
        data: *mut T,
        shape: &[i64],
    ) -> Result<()> {
        // SAFETY: as this function's.
        unsafe { self.bind(ort::api().BindOutput, &self.memory, name, data, shape) }
    }

    /// Binds an input in a device's memory.
    ///
    /// # Safety
    /// As of [`Binding::input`]; `data` is an address of the device.
    pub unsafe fn input_in<T: PrimitiveTensorElementType>(
        &self,
        memory: &MemoryInfo<'_>,
        name: &str,
        data: *mut T,
        shape: &[i64],
    ) -> Result<()> {
        // SAFETY: as this function's.
        unsafe { self.bind(ort::api().BindInput, memory, name, data, shape) }
    }

    /// Binds an output in a device's memory.
    ///
    /// # Safety
    /// As of [`Binding::output`]; `data` is an address of the device.
    pub unsafe fn output_in<T: PrimitiveTensorElementType>(
        &self,
        memory: &MemoryInfo<'_>,
        name: &str,
        data: *mut T,
        shape: &[i64],
    ) -> Result<()> {
        // SAFETY: as this function's.
        unsafe { self.bind(ort::api().BindOutput, memory, name, data, shape) }
    }

    unsafe fn bind<T: PrimitiveTensorElementType>(
        &self,
        bind: Bind,
        memory: &MemoryInfo<'_>,
        name: &str,
        data: *mut T,
        shape: &[i64],
    ) -> Result<()> {
        let name = CString::new(name).map_err(|_| {
            Error::internal("INFERENCE_FAILED", format!("the name {name:?} holds a zero byte"))
        })?;
        let elements = shape.iter().product::<i64>().max(0) as usize;
        let mut value: *mut OrtValue = std::ptr::null_mut();
        // SAFETY: the pointers are valid for the calls; ONNX Runtime keeps the data pointer, for which the caller
        // vouches, and a reference of its own to the value, so the value can be released.
        unsafe {
            let status = (ort::api().CreateTensorWithDataAsOrtValue)(
                memory.ptr(),
                data.cast(),
                elements * size_of::<T>(),
                shape.as_ptr(),
                shape.len(),
                T::into_tensor_element_type().into(),
                &mut value,
            );
            ort::Error::result_from_status(status).map_err(failed)?;
            let status = bind(self.binding.ptr().cast_mut(), name.as_ptr(), value);
            (ort::api().ReleaseValue)(value);
            ort::Error::result_from_status(status).map_err(failed)
        }
    }

    pub fn run(&self, session: &mut Session) -> Result<()> {
        session.run_binding(&self.binding).map(drop).map_err(failed)
    }
}

pub(super) fn failed(error: ort::Error) -> Error {
    Error::internal("INFERENCE_FAILED", format!("the model failed: {error}"))
}
